"""The admin API: nothing without a token, and what goes wrong told as JSON."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.applications import Starlette
from starlette.routing import Route

from tenantry.control.site import Site, open_site
from tenantry.settings import load_settings
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.tenants import TenantChange
from tenantry.storage.tables import admin_users
from tenantry.web.api import tenants as api
from tenantry.web.app import control_app
from tenantry.web.token_guesses import ADDRESS_GUESSES, ALL_GUESSES, TOLD_AT_ONCE, Guesses
from tests.template import init_from_template

TOKEN = "tadm-a-token-of-a-test"
OPEN = ("/healthz", "/tls/ask", "/api/v1/openapi.json")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")})
    init_from_template(settings)
    made = open_site(settings)
    made.directory.add_admin("tester", TOKEN)
    made.directory.create_tenant("acme", "Acme \x1b[31m", "standard")
    yield made
    made.engine.dispose()


def get(
    app: Starlette,
    path: str,
    token: str | None = TOKEN,
    method: str = "GET",
    address: str = "127.0.0.1",
    hosts: tuple[bytes, ...] = (b"127.0.0.1:3001",),
) -> tuple[int, Any]:
    """One request to the application; status and document of its answer."""
    status, _, document = asked(app, path, token, method, address, hosts)
    return status, document


def asked(
    app: Starlette, path: str, token: str | None, method: str, address: str, hosts: tuple[bytes, ...]
) -> tuple[int, dict[bytes, bytes], Any]:
    """The same with the header fields."""
    return asyncio.run(ask(app, path, token, method, address, hosts))


async def ask(
    app: Starlette, path: str, token: str | None, method: str, address: str, hosts: tuple[bytes, ...]
) -> tuple[int, dict[bytes, bytes], Any]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    headers = [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
    headers += [(b"host", host) for host in hosts]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": headers,
        "client": (address, 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "root_path": "",
    }
    with contextlib.suppress(ZeroDivisionError):  # raised again behind the answer, for the log
        await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(body) if body else None


def test_every_route_but_health_wants_the_token(site: Site) -> None:
    app = control_app(site)
    routes = [route for route in app.routes if isinstance(route, Route)]
    assert len(routes) == len(app.routes)
    routes = [route for route in routes if route.path.startswith(("/api/", "/metrics"))]
    assert len(routes) >= 3
    assert get(app, "/healthz", None) == (200, {"status": "ok"})
    for number, route in enumerate(routes):
        path, method = route.path.replace("{slug}", "acme"), min(route.methods or {"PUT"})
        for token in (None, "", "tadm-another", TOKEN + "x")[: 4 if number < ALL_GUESSES // 4 else 2]:
            if path not in OPEN:
                status, told = get(app, path, token, method, f"{number}{token}")
                assert (status, told["detail"]) == (401, "the admin token is required: Authorization: Bearer ...")
    reads = [row for row in site.directory.list_audit() if row.action.startswith("read.")]
    assert reads == []


def test_a_server_in_front_is_told_whether_a_name_is_this_sites(site: Site) -> None:
    app = control_app(site)
    site.directory.set_tenant("acme", TenantChange(hosts=["ai.client.example"]))
    assert get(app, "/tls/ask?domain=ai.client.example", None) == (200, {"known": True})
    for other in ("?domain=other.example", "?domain=", "", "?domain=127.0.0.1", "?domain=" + "x" * 3000):
        assert get(app, f"/tls/ask{other}", None) == (404, {"known": False})


def test_what_an_admin_reads_is_shown_and_told_to_the_audit_log(site: Site) -> None:
    app = control_app(site)
    status, rows = get(app, "/api/v1/tenants")
    assert (status, [row["slug"] for row in rows["data"]], rows["next"]) == (200, ["acme"], None)
    status, shown = get(app, "/api/v1/tenants/acme")
    assert (status, shown["limits"]["sessions_max"]) == (200, {"value": 5, "origin": "tier"})
    status, usage = get(app, "/api/v1/tenants/acme/usage?month=2026-11")
    assert (status, usage["month"]) == (200, "2026-11")
    reads = [(row.action, row.actor, row.origin) for row in site.directory.list_audit() if "read." in row.action]
    assert reads == [(f"read.{what}", "api:tester", "127.0.0.1") for what in ("usage", "tenant", "tenants")]


def test_what_goes_wrong_is_told_and_nothing_of_its_inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    app = control_app(site)
    assert get(app, "/api/v1/tenants/nobody/usage")[0] == 404
    assert get(app, "/api/v1/tenants/acme/usage?month=2026-13")[0] == 400
    assert get(app, "/no/such/page") == (404, problem(404, "Not Found", "Not Found"))
    told = problem(405, "Method Not Allowed", "this is for GET, HEAD, POST")
    assert get(app, "/api/v1/tenants", method="DELETE") == (405, told)

    def breaks(*_: object) -> None:
        raise ZeroDivisionError("a-secret-inside")

    monkeypatch.setattr(api, "tenant_view", breaks)
    words = "Internal Server Error: the log of control says what went wrong"
    assert get(app, "/api/v1/tenants") == (500, problem(500, "Internal Server Error", words))


def problem(status: int, title: str, detail: str) -> dict[str, object]:
    """Problem details, as RFC 9457 has them."""
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


PLACE = (b"localhost",)


def test_guesses_are_throttled_by_address_and_told_and_an_admin_elsewhere_goes_on(site: Site) -> None:
    app = control_app(site)
    assert get(app, "/api/v1/tenants", address="10.0.0.9")[0] == 200
    answers = [asked(app, "/api/v1/tenants", f"tadm-{n}", "GET", "10.0.0.1", PLACE) for n in range(ADDRESS_GUESSES + 5)]
    assert [status for status, _, _ in answers] == [401] * ADDRESS_GUESSES + [429] * 5
    _, fields, told = answers[-1]
    assert 1 <= int(fields[b"retry-after"]) <= 6
    assert told["detail"].startswith("too many wrong admin tokens: try again in")
    # The right one too: else it would be known to be right.
    assert get(app, "/api/v1/tenants", address="10.0.0.1")[0] == 429
    assert get(app, "/api/v1/tenants", address="10.0.0.2")[0] == 200
    for number in range(3 * ALL_GUESSES):
        get(app, "/api/v1/tenants", "tadm-wrong", address=f"10.1.{number // 250}.{number % 250}")
    assert get(app, "/api/v1/tenants", address="10.2.0.1")[0] == 429
    assert get(app, "/api/v1/tenants", address="10.0.0.9")[0] == 200
    assert get(app, "/healthz", None)[0] == 200
    lines = [row for row in site.directory.list_audit(1000) if row.action == "admin.refused"]
    assert 1 <= len(lines) <= TOLD_AT_ONCE + 2
    assert {row.origin for row in lines} == {"10.0.0.1"}
    assert all("tadm-" not in str(row.detail) for row in lines)


def test_right_tokens_that_come_together_are_no_guesses(site: Site) -> None:
    app = control_app(site)

    async def together() -> list[tuple[int, dict[bytes, bytes], Any]]:
        return await asyncio.gather(
            *(ask(app, "/api/v1/tenants", TOKEN, "GET", "10.0.0.1", PLACE) for _ in range(6 * ADDRESS_GUESSES))
        )

    assert {status for status, _, _ in asyncio.run(together())} == {200}


def test_many_guesses_at_once_are_counted_too(site: Site) -> None:
    app = control_app(site)
    guesses = Guesses(lambda: 0.0)
    app.state.guesses = guesses
    assert [bool(guesses.take("a")) for _ in range(ADDRESS_GUESSES + 1)] == [False] * ADDRESS_GUESSES + [True]


def test_a_token_that_has_ended_or_was_revoked_says_so_to_who_has_it(site: Site) -> None:
    app = control_app(site)
    token = site.directory.create_admin("monitoring", now_utc() + timedelta(days=1))
    assert get(app, "/api/v1/tenants", token)[0] == 200
    assert next(one for one in site.directory.list_admins() if one.name == "monitoring").used_at is not None
    with site.engine.begin() as connection:
        connection.execute(update(admin_users).values(expires_at=now_utc() - timedelta(seconds=1)))
    assert get(app, "/api/v1/tenants", token)[0] == 403
    site.directory.revoke_admin("monitoring")
    status, told = get(app, "/api/v1/tenants", token)
    assert (status, "(monitoring) is revoked" in told["detail"]) == (403, True)


@pytest.mark.parametrize(
    "hosts",
    [
        (b"evil.example",),
        (b"evil.example:3001",),
        (b"127.0.0.1.evil.example",),
        (b"localhost.evil.example",),
        (b"evil.localhost",),
        (b"127.0.0.1@evil.example",),
        (b"127.0.0.2",),
        (b"[::2]",),
        (b"[::1",),
        (b"[::1]x",),
        (b"127.0.0.1:x",),
        (b"127.0.0.1:123456",),
        (b"127.0.0.1, evil.example",),
        (b"127.0.0.1", b"evil.example"),
        (b"",),
        (),
        (b"x" * 300,),
        (b"l\xf6calhost",),
    ],
)
def test_a_name_that_is_not_this_address_is_refused_before_anything_is_looked_at(
    site: Site, hosts: tuple[bytes, ...]
) -> None:
    app = control_app(site)
    for path in ("/healthz", "/api/v1/tenants", "/no/such/page"):
        status, told = get(app, path, hosts=hosts)
        assert (status, "control_hosts" in told["detail"]) == (421, True)


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:3001",
        b"localhost.",
        b"127.0.0.1:1",
        b"[::1]:3001",
        b"[::1]",
        b"control.agency.example",
    ],
)
def test_its_own_names_and_those_of_the_setting_are_answered(site: Site, host: bytes) -> None:
    named = replace(site, settings=replace(site.settings, control_hosts=("control.agency.example",)))
    assert get(control_app(named), "/api/v1/tenants", hosts=(host,))[0] == 200
