"""What a check of the site found."""

from __future__ import annotations

from tenantry.domain.values import value


@value
class Finding:
    """`mend` is empty when `ok`: what to do otherwise, with the command that does it."""

    check: str
    ok: bool
    found: str
    mend: str = ""
