"""Which names the control address answers to.

A page on another site can have its own name resolve to this machine, and then speak to it as if it were its own (DNS
rebinding). A browser tells such a name in `Host`: whoever does not name this address by one of its names is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from tenantry.web.answers import problem

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# RFC 9110 15.5.20: the request was directed at a server that does not answer for its host.
_MISDIRECTED: Final = 421
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
    answer = problem(_MISDIRECTED, detail)
    await send({"type": "http.response.start", "status": _MISDIRECTED, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body})
