"""What a person sees of usage and of rows of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tenantry.control.site import Site, slugs_of_tenants
from tenantry.control.views import View
from tenantry.domain.money import format_usd
from tenantry.domain.proof import is_of_proof
from tenantry.domain.values import value
from tenantry.ledger.selection import LedgerRow
from tenantry.ledger.usage import TenantUse, month_uses


@value
class ModelUsageView(View):
    """`requests` counts attempts; `unpriced_requests` of them have no cost yet."""

    model: str
    requests: int
    input_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    cache_read_tokens: int
    output_tokens: int
    web_search_requests: int
    cost_nanos: int
    unpriced_requests: int
    saved_nanos: int
    cost_usd: str


@value
class SlotUsageView(View):
    """`slot` is "" for keys of the whole tenant; `tokens` are those of all classes."""

    slot: str
    requests: int
    tokens: int
    cost_nanos: int
    cost_usd: str


@value
class UsageView(View):
    """A month in the agency's time zone. `orphaned_nanos`: of attempts whose gateway died, an estimate in the whole."""

    tenant: str
    month: str
    time_zone: str
    requests: int
    cost_nanos: int
    cost_usd: str
    orphaned_nanos: int
    orphaned_usd: str
    saved_by_caching_nanos: int
    outcomes: dict[str, int]
    models: list[ModelUsageView]
    slots: list[SlotUsageView]


@value
class SumsView(View):
    """`requests` counts attempts; `unpriced_requests` of them have no cost yet. `tokens` are those of all classes."""

    requests: int
    tokens: int
    cost_nanos: int
    cost_usd: str
    unpriced_requests: int


@value
class ClientUseView(View):
    """`tenant` null: all that left, together."""

    tenant: str | None
    used: SumsView


@value
class SiteUsageView(View):
    """A month of the whole site, in its time zone. `ledger` is all that it holds: `clients` and `proof` together.

    `proof`: what the isolation proof's own tenants sent, to an upstream of its own; nobody pays for it.
    """

    month: str
    time_zone: str
    tenants: list[ClientUseView]
    clients: SumsView
    proof: SumsView
    ledger: SumsView


def site_usage(site: Site, month: str) -> SiteUsageView:
    """What every client used in a month, the dearest first. Raises: BadMonth."""
    uses = month_uses(site.engine, month, site.settings.zone)
    slugs = slugs_of_tenants(site)
    clients = [one for one in uses if not is_of_proof(one.tenant_id)]
    by_slug: dict[str | None, list[TenantUse]] = {}
    for one in sorted(clients, key=lambda one: (one.tenant_id not in slugs, -one.cost_nanos, one.tenant_id)):
        by_slug.setdefault(slugs.get(one.tenant_id), []).append(one)
    return SiteUsageView(
        month,
        site.settings.time_zone,
        [ClientUseView(slug, _sums_of(some)) for slug, some in by_slug.items()],
        _sums_of(clients),
        _sums_of([one for one in uses if is_of_proof(one.tenant_id)]),
        _sums_of(uses),
    )


def _sums_of(some: Sequence[TenantUse]) -> SumsView:
    nanos, unpriced = sum(one.cost_nanos for one in some), sum(one.unpriced_requests for one in some)
    requests, tokens = sum(one.requests for one in some), sum(one.tokens for one in some)
    return SumsView(requests, tokens, nanos, format_usd(nanos), unpriced)


@value
class RequestView(View):
    """One row of the ledger: an attempt, or (`adjusts`) a correction of one. `tenant` is its id once it has left."""

    tenant: str
    request_id: str
    attempt_id: str
    adjusts: str | None
    begun_at: str
    ended_at: str
    ms: int
    key_id: str
    model_requested: str
    model_served: str | None
    streaming: bool
    outcome: str
    status: int | None
    stop_reason: str | None
    error: str | None
    usage: dict[str, int]
    cost_nanos: int | None
    cost_usd: str | None
    price_version: str | None


@value
class ChapterView(View):
    """One attempt or correction of a request, as `ledger show` has it. What has left since is named by its id."""

    request_id: str
    attempt_id: str
    upstream_request_id: str | None
    adjusts: str | None
    key_id: str
    key_label: str | None
    model_requested: str
    model_served: str | None
    streaming: bool
    outcome: str
    error: str | None
    status: int | None
    stop_reason: str | None
    basis: str
    flaws: str | None
    tenant: str
    credential: str | None
    upstream: str | None
    begun_at: str
    first_byte_at: str | None
    ended_at: str
    ms: int
    queue_wait_ms: int | None
    usage: dict[str, int]
    usage_raw: str
    cost_nanos: int | None
    cost_usd: str | None
    price_version: str | None
    journal_run: str
    journal_seq: int
    row_hash: str


@value
class StoryView(View):
    """Every attempt and correction of one request, in order, and what they cost together."""

    request_id: str
    cost_nanos: int
    cost_usd: str
    chapters: list[ChapterView]


def request_view(row: LedgerRow) -> RequestView:
    plain = {name: one for name, one in row.values.items() if not name.endswith("_tokens") and name in _PLAIN}
    cost = row.values["cost_nanos"]
    return RequestView(
        tenant=row.tenant,
        begun_at=_at(row.begun_at_us),
        ended_at=_at(row.ended_at_us),
        ms=(row.ended_at_us - row.begun_at_us) // 1000,
        usage={name: one for name, one in row.values.items() if name not in _PLAIN},
        cost_usd=format_usd(cost) if cost is not None else None,
        **plain,
    )


def story_view(chapters: list[dict[str, Any]]) -> StoryView:
    """Of one request's chapters, of which there is one at least."""
    cost = sum(one["cost_nanos"] for one in chapters if one["cost_nanos"] is not None)
    views = [ChapterView(**one) for one in chapters]
    return StoryView(views[0].request_id, cost, format_usd(cost), views)


_PLAIN = frozenset(
    {
        *("request_id", "attempt_id", "adjusts", "key_id", "model_requested", "model_served", "streaming"),
        *("outcome", "status", "stop_reason", "error", "cost_nanos", "price_version"),
    }
)


def _at(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{at_us % 1_000_000:06d}Z"
