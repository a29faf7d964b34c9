"""Many streams at once: time to the first byte, of each chunk from the upstream to the client, completeness; as JSON.

`python -m bench.load PORT KEY N`
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence

import uvloop

BODY = b'{"model":"claude-sonnet-5-5","max_tokens":1024,"messages":[{"role":"user","content":"hi"}],"stream":true}'
# What a chunk of bench.upstream says of when it was sent.
SENT = re.compile(rb"t=(\d{20});")
END_OF_CHUNKS = b"0\r\n\r\n"


def share_ms(sorted_seconds: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted_seconds[min(len(sorted_seconds) - 1, int(len(sorted_seconds) * share))] * 1000


async def one(port: int, key: str, number: int, delays: list[float]) -> tuple[float, bool]:
    await asyncio.sleep(number * 0.002)  # a burst of connects measures the accept queue, not the proxy
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\ncontent-length: {len(BODY)}\r\n\r\n"
    )
    started = time.perf_counter()
    writer.write(head.encode() + BODY)
    data = await reader.read(65536)
    first = time.perf_counter() - started
    while not data.endswith(END_OF_CHUNKS):
        part = await reader.read(65536)
        if not part:
            break
        now = time.monotonic_ns()
        delays += [(now - int(sent)) / 1e9 for sent in SENT.findall(part)]
        data = data[-64:] + part
    writer.close()
    return first, data.endswith(END_OF_CHUNKS)


async def main() -> None:
    port, key, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    delays: list[float] = []
    done = await asyncio.gather(*(one(port, key, number, delays) for number in range(count)))
    firsts = sorted(first for first, _ in done)
    delays.sort()
    found = {
        "complete": sum(whole for _, whole in done),
        "first_p50_ms": share_ms(firsts, 0.5),
        "first_p99_ms": share_ms(firsts, 0.99),
        "chunk_p50_ms": share_ms(delays, 0.5),
        "chunk_p99_ms": share_ms(delays, 0.99),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    uvloop.run(main())
