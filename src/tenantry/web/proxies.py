"""A TLS proxy in front, which says who asks and how: believed only where the settings name its address.

From everybody else `X-Forwarded-*` and `Forwarded` are taken away: nobody chooses the address that is counted and
logged, nor makes a page believe that it came over TLS.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from tenantry.sign_in_settings import Network

_FOR, _PROTO, _HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"
_TOLD: Final = frozenset({_FOR, _PROTO, _HOST, b"x-forwarded-port", b"x-forwarded-server", b"x-real-ip", b"forwarded"})
# In a scope: what stood in `Host` before a proxy's word took its place, for walls that a client must not talk away.
REPLACED_HOSTS: Final = "tenantry.replaced_hosts"


class Proxies:
    """Puts in place what a proxy at one of `networks` says; drops it from others."""

    def __init__(self, app: ASGIApp, networks: Sequence[Network]) -> None:
        self._app = app
        self._networks = networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            told = [(name, value) for name, value in scope["headers"] if name in _TOLD]
            headers = [(name, value) for name, value in scope["headers"] if name not in _TOLD]
            scope = dict(scope) | {"headers": headers}
            client = scope.get("client")
            if told and client is not None and self._is_proxy(client[0]):
                self._believe(scope, told)
        await self._app(scope, receive, send)

    def _believe(self, scope: Scope, told: list[tuple[bytes, bytes]]) -> None:
        address = self._asker(told)
        if address is not None:
            scope["client"] = (address, 0)
        protocols = [value.strip().lower() for name, value in told if name == _PROTO]
        if protocols in ([b"https"], [b"http"]):
            scope["scheme"] = protocols[0].decode()
        hosts = [value.strip() for name, value in told if name == _HOST]
        if len(hosts) == 1:
            kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope[REPLACED_HOSTS] = [value for name, value in scope["headers"] if name == b"host"]
            scope["headers"] = [*kept, (b"host", hosts[0])]

    def _asker(self, told: list[tuple[bytes, bytes]]) -> str | None:
        """The last address that is no proxy of ours: those before it anybody may have written."""
        chain = [one.strip() for name, value in told if name == _FOR for one in value.decode("latin-1").split(",")]
        for one in reversed(chain):
            try:
                address = ipaddress.ip_address(one)
            except ValueError:
                return None
            if not self._is_proxy(str(address)):
                return str(address)
        return None

    def _is_proxy(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
