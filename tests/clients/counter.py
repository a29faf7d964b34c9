"""Stands between a client and the gateway, and notes each request; it changes nothing that the client sees.

Towards the gateway it may add the sandbox's scenario, which not every client can send. In place of the gateway it may
answer messages by itself, to see what clients do with an answer that no gateway gives.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

BODY_BYTES_MAX = 64 * 1024 * 1024
_HOP = frozenset({"connection", "host", "content-length", "transfer-encoding", "keep-alive"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and how it was answered; `at` in seconds of the monotonic clock."""

    method: str
    path: str
    body: bytes
    status: int
    at: float

    @property
    def is_message(self) -> bool:
        return self.method == "POST" and self.path.endswith("/messages")


@dataclass(frozen=True, slots=True)
class Canned:
    """An answer to every message, in place of the gateway's."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Counter:
    """A proxy on a loopback port of its own, before the gateway on `target`."""

    target: int
    scenario: str = ""
    canned: Canned | None = None
    # What is done, once, when the next message has come and before it is passed on.
    before_next: Callable[[], None] | None = None
    seen: list[Seen] = field(default_factory=list[Seen])
    port: int = 0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Counter:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the counter did not start within 10 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._stop(runner))
        self._loop.close()

    async def _start(self) -> web.AppRunner:
        self._session = ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _stop(self, runner: web.AppRunner) -> None:
        await runner.cleanup()
        await self._session.close()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        at, body = time.monotonic(), await request.read()
        if self.canned is not None and request.method == "POST" and request.path.endswith("/messages"):
            self.seen.append(Seen(request.method, request.path, body, self.canned.status, at))
            headers = {"content-type": "application/json", **self.canned.headers}
            return web.Response(status=self.canned.status, headers=headers, body=self.canned.body)
        if self.before_next is not None and request.path.endswith("/messages"):
            first, self.before_next = self.before_next, None
            await asyncio.to_thread(first)
        fields: Any = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        if self.scenario:
            fields["x-sandbox-scenario"] = self.scenario
        url = f"http://127.0.0.1:{self.target}{request.rel_url}"
        async with self._session.request(
            request.method, url, headers=fields, data=body or None, allow_redirects=False
        ) as answer:
            self.seen.append(Seen(request.method, request.path, body, answer.status, at))
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
            response = web.StreamResponse(status=answer.status)
            response.headers.extend(kept)
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            await response.write_eof()
            return response
