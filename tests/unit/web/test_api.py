"""The admin API: nothing without a token, and what goes wrong told as JSON."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from tenantry.control.site import Site, open_site
from tenantry.settings import load_settings
from tenantry.storage.directory.tenants import TenantChange
from tenantry.web import api
from tenantry.web.api import control_app
from tests.template import init_from_template

TOKEN = "tadm-a-token-of-a-test"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")})
    init_from_template(settings)
    made = open_site(settings)
    made.directory.add_admin("tester", TOKEN)
    made.directory.create_tenant("acme", "Acme \x1b[31m", "standard")
    yield made
    made.engine.dispose()


def get(app: Starlette, path: str, token: str | None = TOKEN, method: str = "GET") -> tuple[int, Any]:
    """One request to the application; status and document of its answer."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    headers = [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "root_path": "",
    }
    with contextlib.suppress(ZeroDivisionError):  # raised again behind the answer, for the log
        asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body) if body else None


def test_every_route_but_health_wants_the_token(site: Site) -> None:
    app = control_app(site)
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    assert len(paths) == len(app.routes) >= 3
    assert get(app, "/healthz", None) == (200, {"status": "ok"})
    for path in paths:
        for token in (None, "", "tadm-another", TOKEN + "x"):
            if path not in ("/healthz", "/tls/ask"):
                status, told = get(app, path.replace("{slug}", "acme"), token)
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
    assert (status, [row["slug"] for row in rows]) == (200, ["acme"])
    assert rows[0]["limits"]["sessions_max"] == 5
    status, usage = get(app, "/api/v1/tenants/acme/usage?month=2026-11")
    assert (status, usage["month"]) == (200, "2026-11")
    reads = [(row.action, row.actor, row.origin) for row in site.directory.list_audit() if "read." in row.action]
    assert reads == [(f"read.{what}", "api:tester", "127.0.0.1") for what in ("usage", "tenants")]


def test_what_goes_wrong_is_told_and_nothing_of_its_inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    app = control_app(site)
    assert get(app, "/api/v1/tenants/nobody/usage")[0] == 404
    assert get(app, "/api/v1/tenants/acme/usage?month=2026-13")[0] == 400
    assert get(app, "/no/such/page") == (404, {"status_code": 404, "detail": "Not Found"})
    assert get(app, "/api/v1/tenants", method="POST") == (405, {"status_code": 405, "detail": "Method Not Allowed"})

    def breaks(*_: object) -> None:
        raise ZeroDivisionError("a-secret-inside")

    monkeypatch.setattr(api, "tenant_view", breaks)
    assert get(app, "/api/v1/tenants") == (500, {"status_code": 500, "detail": "Internal Server Error"})
