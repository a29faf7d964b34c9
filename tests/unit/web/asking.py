"""One request to an application, without a server."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette


def ask(app: Starlette, path: str, token: str | None = None) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of the answer to a GET."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:3001"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "root_path": "",
    }
    asyncio.run(app(scope, receive, send))
    body = b"".join([message.get("body", b"") for message in sent[1:]])
    return sent[0]["status"], dict(sent[0]["headers"]), body
