"""One tenant in full: what it may use and where each limit is from, what it uses now, and why it was refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tenantry.control.live_everywhere import health_everywhere, live_everywhere
from tenantry.control.site import Site
from tenantry.control.views import TenantView, View, key_view, tenant_view
from tenantry.domain.alerts import mend_spent
from tenantry.domain.limits import LIMITS
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.ledger.live import LiveUse, dead_credentials, sum_live
from tenantry.ledger.tallies import list_refusals


@value
class LimitView(View):
    """`origin`: own, or tier. A `value` of null: no limit; an empty list: everything."""

    value: int | str | list[str] | None
    origin: str


@value
class TenantDetail(TenantView):
    """A tenant's settings. `budget_mode` and `plan` are what they were set to last."""

    plan: str | None
    declared: bool
    limits: dict[str, LimitView]


@value
class UseView(View):
    """What remains is null where nothing limits it."""

    sessions: int
    waiting: int
    requests_remaining: int | None
    input_tokens_remaining: int | None
    output_tokens_remaining: int | None


@value
class RefusalView(View):
    reason: str
    count: int
    last_at: str


@value
class TenantNow(View):
    """`uses` is null while no gateway runs. `announced`: by model, where no capacity is declared."""

    tenant: str
    credential_state: str
    uses: UseView | None
    announced: dict[str, dict[str, int]]
    refusals: list[RefusalView]


def tenant_detail(site: Site, slug: str) -> TenantDetail:
    """Raises: NotInDirectory."""
    tenant = site.directory.get_tenant(slug)
    limits = tenant.limits.as_json()
    found = {name: LimitView(limits[name], "own" if name in tenant.own else "tier") for name in LIMITS}
    plain = tenant_view(site.settings, tenant)
    return TenantDetail(**plain.as_json(), plan=tenant.plan, declared=tenant.declared, limits=found)


def tenant_now(site: Site, slug: str) -> TenantNow:
    """Raises: NotInDirectory."""
    tenant = site.directory.get_tenant(slug)
    now = sum_live(live_everywhere(site.engine, site.settings.journal_dir))
    use = now.tenants.get(tenant.tenant_id) or LiveUse.idle(tenant.limits)
    return TenantNow(
        slug,
        _credential_state(site, tenant.credential),
        use_view(use) if now.gateways else None,
        _announced(site, tenant.credential_id, now.announced),
        [
            RefusalView(one.reason, one.count, stamp(one.last_at))
            for one in list_refusals(site.engine, tenant.tenant_id)
        ],
    )


def use_view(use: LiveUse) -> UseView:
    """Its lane; money is what its budgets tell."""
    return UseView(**{name: getattr(use, name) for name in UseView.__dataclass_fields__})


def everything(site: Site, slug: str) -> dict[str, Any]:
    """What `tenants show` shows."""
    keys = [key_view(row).as_json() for row in site.directory.list_keys(slug)]
    return put_together(tenant_detail(site, slug).as_json(), tenant_now(site, slug).as_json(), keys)


def put_together(detail: dict[str, Any], now: dict[str, Any], keys: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A `TenantDetail`, its `TenantNow` and its keys, as `tenants show` has them."""
    return {name: detail[name] for name in TenantView.__dataclass_fields__} | {
        "limits": {name: {"value": one["value"], "from": one["origin"]} for name, one in detail["limits"].items()},
        **{name: now[name] for name in ("credential_state", "uses", "announced", "refusals")},
        "keys": [{name: key[name] for name in ("key_id", "label", "key", "status")} for key in keys],
    }


def _credential_state(site: Site, credential: str | None) -> str:
    """Why its credential is not used now, and the cure; "" where it is."""
    told = health_everywhere(site.engine, site.settings.journal_dir)
    dead = dead_credentials(told).get(credential or "")
    if dead is None:
        return ""
    return f"{dead.words}. {mend_spent(credential or '')}." if dead.is_spent else dead.words


def _announced(
    site: Site, credential_id: str | None, announced: Mapping[str, dict[str, dict[str, int]]]
) -> dict[str, dict[str, int]]:
    """The limits that the tenant's upstream announces, by model: they hold where no capacity is declared."""
    if credential_id is None or not announced:
        return {}
    if announced.get(credential_id):
        return announced[credential_id]
    ids = {one.name: one.upstream_id for one in site.directory.list_upstreams()}
    found = [ids[one.upstream] for one in site.directory.list_credentials() if one.credential_id == credential_id]
    return announced.get(found[0], {}) if found else {}
