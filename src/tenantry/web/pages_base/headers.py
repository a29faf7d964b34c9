"""What every answer tells a browser, so that a page does what we wrote and nothing else."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# No script and no style but from our files, nothing from anywhere else, no frame around us. `data:`: the arrows and
# ticks that Pico's style sheet draws.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
# Of what a client has named or written: not even as a page of this address.
SANDBOXED: Final = f"{CONTENT_SECURITY_POLICY}; sandbox"
HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # of browsers that know no frame-ancestors
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
NO_STORE: Final = "no-store"
# Two years, as hstspreload.org asks; only ever told over TLS (RFC 6797 7.2).
STRICT_TRANSPORT: Final = "max-age=63072000"


class SecurityHeaders:
    """Sets them on every answer; `cache-control: no-store` where an answer says nothing of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                kept = headers.get("content-security-policy")
                for name, value in HEADERS.items():
                    headers[name] = value
                if kept is not None and kept == SANDBOXED:
                    headers["content-security-policy"] = kept
                headers.setdefault("cache-control", NO_STORE)
                if scope["scheme"] == "https":
                    headers["strict-transport-security"] = STRICT_TRANSPORT
            await send(message)

        await self._app(scope, receive, send_with)
