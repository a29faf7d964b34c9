"""What the admin API shows: each thing, to whom it may be shown."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.web.api_site import Served, served


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


READS = {
    "/whoami": "owner",
    "/tenants": "acme",
    "/tenants/acme": '"origin": "tier"',
    "/tenants/acme/live": '"refusals": []',
    "/tenants/acme/usage": '"cost_usd": "$0.00"',
    "/tenants/acme/usage?month=2026-10": '"month": "2026-10"',
    "/tenants/acme/budgets": '"mode": "hard"',
    "/tenants/acme/keys": '"label": "first"',
    "/tenants/acme/guide": "Acme",
    "/tenants/acme/guide?format=html": "<html",
    "/tenants/acme/fair-use": "Acme",
    "/tenants/acme/thresholds": '"percents": [70, 90, 100]',
    "/tenants/acme/plan-simulation?plan=pro": '"months": [',
    "/keys?status=active": "key_",
    "/tiers": "standard",
    "/tiers/standard": '"tenants": 2',
    "/upstreams": "upstream.invalid",
    "/upstreams/anthropic": '"credentials": ["main"]',
    "/credentials": '"tenants": ["acme", "globex"]',
    "/credentials/main": "...mmmm",
    "/plans": '"slug": "acme"',
    "/plans/pro": '"fee_nanos": 79000000000',
    "/plan-examples": "team",
    "/prices": '"origin": "ships"',
    "/prices/claude-haiku-4-5": '"periods": [',
    "/price-changes": '"data": []',
    "/margin": '"under_water": false',
    "/requests": '"data": []',
    "/refusals": '"data": []',
    "/usage": '"ledger": {"requests": 0',
    "/requests?tenant=acme&outcome=settled&since=2026-11-01T00:00:00Z": '"data": []',
    "/alerts": '"data": []',
    "/alert-targets": '"data": []',
    "/audit": '"action": "plan.set"',
    "/audit?tenant=acme&action=key.issue": '"label": "first"',
    "/audit-verification": '"problems": []',
    "/site": '"time_zone": "UTC"',
    "/health": '"gateways": []',
    "/live": '"data": []',
    "/gateways": '"data": []',
    "/cells": '"data": []',
    "/controls": '"data": []',
    "/tasks": '"data": []',
    "/backups": '"data": []',
    "/exports": '"data": []',
    "/invoices": '"data": []',
    "/invoice-verification": '"problems": []',
    "/tenants/acme/invoice-preview?month=MONTH": '"lines": [',
    "/tenants/acme/invoice-preview?month=MONTH&format=html": "<html",
    "/billing-details": '"currency": "USD"',
    "/tenants/acme/billing-details": '"due_days": 14',
    "/ledger/quarantine": '"data": []',
    "/declaration": "[tenants.acme]",
    "/declaration-schema": '"$schema"',
    "/doctor": '"check": "form"',
    "/admin-tokens": '"name": "owner"',
    "/admin-tokens/owner": '"tenants": null',
}


def test_everything_is_shown_to_an_owner_with_an_etag_that_answers_304(api: Served) -> None:
    for path, shown in READS.items():
        path = path.replace("MONTH", f"{api.site.directory.today():%Y-%m}")
        answer = api.ask("GET", path)
        assert (answer.status, shown in answer.body.decode()) == (200, True), (path, answer.body[:3000])
        if path not in ("/admin-tokens", "/audit", "/admin-tokens/owner", "/doctor"):  # which change by being looked at
            again = api.ask("GET", path, fields={"if-none-match": f'"x", W/{answer.fields["etag"]}'})
            assert (again.status, again.body, again.fields["etag"]) == (304, b"", answer.fields["etag"]), path
        assert answer.fields["cache-control"] == "private, no-cache"


def test_what_is_not_there_is_404_and_what_cannot_be_asked_400_by_its_name(api: Served) -> None:
    for path in (
        *("/tenants/nobody", "/tenants/acme/keys/key_x", "/tiers/x", "/upstreams/x", "/credentials/x", "/plans/x"),
        *("/prices/claude-x", "/requests/req_x", "/requests?tenant=nobody", "/admin-tokens/x", "/no/such/thing"),
    ):
        assert api.ask("GET", path).status == 404, path
    for path, member in {
        "/tenants?limit=0": "limit",
        "/tenants?limit=many": "limit",
        "/tenants?stauts=active": "stauts",
        "/tenants?status=odd": "status",
        "/tenants?status=active&status=active": "status",
        "/tenants/acme?x=1": "x",
        "/requests?since=2026-11-01": "since",
        "/tenants/acme/usage?month=november": "month",
    }.items():
        answer = api.ask("GET", path)
        told = answer.document
        assert (answer.status, told["title"], member in told["detail"]) == (400, "Bad Request", True), (path, told)
        assert answer.fields["content-type"] == "application/problem+json"
    assert api.ask("GET", "/tenants/acme/usage?month=2026-13").status == 400


def test_pages_follow_each_other_and_what_comes_in_between_moves_nothing(api: Served) -> None:
    for slug in ("beta", "delta", "gamma"):
        api.site.directory.create_tenant(slug, slug, "standard")
    first = api.ask("GET", "/tenants?limit=2")
    assert [one["slug"] for one in first.document["data"]] == ["acme", "beta"]
    assert first.fields["link"] == f'</api/v1/tenants?limit=2&cursor={first.document["next"]}>; rel="next"'
    for slug in ("aaa", "betb"):
        api.site.directory.create_tenant(slug, slug, "standard")
    rest = api.ask("GET", f"/tenants?limit=3&cursor={first.document['next']}").document
    assert [one["slug"] for one in rest["data"]] == ["betb", "delta", "gamma"]
    last = api.ask("GET", f"/tenants?limit=3&cursor={rest['next']}")
    assert ([one["slug"] for one in last.document["data"]], last.document["next"]) == (["globex"], None)
    assert "link" not in last.fields


def test_a_cursor_of_another_list_or_made_up_is_refused(api: Served) -> None:
    cursor = api.ask("GET", "/tenants?limit=1").document["next"]
    assert api.ask("GET", f"/tenants?limit=5&cursor={cursor}").status == 200
    for path in (
        f"/tenants?status=active&cursor={cursor}",
        f"/keys?cursor={cursor}",
        f"/tenants?cursor={cursor[:-1]}",
        f"/tenants?cursor={cursor[:8]}{'y' if cursor[8] == 'x' else 'x'}{cursor[9:]}",
        "/tenants?cursor=",
        "/tenants?cursor=%C3%A9",
    ):
        answer = api.ask("GET", path)
        assert (answer.status, "no cursor of this list" in answer.document["detail"]) == (400, True), path


def test_who_has_some_tenants_sees_these_and_nothing_that_names_others(api: Served) -> None:
    token = api.site.directory.create_admin("only", None, "owner", ["acme"])
    for path in ("/tenants", "/keys", "/requests", "/alerts", "/whoami", "/tenants/acme", "/tenants/acme/keys"):
        answer = api.ask("GET", path, token=token)
        assert (answer.status, b"globex" in answer.body) == (200, False), path
    for path in (
        "/tenants/acme/keys/key_zzz",
        f"/tenants/acme/keys/{api.ids['globex key']}",
        "/requests?tenant=globex",
    ):
        answer = api.ask("GET", path, token=token)
        assert (answer.status, "first" in answer.body.decode()) == (404, False), path
    for path in ("/credentials", "/tiers", "/audit", "/admin-tokens", "/margin", "/upstreams"):
        answer = api.ask("GET", path, token=token)
        assert (answer.status, "owner of some tenants" in answer.document["detail"]) == (403, True), path


def test_a_cursor_does_not_tell_what_it_holds(api: Served) -> None:
    """The number of a row would tell who sees one client alone how many rows the site has."""
    cursor = api.ask("GET", "/tenants?limit=1").document["next"]
    assert b"acme" not in base64.urlsafe_b64decode(cursor + "==")
