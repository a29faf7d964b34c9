"""A site with two clients for tests of the admin API, and one request to it, in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from tenantry.control.site import Site, open_site
from tenantry.domain.plans import Terms
from tenantry.settings import load_settings
from tenantry.storage.directory.plans import Agreed
from tenantry.web.app import control_app
from tests.template import init_from_template

OWNER = "tadm-the-owner-of-a-test"


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass
class Served:
    """A site and its API. `tokens` by name; `ids` of what was made, by what it is."""

    site: Site
    app: Starlette
    tokens: dict[str, str] = field(default_factory=dict[str, str])
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        token: str | None = OWNER,
        fields: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> Answer:
        return asyncio.run(self._ask(method, path, body, token, fields or {}, data))

    async def _ask(
        self, method: str, path: str, body: object, token: str | None, fields: dict[str, str], data: bytes | None
    ) -> Answer:
        sent: list[dict[str, Any]] = []
        raw = data if data is not None else json.dumps(body).encode() if body is not None else b""
        told = {"host": "localhost", "content-length": str(len(raw))}
        told |= {"content-type": "application/json"} if raw else {}
        told |= {"authorization": f"Bearer {token}"} if token is not None else {}
        told |= fields
        path, _, query = f"/api/v1{path}".partition("?")

        came = iter([{"type": "http.request", "body": raw, "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(came, None) or await asyncio.get_running_loop().create_future()  # the client stays

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in told.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "scheme": "http",
            "http_version": "1.1",
            "asgi": {"version": "3.0"},
            "root_path": "",
        }
        await self.app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent)
        return Answer(sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, content)


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Two clients, acme and globex, each with a key, a budget and a plan; and an owner."""
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(folder / "data"), "TENANTRY_GATEWAY_PORT": "9"})
    init_from_template(settings)
    site = open_site(settings)
    directory = site.directory
    directory.add_admin("owner", OWNER)
    directory.set_upstream("anthropic", "https://upstream.invalid")
    directory.add_credential("main", "sk-ant-api03-" + "m" * 40, "anthropic", shared=True)
    directory.set_plan("pro", Terms(fee_nanos=79_000_000_000))
    made = Served(site, control_app(site))
    for slug in ("acme", "globex"):
        directory.create_tenant(slug, slug.title(), "standard")
        directory.bind_credential(slug, "main", declare_shared=True, as_fallback=False)
        directory.set_budgets(slug, {"month": 50_000_000_000})
        directory.assign_plan(slug, Agreed("pro", directory.today()))
        made.ids[f"{slug} key"] = directory.issue_key(slug, "first").key_id
        made.ids[f"{slug} portal"] = directory.issue_portal_link(slug, 30, shows_invoices=True)[0].link_id
    yield made
    site.engine.dispose()
