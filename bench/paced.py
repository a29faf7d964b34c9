"""Requests at a rate, whether the ones before are answered or not: how long each took; as JSON.

`python -m bench.paced PORT RATE SECONDS KIND KEYS_FILE`: KIND is `whole` (time to the last byte) or `stream` (to the
first); the keys in the file take turns.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from bench.client import body_bytes
from bench.load import END_OF_CHUNKS, share_ms

STREAM_CHUNKS = 5
PROMPT_BYTES = 900
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pace:
    """One run. Connections are kept and used again, the last one first."""

    def __init__(self, port: int, streaming: bool, keys: list[str]) -> None:
        self._port = port
        self._streaming = streaming
        body = body_bytes(PROMPT_BYTES, stream=streaming)
        self._body = body.replace(b'"max_tokens":1024', b'"max_tokens":%d' % STREAM_CHUNKS) if streaming else body
        self._keys = keys
        self._free: list[Streams] = []
        self.took: list[float] = []

    async def run(self, rate: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        started, asked = loop.time(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
            asked.append(asyncio.create_task(self._ask(self._keys[number % len(self._keys)])))
        await asyncio.gather(*asked)

    async def _ask(self, key: str) -> None:
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            f"POST /v1/messages HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
            f"anthropic-version: 2023-06-01\r\ncontent-length: {len(self._body)}\r\n\r\n"
        )
        started = time.perf_counter()
        writer.write(head.encode() + self._body)
        head_bytes = await reader.readuntil(b"\r\n\r\n")
        if self._streaming:
            self.took.append(time.perf_counter() - started)
            await reader.readuntil(END_OF_CHUNKS)
        else:
            lengths = [line for line in head_bytes.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0].partition(b":")[2]))
            self.took.append(time.perf_counter() - started)
        if head_bytes[9:12] != b"200":
            raise SystemExit(f"answered {head_bytes[:200]!r}")
        self._free.append((reader, writer))


async def main(port: int, rate: float, seconds: float, kind: str, keys: list[str]) -> None:
    pace = Pace(port, kind == "stream", keys)
    await pace.run(rate, 1.0)  # connections are made, and what is done once is done
    pace.took.clear()
    await pace.run(rate, seconds)
    pace.took.sort()
    print(json.dumps({"p50_ms": share_ms(pace.took, 0.5), "p99_ms": share_ms(pace.took, 0.99)}))


if __name__ == "__main__":
    _, port, rate, seconds, kind, file = sys.argv
    uvloop.run(main(int(port), float(rate), float(seconds), kind, Path(file).read_text().split()))
