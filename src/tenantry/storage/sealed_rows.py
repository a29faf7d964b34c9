"""A sealed secret as the columns of its row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from tenantry.storage.vault import Sealed


def sealed_of(row: Row[*tuple[Any, ...]]) -> Sealed:
    return Sealed(row.master_key_id, row.wrapped_key, row.ciphertext)


def columns_of(sealed: Sealed) -> dict[str, Any]:
    return {
        "master_key_id": sealed.master_key_id,
        "wrapped_key": sealed.wrapped_key,
        "ciphertext": sealed.ciphertext,
    }
