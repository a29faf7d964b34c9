"""Rows of the isolation proof's own tenants, as a condition."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func

from tenantry.domain.proof import PROOF_IDS


def of_proof_or_not(tenant_id: ColumnElement[Any], is_proof: bool) -> ColumnElement[bool]:
    """Of a column of tenants' ids. Not LIKE: SQLite takes capitals for small letters there."""
    beginning = func.substr(tenant_id, 1, len(PROOF_IDS))
    return beginning == PROOF_IDS if is_proof else beginning != PROOF_IDS
