"""Clients of plain sockets, that behave, read slowly, or leave at a moment of their choice."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from tests.stack import PATIENCE_SECONDS, dechunk, request
from tests.storm.upstream import reset

MESSAGE = {"model": "claude-sonnet-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
# The gateway answers what it has to wait for within its queue's time and its retries' time; above both.
ANSWER_SECONDS_MAX = PATIENCE_SECONDS
READ_BYTES = 65536


@dataclass(slots=True)
class Leaving:
    """When a client goes away: "before-body", "after-body" (after `ms`), "after-head", "mid-stream"; by FIN or RST."""

    when: str
    is_reset: bool = False
    ms: int = 0


@dataclass(slots=True)
class Answer:
    """What a client got. `status` is None without an answer; `complete`: the body came to the end its framing says.

    `error` is the type of the error in the body or in the stream. `left`: the client went by itself.
    """

    status: int | None = None
    fields: dict[str, str] | None = None
    body: bytes = b""
    complete: bool = False
    error: str | None = None
    left: bool = False
    seconds: float = 0.0

    @property
    def is_served(self) -> bool:
        return self.status == 200 and self.complete and self.error is None


async def ask(
    port: int,
    key: str,
    script: dict[str, Any] | None = None,
    *,
    leaving: Leaving | None = None,
    pause_ms: int = 0,
    seconds_max: float = ANSWER_SECONDS_MAX,
    **fields: Any,
) -> Answer:
    """One request on a connection of its own. `pause_ms` is waited between two reads."""
    body = json.dumps(MESSAGE | fields).encode()
    head = {"x-api-key": key, "x-sandbox-storm": json.dumps(script or {}), "connection": "close"}
    data = request("POST", "/v1/messages", head, body)
    started = time.monotonic()
    answer = Answer()
    received = bytearray()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(seconds_max):
            if leaving is not None and leaving.when == "before-body":
                writer.write(data[: len(data) - len(body) // 2])
                await _leave(writer, leaving, answer)
                return answer
            writer.write(data)
            if leaving is not None and leaving.when == "after-body":
                await _leave(writer, leaving, answer)
                return answer
            await _read(reader, writer, leaving, pause_ms, answer, received)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
        if not answer.left:
            _understand(bytes(received), answer)
        answer.seconds = time.monotonic() - started
    return answer


async def _leave(writer: asyncio.StreamWriter, leaving: Leaving, answer: Answer) -> None:
    await writer.drain()
    await asyncio.sleep(leaving.ms / 1000)
    answer.left = True
    if leaving.is_reset:
        reset(writer)
    else:
        writer.close()


async def _read(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    leaving: Leaving | None,
    pause_ms: int,
    answer: Answer,
    received: bytearray,
) -> None:
    """Everything into `received` up to the end, or up to where this client leaves."""
    while part := await reader.read(READ_BYTES if not pause_ms else 512):
        received += part
        if leaving is not None and (leaving.when == "after-head" or b"content_block_delta" in received):
            await _leave(writer, leaving, answer)
            break
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)


def _understand(received: bytes, answer: Answer) -> None:
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return
    lines = head.decode("latin-1").split("\r\n")
    answer.status = int(lines[0].split(" ")[1])
    answer.fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if answer.fields.get("transfer-encoding") == "chunked":
        try:
            body = b"".join(dechunk(body))
        except (AssertionError, ValueError):
            answer.body = body
            return
        answer.complete = True
    else:
        answer.complete = len(body) == int(answer.fields.get("content-length", -1))
    answer.body = body
    answer.error = _error(answer.status, body)


def _error(status: int, body: bytes) -> str | None:
    if status != 200:
        try:
            return json.loads(body)["error"]["type"]
        except (ValueError, KeyError, TypeError):
            return "unreadable"
    at = body.find(b"event: error\n")
    if at < 0:
        return None
    return json.loads(body[at:].split(b"\n")[1].removeprefix(b"data: "))["error"]["type"]


async def ask_all(count: int, one: Any, at_once: int) -> list[Any]:
    """`one(number)` for each number below `count`, `at_once` of them at a time."""
    places = asyncio.Semaphore(at_once)

    async def placed(number: int) -> Any:
        async with places:
            return await one(number)

    return list(await asyncio.gather(*(placed(number) for number in range(count))))
