"""A browser as far as an application can tell: cookies, forms with their token, redirects. Without a server."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.people import Person
from tenantry.domain.roles import Role
from tenantry.storage.directory.sign_ins import FULL
from tenantry.web.pages_base.forms import CSRF_FIELD, csrf_of

_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]*)"')


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def shown(self) -> str:
        """What a reader sees, without tags."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.text)).split())

    def header(self, name: str) -> str | None:
        return next((value for one, value in self.headers if one == name), None)

    @property
    def location(self) -> str:
        return self.header("location") or ""

    @property
    def cookies_set(self) -> list[str]:
        return [value for name, value in self.headers if name == "set-cookie"]


@dataclass(slots=True)
class Browser:
    """Speaks to `app` as the page of its own origin would."""

    app: Starlette
    scheme: str = "http"
    host: str = "127.0.0.1:3001"
    address: str = "127.0.0.1"
    cookies: dict[str, str] = field(default_factory=dict[str, str])
    token: str = ""

    def get(self, path: str, **headers: str) -> Answer:
        return self._keep(self.ask("GET", path, {"accept": "text/html"} | headers))

    def follow(self, answer: Answer) -> Answer:
        """Where an answer leads to, through further redirects."""
        for _ in range(5):
            if answer.status != 303:
                return answer
            answer = self.get(answer.location.partition("#")[0])
        raise AssertionError("too many redirects")

    def post(self, path: str, fields: dict[str, Any] | None = None, **headers: str) -> Answer:
        """Sends a form as the page that was seen last would: with its token, from the same origin."""
        own = {
            "accept": "text/html",
            "content-type": "application/x-www-form-urlencoded",
            "sec-fetch-site": "same-origin",
        }
        body = urlencode({CSRF_FIELD: self.token} | (fields or {}), doseq=True).encode()
        return self._keep(self.ask("POST", path, own | headers, body))

    def fill(self, path: str, fields: dict[str, Any], target: str | None = None) -> Answer:
        """Opens the page of a form, and sends the form."""
        self.get(path)
        return self.post(target or path.partition("?")[0], fields)

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        known = {"host": self.host} | {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            known["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return asyncio.run(self._ask(method, path, known, body))

    def _keep(self, answer: Answer) -> Answer:
        for text in answer.cookies_set:
            for name, morsel in SimpleCookie(text).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        found = _TOKEN.search(answer.text) if answer.body else None
        if found is not None:
            self.token = found[1]
        return answer

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        sent: list[dict[str, Any]] = []

        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            """The request, and then nothing: it stays until it has its answer; of a stream, the first part."""
            if not parts:
                await seen.wait()
                return {"type": "http.disconnect"}
            return parts.pop()

        seen = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and (b"content-type", b"text/event-stream") in [
                (name, value.partition(b";")[0]) for name, value in sent[0]["headers"]
            ]:
                seen.set()

        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": plain,
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": (self.address, 1),
            "server": ("127.0.0.1", 3001),
            "scheme": self.scheme,
            "http_version": "1.1",
            "asgi": {"version": "3.0"},
            "root_path": "",
        }
        await self.app(scope, receive, send)
        found = [(name.decode(), value.decode("latin-1")) for name, value in sent[0]["headers"]]
        return Answer(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent))


def add_person(
    site: Site, name: str = "ana", role: Role = Role.OWNER, slugs: frozenset[str] | None = None, hashed: str = "none"
) -> Person:
    """Somebody who has chosen a password already. The hash of it is `hashed`: nobody signs in with that."""
    token = site.directory.invite_person(name, role, slugs=slugs)
    return site.directory.follow_link(token, hashed)


def signed_in(app: Starlette, site: Site, person: Person | None = None, **of_browser: Any) -> Browser:
    """A browser with a session of `person`; without one of an owner who is made for it."""
    found = person if person is not None else site.directory.find_person("ana") or add_person(site)
    secret = site.directory.begin_session(found, "password", FULL, "127.0.0.1", "a test")
    browser = Browser(app, **of_browser)
    name = "__Host-tenantry" if browser.scheme == "https" else "tenantry"
    browser.cookies[name] = secret
    browser.token = csrf_of(secret)
    return browser
