"""The fairness run: nine normal tenants beside one at a hundred times its share, on one upstream's capacity.

`python -m bench.fairness PORT SECONDS KEY...`: the first key is the noisy tenant's. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from bench.load import BODY

NORMAL_SECONDS = 1.2  # 50 a minute: within a tenth of 600
NOISY_WORKERS = 80


async def call(port: int, key: str) -> tuple[int, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = BODY.replace(b',"stream":true', b"")
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    started = time.perf_counter()
    writer.write(head.encode() + body)
    answer = await reader.read(-1)
    writer.close()
    return int(answer[9:12] or b"0"), time.perf_counter() - started


async def main() -> None:
    port, seconds, (noisy, *normal) = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    end = time.perf_counter() + seconds
    done: dict[str, list[tuple[int, float]]] = {key: [] for key in (noisy, *normal)}

    async def make_noise() -> None:
        while time.perf_counter() < end:
            done[noisy].append(await call(port, noisy))

    async def behave(key: str) -> None:
        while time.perf_counter() < end:
            at = time.perf_counter()
            done[key].append(await call(port, key))
            await asyncio.sleep(max(0.0, NORMAL_SECONDS - (time.perf_counter() - at)))

    await asyncio.gather(*(make_noise() for _ in range(NOISY_WORKERS)), *map(behave, normal))
    served = [sum(status == 200 for status, _ in done[key]) for key in normal]
    asked = [len(done[key]) for key in normal]
    waits = sorted(took for key in normal for _, took in done[key])
    print(
        json.dumps(
            {
                "served_percent": 100 * sum(served) / sum(asked),
                "jain": sum(served) ** 2 / (len(served) * sum(one * one for one in served)),
                "p50_ms": waits[len(waits) // 2] * 1000,
                "p99_ms": waits[int(len(waits) * 0.99)] * 1000,
                "noisy_asked": len(done[noisy]),
                "noisy_served": sum(status == 200 for status, _ in done[noisy]),
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main())
