"""Whether the simulation tells the truth: one scenario in it and against a gateway with the sandbox behind it.

`python -m bench.simulated`: a tenant of two sessions and a queue of a second is asked for more than it may, at a rate
that does not wait for answers. Printed are served, refused and throughput of both; it ends with 1 where they differ by
more than TOLERANCE. Both draw their arrivals from the same seed, so they are asked at the same times.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.client import body_bytes
from bench.processes import free_port, start, stop
from bench.site import Stored, start_gateway
from tenantry.control.init import init_site
from tenantry.control.site import open_site
from tenantry.domain.prices import load_default_prices
from tenantry.settings import load_settings
from tenantry.simulation.capacity import plan_capacity
from tenantry.simulation.chance import chance
from tenantry.simulation.scenario import read_scenario

SECONDS = 60.0
RATE = 6.0
SESSIONS, QUEUE_WAIT_MS, HEAD_MS = 2, 1_000, 500
LIMITS = {
    "sessions_max": SESSIONS,
    "requests_per_minute": 6_000,
    "request_burst": 1_000,
    "queue_wait_ms_max": QUEUE_WAIT_MS,
}
# Of served and of refused, each against all that were asked. A real machine answers some milliseconds later.
TOLERANCE = 0.05
SEED = 11

SCENARIO = f"""
[simulation]
days = {SECONDS / 86_400}
seed = {SEED}
[organizations.sandbox]
first_byte_ms = {HEAD_MS}
first_byte_spread = 0
tokens_per_second = 150
[tenants.acme]
[tenants.acme.limits]
sessions_max = {SESSIONS}
requests_per_minute = 6_000
request_burst = 1_000
queue_wait_ms_max = {QUEUE_WAIT_MS}
[[tenants.acme.traffic]]
requests_per_hour = {RATE * 3_600}
model = "claude-haiku-5-5"
prompt_tokens = 200
answer_tokens = 1
spread = 0
"""


def simulated() -> Counter[str]:
    found = plan_capacity(read_scenario(SCENARIO.encode()), load_default_prices()).tenants["acme"]
    return Counter({"served": found.served, **found.refusals})


def arrivals() -> list[float]:
    """When the scenario's requests come, in seconds: as `simulation/arrivals.py` draws them."""
    random, at, found = chance(SEED, "acme", 0), 0.0, list[float]()
    while (at := at + random.expovariate(RATE)) < SECONDS:
        found.append(at)
        random.gauss(0.0, 0.0)
        random.gauss(0.0, 0.0)
    return found


async def _ask(port: int, key: str, outcomes: Counter[str]) -> None:
    body = body_bytes(900, stream=False)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\nx-sandbox-scenario: head-ms={HEAD_MS}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    outcomes["served" if answer[9:12] == b"200" else f"status {answer[9:12].decode()}"] += 1
    writer.close()


async def _ask_all(port: int, key: str) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    begun, asked = time.perf_counter(), list[asyncio.Task[None]]()
    for at in arrivals():
        await asyncio.sleep(max(0.0, begun + at - time.perf_counter()))
        asked.append(asyncio.create_task(_ask(port, key, outcomes)))
    await asyncio.gather(*asked)
    return outcomes


def real(folder: Path) -> Counter[str]:
    data, upstream = folder / "data", free_port()
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(data)})
    init_site(settings)
    site = open_site(settings)
    site.directory.set_tier("simulated", LIMITS)
    site.directory.set_upstream("sandbox-bench", f"http://127.0.0.1:{upstream}")
    site.directory.create_tenant("acme", "acme", "simulated")
    site.directory.add_credential("acme", "sandbox-simulated", "sandbox-bench")
    site.directory.bind_credential("acme", "acme")
    stored = Stored({"TENANTRY_DATA_DIR": str(data)}, site.directory.issue_key("acme", "bench").text)
    site.engine.dispose()
    sandbox = start("sandbox", upstream, sys.executable, "-m", "tenantry", "sandbox", "--port", str(upstream))
    gateway = start_gateway(stored)
    try:
        return asyncio.run(_ask_all(gateway.port, stored.key))
    finally:
        stop(gateway)
        stop(sandbox)


def main() -> None:
    wanted = simulated()
    with tempfile.TemporaryDirectory() as folder:
        found = real(Path(folder))
    print("| | asked | served | refused | served a second |\n|---|---|---|---|---|")
    shares: list[tuple[float, float]] = []
    for name, outcomes in (("simulated", wanted), ("a gateway", found)):
        asked, served = outcomes.total(), outcomes["served"]
        shares.append((served / asked, (asked - served) / asked))
        print(f"| {name} | {asked} | {served} | {asked - served} | {served / SECONDS:.2f} |")
    print(dict(wanted), dict(found))
    if any(abs(one - other) > TOLERANCE for one, other in zip(*shares, strict=True)):
        raise SystemExit(f"they differ by more than {TOLERANCE:.0%} of what was asked")


if __name__ == "__main__":
    main()
