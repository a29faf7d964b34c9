"""The isolation proof's own tenants: what they use is in the ledger as all is, and no client's.

Their requests go to a recording upstream of the proof's own, so nobody is paid for them and nobody is billed. Figures
of clients leave them out, and tell them on a line of their own: both together are what the ledger holds.
"""

from __future__ import annotations

from typing import Final

# The id of a tenant says that it is one, for its rows outlive it. No other id has a hyphen (`storage.columns.new_id`).
PROOF_IDS: Final = "tnt_probe-"
# What it is called where tenants are called by their slugs, of which none has a bracket or a blank.
PROOF_NAME: Final = "(isolation proof)"


def is_of_proof(tenant_id: str) -> bool:
    """Whether a tenant is one of the proof's own, there still or not."""
    return tenant_id.startswith(PROOF_IDS)
