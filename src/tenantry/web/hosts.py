"""Which names the control address answers to.

A page on another site can have its own name resolve to this machine, and then speak to it as if it were its own (DNS
rebinding). A browser tells such a name in `Host`: whoever does not name this address by one of its names is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tenantry.web.answers import problem
from tenantry.web.proxies import REPLACED_HOSTS

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# RFC 9110 15.5.20: the request was directed at a server that does not answer for its host.
_MISDIRECTED: Final = 421
# What clients and everybody may be let to: docs/portal.md names the same for the proxy in front.
PUBLIC_PATHS: Final = frozenset({"/portal", "/status", "/status.json"})
PUBLIC_FOLDERS: Final = ("/portal/", "/static/")
_NAME_CHARS_MAX: Final = 253  # of a host name (RFC 1035 2.3.4)


class OwnHosts:
    """Lets through what names one of `hosts`, or loopback, with any port."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = LOOPBACK_NAMES | {one.lower() for one in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            told = [value for name, value in scope["headers"] if name == b"host"]
            name = host_name(told[0]) if len(told) == 1 else None
            if name is None or name not in self._hosts:
                await _refuse(name, send)
                return
        await self._app(scope, receive, send)


class PublicHost:
    """Under the name `host`, which the internet may reach, there is the portal and the status page, and nothing else.

    "": there is no such name. A proxy may say another name than the one that it was asked under, and it may be the
    client's word that it passes on: either name closes the rest.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = "" if host in LOOPBACK_NAMES else host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._host and not is_public(scope["path"]):
            told = [value for name, value in scope["headers"] if name == b"host"]
            if any(host_name(value) == self._host for value in (*told, *scope.get(REPLACED_HOSTS, ()))):
                await _send(problem(404, "there is no such page here"), send)
                return
        await self._app(scope, receive, send)


def is_public(path: str) -> bool:
    """Whether a path is of the portal or the status page, or of what they look like."""
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_FOLDERS)


def host_name(value: bytes) -> str | None:
    """The name in a `Host`, in small letters, without port, brackets and closing dot; None where it is malformed."""
    text = value.decode("latin-1").lower()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
    else:
        name, colon, number = text.partition(":")
        if colon and not _is_port(colon + number):
            return None
        name = name.removesuffix(".")
    is_plain = name.isascii() and all(letter.isalnum() or letter in "-._:" for letter in name)
    return name if name and is_plain and len(name) <= _NAME_CHARS_MAX else None


def _is_port(text: str) -> bool:
    return text.startswith(":") and (text[1:] == "" or (text[1:].isascii() and text[1:].isdigit() and len(text) <= 6))


async def _refuse(name: str | None, send: Send) -> None:
    words = "the request has no Host that can be read" if name is None else f"this address does not answer as {name}"
    detail = f"{words}: use localhost, or name the host in the setting control_hosts"
    await _send(problem(_MISDIRECTED, detail), send)


async def _send(answer: Response, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body})
