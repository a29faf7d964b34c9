"""One request's story: every attempt upstream and every correction, in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, or_, select

from tenantry.domain.money import format_usd
from tenantry.ledger.rollup import TOKEN_CLASSES
from tenantry.storage.database import reading
from tenantry.storage.tables import credentials, gateway_keys, ledger, tenants, upstreams

# An upstream that gives every answer the same id must not print a whole ledger.
ROWS_MAX = 1000


def find_story(engine: Engine, wanted: str) -> Sequence[dict[str, Any]]:
    """The rows of the request that has this request id, attempt id or upstream request id; empty when none has."""
    named = or_(ledger.c.request_id == wanted, ledger.c.attempt_id == wanted, ledger.c.upstream_request_id == wanted)
    requests = select(ledger.c.request_id).where(named).limit(ROWS_MAX)
    query = (
        select(
            ledger,
            tenants.c.slug,
            gateway_keys.c.label.label("key_label"),
            credentials.c.name.label("credential"),
            upstreams.c.name.label("upstream"),
        )
        .outerjoin(tenants, tenants.c.tenant_id == ledger.c.tenant_id)
        .outerjoin(gateway_keys, gateway_keys.c.key_id == ledger.c.key_id)
        .outerjoin(credentials, credentials.c.credential_id == ledger.c.credential_id)
        .outerjoin(upstreams, upstreams.c.upstream_id == ledger.c.upstream_id)
        .where(ledger.c.request_id.in_(requests))
        .order_by(ledger.c.begun_at_us, ledger.c.entry_id)
        .limit(ROWS_MAX)
    )
    with reading(engine) as connection:
        return [_chapter(row) for row in connection.execute(query).mappings()]


def _chapter(row: Any) -> dict[str, Any]:
    """A row as JSON values. What was removed from the directory since is named by its id."""
    plain = (
        *("request_id", "attempt_id", "upstream_request_id", "adjusts", "key_id", "key_label"),
        *("model_requested", "model_served", "streaming", "outcome", "error", "status", "stop_reason"),
        *("basis", "flaws"),
    )
    return {
        **{name: row[name] for name in plain},
        "tenant": row["slug"] or row["tenant_id"],
        "credential": row["credential"] or row["credential_id"],
        "upstream": row["upstream"] or row["upstream_id"],
        "begun_at": _at(row["begun_at_us"]),
        "first_byte_at": _at(row["first_byte_at_us"]),
        "ended_at": _at(row["ended_at_us"]),
        "ms": (row["ended_at_us"] - row["begun_at_us"]) // 1000,
        "queue_wait_ms": row["queue_wait_us"] // 1000 if row["queue_wait_us"] is not None else None,
        "usage": {name: row[name] for name in TOKEN_CLASSES},
        "usage_raw": row["usage_raw"],
        "cost_nanos": row["cost_nanos"],
        "cost_usd": format_usd(row["cost_nanos"]) if row["cost_nanos"] is not None else None,
        "price_version": row["price_version"],
        "journal_run": row["journal_run"],
        "journal_seq": row["journal_seq"],
        "row_hash": row["row_hash"],
    }


def _at(at_us: int | None) -> str | None:
    if at_us is None:
        return None
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{at_us % 1_000_000:06d}Z"
