"""Whoever reaches the control address has neither its memory nor its connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tenantry.web import connections
from tenantry.web.connections import HEAD_BYTES_MAX, BoundedProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def hello(_scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served() -> AsyncGenerator[int]:
    config = uvicorn.Config(hello, lifespan="off", log_config=None, http=BoundedProtocol, ws="none")
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def client(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def left(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection ends."""
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""


def test_a_head_that_does_not_end_is_not_kept() -> None:
    async def run() -> None:
        async with served() as port, client(port) as (reader, writer):
            writer.write(REQUEST)
            for _ in range(2 * HEAD_BYTES_MAX // 1000):
                writer.write(b"x: " + b"a" * 995 + b"\r\n")
            assert await left(reader) == b""

    asyncio.run(run())


@pytest.mark.parametrize("begun", [b"", REQUEST, REQUEST + b"\r\n" + REQUEST, REQUEST + b"\r\n\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS_MAX", 0.2)

    async def run() -> None:
        async with served() as port, client(port) as (reader, writer):
            writer.write(begun)
            assert (await left(reader)).count(b"200 OK") == begun.count(b"x\r\n\r\n")

    asyncio.run(run())


def test_one_that_is_too_many_is_ended_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)

    async def run() -> None:
        async with served() as port, client(port) as (reader, writer), client(port), client(port) as (third, _):
            assert await left(third) == b""
            writer.write(REQUEST + b"connection: close\r\n\r\n")
            assert b"200 OK" in await left(reader)

    asyncio.run(run())


def test_a_long_body_and_many_requests_on_one_connection_are_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS_MAX", 0.3)

    async def run() -> None:
        async with served() as port, client(port) as (reader, writer):
            body = b"a" * 300_000
            for number in range(4):
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + body[: 200_000 + number])
                await asyncio.sleep(0.2)
                writer.write(body[200_000 + number :])
                assert b"200 OK" in await reader.readuntil(b"ok")

    asyncio.run(run())
