"""Why a use-case was not carried out, where every command has to know it."""

from __future__ import annotations


class ProvisionFailed(Exception):
    """Nothing was kept; the message says which step failed and why."""
