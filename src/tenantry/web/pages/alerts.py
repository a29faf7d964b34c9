"""Alerts that were raised, and where they go."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.alerting import send, trial_message
from tenantry.control.apprise_urls import is_apprise_url
from tenantry.control.views import alert_target_view, alert_view
from tenantry.domain.alerts import AlertKind
from tenantry.domain.roles import Permission, Principal
from tenantry.ledger.outbox import Outbox
from tenantry.storage.directory import DirectoryError, NotInDirectory
from tenantry.storage.directory.alert_targets import APPRISE, WEBHOOK
from tenantry.storage.vault import SecretUnreadable
from tenantry.web.pages.showing import query, require_whole_site, seen_scope, show
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting, require_recent
from tenantry.web.tokens import site_of

SHOWN: Final = 100
# Of one that may see some clients' alerts only, so many are looked through.
LOOKED_AT_MAX: Final = 2000


def list_alerts(request: Request, principal: Principal) -> Response:
    site, scope, typed = site_of(request), seen_scope(request, principal), query(request, "tenant", "kind")
    tenant = scope.tenants.get(typed["tenant"])
    most = SHOWN if scope.is_whole and not typed["kind"] else LOOKED_AT_MAX
    listed = Outbox(site.engine).list_alerts(tenant.tenant_id if tenant is not None else None, most)
    found = [
        one for one in listed if (scope.is_whole or one.slug in scope.tenants) and typed["kind"] in ("", one.kind)
    ][:SHOWN]
    # As in the admin API: a target's name and address are for who may change it.
    may_change = principal.may(Permission.ALERTS_CHANGE)
    targets = site.directory.list_alert_targets() if may_change else []
    return show(
        request,
        principal,
        "alerts",
        alerts=[(alert_view(one), one.raised_at_us) for one in found],
        targets=[alert_target_view(one) for one in targets],
        sees_targets=may_change,
        typed=typed,
        kinds=[kind.value for kind in AlertKind],
        tenants=sorted(scope.tenants),
        may_change=may_change,
    )


def ask_target(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    require_recent(request)
    return _form(request, principal, {"name": "", "kind": APPRISE, "tenant": ""}, {})


def _form(request: Request, principal: Principal, typed: Mapping[str, str], problems: Mapping[str, str]) -> Response:
    return show(
        request,
        principal,
        "alert_target",
        422 if problems else 200,
        typed=typed,
        problems=problems,
        kinds=(APPRISE, WEBHOOK),
        tenants=sorted(seen_scope(request, principal).tenants),
    )


def add_target(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    form, directory = posted(request), acting(request, principal)
    typed = {name: form.get(name) for name in ("name", "kind", "tenant")}
    url, problems = form.get("url"), dict[str, str]()
    if not typed["name"]:
        problems["name"] = "A name by which you know it."
    elif any(one.name == typed["name"] for one in directory.list_alert_targets()):
        problems["name"] = "There is one of that name; remove it first, or choose another."
    if typed["kind"] == APPRISE and not is_apprise_url(url):
        problems["url"] = "Apprise does not know such a URL, or it is not whole."
    secret: str | None = None
    if not problems:
        try:
            secret = directory.set_alert_target(typed["name"], typed["kind"], url, typed["tenant"] or None)
        except DirectoryError as error:
            problems["url"] = str(error)
    if problems:
        return _form(request, principal, typed, problems)
    if secret is not None:
        return show(request, principal, "alert_secret", name=typed["name"], secret=secret)
    return see_other("/alerts", f"Alerts go to {typed['name']}. Send it a test message.")


def try_target(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    name, now_us = str(request.path_params["name"]), time.time_ns() // 1000
    try:
        target = acting(request, principal).open_alert_target(name)
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None
    except SecretUnreadable as error:
        raise HTTPException(409, str(error)) from None
    error = send(target, trial_message(now_us), now_us)
    return see_other("/alerts", f"{name} did not take it: {error}" if error else f"{name} took the test message.")


def ask_remove(request: Request, principal: Principal) -> Response:
    name = str(request.path_params["name"])
    if all(one.name != name for one in site_of(request).directory.list_alert_targets()):
        raise HTTPException(404, f"there is no target {name!r}")
    return show(
        request,
        principal,
        "confirm",
        title=f"Remove {name}?",
        words="No alert goes there any more; what still waits for it is dropped.",
        # A browser takes `..\\` in an address for a way to another form of ours.
        action=f"/alerts/targets/{quote(name, safe='')}/remove",
        label="Remove",
        back="/alerts",
    )


def remove_target(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    name = str(request.path_params["name"])
    try:
        acting(request, principal).remove_alert_target(name)
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None
    return see_other("/alerts", f"{name} is removed.")
