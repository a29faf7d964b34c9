"""Many streams at once: time to the first byte, completeness; as JSON. `python -m bench.load PORT KEY N`."""

import asyncio
import json
import sys
import time

import uvloop

BODY = b'{"model":"claude-sonnet-5-5","max_tokens":1024,"messages":[{"role":"user","content":"hi"}],"stream":true}'


async def one(port: int, key: str, number: int) -> tuple[float, bool]:
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
    while not data.endswith(b"0\r\n\r\n"):
        part = await reader.read(65536)
        if not part:
            break
        data = data[-64:] + part
    writer.close()
    return first, data.endswith(b"0\r\n\r\n")


async def main() -> None:
    port, key, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    done = await asyncio.gather(*(one(port, key, number) for number in range(count)))
    firsts = sorted(first for first, _ in done)
    print(
        json.dumps(
            {
                "complete": sum(whole for _, whole in done),
                "p50_ms": firsts[len(firsts) // 2] * 1000,
                "p99_ms": firsts[int(len(firsts) * 0.99)] * 1000,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main())
