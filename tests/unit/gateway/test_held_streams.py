"""What a stream keeps while it runs: its body is large, and it may run for an hour."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from tests.stack import until
from tests.unit.gateway.playbook import World, message

PROMPT_BYTES = 100_000
STREAMS = 20
# What the doubles of this test and one stream take is 7 KB.
KEPT_BYTES_MAX = 20_000


@pytest.mark.parametrize("text", ["x" * PROMPT_BYTES, ""])
def test_a_running_stream_keeps_nothing_of_its_prompt(tmp_path: Path, text: str) -> None:
    world = World(tmp_path)
    # Blocks are read one by one, a text that is not is skipped; both as slices of the body.
    body = message(text, stream=True) if text else message(stream=True) | {"system": [_block(n) for n in range(1000)]}
    held: list[object] = []

    def stream() -> None:
        client = world.client()
        client.ask(body)
        world.turn()
        if world.connecting:
            world.connecting[0].made()
            world.turn()
        held.append(client)
        world.sent[-1].head(200, {"content-type": "text/event-stream"})

    for _ in range(3):  # what is there once, whatever comes, is not a stream's
        stream()
    tracemalloc.start()
    try:
        for _ in range(STREAMS):
            stream()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / STREAMS < KEPT_BYTES_MAX


def _block(number: int) -> dict[str, object]:
    return {"type": "text", "text": f"{number} " + "x" * 100}


async def _pair() -> None:
    made: list[asyncio.BaseTransport] = []

    class Noting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Noting, "127.0.0.1", 0)
    await loop.create_connection(Noting, *server.sockets[0].getsockname())
    await until(lambda: len(made) == 2)
    for transport in made:
        own: socket.socket = transport.get_extra_info("socket")
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()
    server.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_the_loop_sends_at_once_without_being_told(run: Callable[[Awaitable[None]], None]) -> None:
    run(_pair())
