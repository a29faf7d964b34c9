"""What a person sees of requests that the gateway refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from tenantry.control.views import View
from tenantry.domain.attempts import RefusedRequest
from tenantry.domain.values import value


@value
class RefusedView(View):
    """One request that the gateway refused. `tenant` null: it had nobody's key; the id of one that left.

    `error` is the API's word for its kind, `reason` the limit or state it ran into; null: none that is counted.
    """

    request_id: str
    tenant: str | None
    key_id: str | None
    at: str
    status: int
    error: str
    reason: str | None
    model: str | None


NOBODYS_KEY: Final = "nobody's key"
_FOREIGN: Final = 403


def whose_words(status: int) -> str:
    """Whom a refused request of no client was of: a key that is good elsewhere is no unknown one."""
    return "a key of another client than the request names" if status == _FOREIGN else NOBODYS_KEY


def refused_view(one: RefusedRequest, slugs: Mapping[str, str]) -> RefusedView:
    """`slugs` by internal id."""
    at = datetime.fromtimestamp(one.at_us / 1_000_000, UTC)
    return RefusedView(
        one.request_id,
        slugs.get(one.tenant_id, one.tenant_id) or None,
        one.key_id or None,
        f"{at:%Y-%m-%dT%H:%M:%S.%f}Z",
        one.status,
        one.error,
        one.reason or None,
        one.model or None,
    )
