"""What the site is made of: upstreams, tiers, settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from sqlalchemy import make_url
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry import __version__
from tenantry.control.doctor import examine
from tenantry.control.figures.live import live_figures
from tenantry.control.form import describe_form
from tenantry.control.live_everywhere import health_everywhere
from tenantry.control.views import tier_views, upstream_view
from tenantry.domain.limits import CAPACITY_LIMITS, LIMITS, BadLimit, read_limit
from tenantry.domain.roles import Permission, Principal
from tenantry.ledger.live import dead_credentials
from tenantry.storage.directory import DirectoryError
from tenantry.web.pages.showing import require_whole_site, seen_scope, show
from tenantry.web.pages.terms import as_typed
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

# Those that a page may tell. A new setting is told when somebody has thought about it.
_TOLD: Final = (
    *("data_dir", "gateway_host", "gateway_port", "public_url", "public_domain", "control_host", "control_port"),
    *("control_hosts", "upstream_base_url", "anthropic_version", "tls_cert_file", "require_tenant_id"),
    *("connections_max", "connections_per_peer_max", "connections_per_tenant_max", "idle_upstream_connections_max"),
    *("time_zone", "contact", "log_level", "drain_seconds", "usage_alert_threshold_percent"),
    *("billing_export_interval", "metrics_open", "metrics_tenants_max", "log_format"),
    *("control_url", "portal_url", "portal_name", "portal_colour", "status_page"),
)


def list_upstreams(request: Request, principal: Principal) -> Response:
    site = site_of(request)
    credentials = site.directory.list_credentials()
    records = site.directory.list_upstreams()
    live = live_figures(site, seen_scope(request, principal))
    dead = dead_credentials(health_everywhere(site.engine, site.settings.journal_dir))
    ids = {
        one.name: [one.upstream_id, *(c.credential_id for c in credentials if c.upstream == one.name)]
        for one in records
    }
    announced: dict[str, dict[str, Mapping[str, int]]] = {}
    for name, some in ids.items():
        for id_ in some:
            announced.setdefault(name, {}).update(live.announced.get(id_, {}))
    return show(
        request,
        principal,
        "upstreams",
        upstreams=[upstream_view(one, credentials) for one in records],
        down=set(live.upstreams_down),
        announced=announced,
        dead=dead,
        capacity_limits=[(name, LIMITS[name]) for name in CAPACITY_LIMITS],
        sees_credentials=principal.may(Permission.CREDENTIALS_READ),
    )


def list_tiers(request: Request, principal: Principal) -> Response:
    directory = site_of(request).directory
    return show(
        request,
        principal,
        "tiers",
        tiers=tier_views(directory.list_tiers(), directory.list_tenants()),
        may_change=principal.may(Permission.LIMITS_CHANGE),
    )


def show_tier(request: Request, principal: Principal) -> Response:
    return _tier(request, principal, None, {})


def _tier(
    request: Request, principal: Principal, typed: Mapping[str, str] | None, problems: Mapping[str, str]
) -> Response:
    name, directory = str(request.path_params["name"]), site_of(request).directory
    found = next((one for one in directory.list_tiers() if one.name == name), None)
    if found is None:
        raise HTTPException(404, f"there is no tier {name!r}")
    return show(
        request,
        principal,
        "tier",
        422 if problems else 200,
        name=name,
        table=LIMITS,
        tenants=[one.slug for one in directory.list_tenants() if one.tier == name],
        typed=typed or {key: as_typed(value) for key, value in found.limits.as_json().items()},
        problems=problems,
        may_change=principal.may(Permission.LIMITS_CHANGE),
    )


def set_tier(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    name, form, directory = str(request.path_params["name"]), posted(request), acting(request, principal)
    stands = next((one.limits.as_json() for one in directory.list_tiers() if one.name == name), None)
    if stands is None:
        raise HTTPException(404, f"there is no tier {name!r}")
    typed = {key: form.get(key) for key in LIMITS}
    limits, problems = dict[str, Any](), dict[str, str]()
    for key in LIMITS:
        try:
            if typed[key] != as_typed(stands[key]):
                limits[key] = read_limit(key, typed[key])
        except BadLimit as error:
            problems[key] = str(error)
    if not problems and limits:
        try:
            directory.set_tier(name, limits)
        except DirectoryError as error:
            problems["form"] = str(error)
    if problems:
        return _tier(request, principal, typed, problems)
    return see_other(f"/tiers#{name}", f"{name} is changed; gateways follow within a second.")


def add_tier(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    name = posted(request).get("name")
    directory = acting(request, principal)
    if any(one.name == name for one in directory.list_tiers()):
        return see_other(f"/tiers/{name}", f"There is a tier {name} already.")
    try:
        directory.set_tier(name, {})
    except DirectoryError as error:
        return see_other("/tiers", str(error))
    return see_other(f"/tiers/{name}", f"{name} has the defaults; change what is to differ.")


def show_settings(request: Request, principal: Principal) -> Response:
    """What holds, and whether the site is well: as `doctor` says."""
    settings = site_of(request).settings
    shown = {name: _as_text(getattr(settings, name)) for name in _TOLD}
    shown["store_url"] = make_url(settings.store_url).render_as_string(hide_password=True)
    return show(
        request,
        principal,
        "settings",
        settings=shown,
        findings=list(examine(settings)),
        version=__version__,
        form=describe_form(),
    )


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, cast("tuple[object, ...]", value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
