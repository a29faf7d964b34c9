"""Alerts: what was raised, at which percents, and where it goes."""

from __future__ import annotations

import time
from typing import Annotated, Final, Literal

from msgspec import Meta

from tenantry.control.alerting import send, trial_message
from tenantry.control.apprise_urls import is_apprise_url
from tenantry.control.views import AlertTargetView, AlertView, View, alert_target_view, alert_view
from tenantry.domain.alerts import check_thresholds, with_classic
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.ledger.outbox import Outbox
from tenantry.storage.directory import AlreadyThere
from tenantry.storage.directory.alert_targets import APPRISE, WEBHOOK
from tenantry.web.answers import Refused
from tenantry.web.api.changes import Name
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, next_page, page_of, read_cursor
from tenantry.web.api.requests import tenant_ids


class AlertsQuery(Paged):
    tenant: Name | None = None


@operation("GET", "/alerts", Permission.ALERTS_READ)
def list_alerts(call: Call, query: AlertsQuery) -> Page[AlertView]:
    """List alerts that were raised, the newest first, and how far their deliveries are."""
    after = read_cursor(call, query)
    before_id = int(after[0]) if after is not None else None
    rows = Outbox(call.site.engine).page_alerts(tenant_ids(call, query.tenant), before_id, query.limit + 1)
    return next_page(call, query, [alert_view(row) for row in rows], lambda one: one.alert_id)


@value
class ThresholdsView(View):
    """`percents` of a budget; `is_default`: they are those of the site."""

    tenant: str
    percents: list[int]
    is_default: bool


@operation("GET", "/tenants/{slug}/thresholds", Permission.ALERTS_READ)
def show_thresholds(call: Call, slug: str) -> ThresholdsView:
    """Show the percents of its budget at which a tenant raises an alert."""
    own = call.site.directory.get_thresholds(slug)
    found = own if own is not None else with_classic(call.site.settings.usage_alert_threshold_percent)
    return ThresholdsView(slug, list(found), own is None)


class Thresholds(Struct):
    """null: those of the site; an empty list: none."""

    percents: Annotated[list[int], Meta(max_length=100)] | None


@operation("PUT", "/tenants/{slug}/thresholds", Permission.ALERTS_CHANGE, represents=show_thresholds)
def set_thresholds(call: Call, slug: str, body: Thresholds) -> ThresholdsView:
    """Set the percents of its budget at which a tenant raises an alert, each once in a period."""
    wanted = list(check_thresholds(body.percents)) if body.percents is not None else None
    call.site.directory.set_thresholds(slug, wanted)
    return show_thresholds.act(call, slug)


@operation("GET", "/alert-targets", Permission.ALERTS_CHANGE)
def list_alert_targets(call: Call, query: AlertsQuery) -> Page[AlertTargetView]:
    """List where alerts go, with a hint of each URL."""
    found = [alert_target_view(row) for row in call.site.directory.list_alert_targets(query.tenant)]
    return page_of(call, query, sorted(found, key=lambda one: one.name), lambda one: one.name)


class NewTarget(Struct):
    """`url` is a secret. `tenant`: this tenant's alerts and no other. `kinds`: only these; none for all."""

    name: Name
    kind: Literal["apprise", "webhook"]
    url: Annotated[str, Meta(min_length=1, max_length=4096)]
    tenant: Name | None = None
    kinds: Annotated[list[str], Meta(max_length=100)] = []


@value
class NewTargetView(View):
    """`signing_secret` is shown only now; null where nothing is signed."""

    name: str
    kind: str
    signing_secret: str | None


@operation("POST", "/alert-targets", Permission.ALERTS_CHANGE, status=201)
def add_alert_target(call: Call, body: NewTarget) -> NewTargetView:
    """Add a target: any service that Apprise knows, or a webhook that gets signed JSON."""
    if body.kind == APPRISE and not is_apprise_url(body.url):
        raise Refused(422, "url: Apprise does not know such a URL, or it is not whole")
    if any(row.name == body.name for row in call.site.directory.list_alert_targets()):
        raise AlreadyThere(f"there is a target {body.name!r} already; remove it first, or choose another name")
    secret = call.site.directory.set_alert_target(body.name, body.kind, body.url, body.tenant, body.kinds)
    return NewTargetView(body.name, body.kind, secret if body.kind == WEBHOOK else None)


@operation("DELETE", "/alert-targets/{name:path}", Permission.ALERTS_CHANGE, status=204)
def remove_alert_target(call: Call, name: str) -> None:
    """Stop sending alerts there; what still waits for it is dropped."""
    call.site.directory.remove_alert_target(name)


@value
class TestedView(View):
    """`error` null: it was taken."""

    name: str
    error: str | None


@operation("POST", "/alert-targets/{name:path}/test", Permission.ALERTS_CHANGE, is_atomic=False)
def test_alert_target(call: Call, name: str) -> TestedView:
    """Send a test message to a target now."""
    target, now_us = call.site.directory.open_alert_target(name), time.time_ns() // 1000
    return TestedView(name, send(target, trial_message(now_us), now_us))


OPERATIONS: Final = (
    list_alerts,
    show_thresholds,
    set_thresholds,
    list_alert_targets,
    add_alert_target,
    remove_alert_target,
    test_alert_target,
)
