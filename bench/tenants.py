"""Ten thousand tenants in use: what they cost each other, and how soon a change of one of them acts.

`python -m bench.tenants [TENANTS] [--changes]`; with `--changes`, the changes alone. One gateway; latencies are seen by
one client that asks again as soon as it was answered, so compare them with each other, not with another machine's.
Changes are timed while tenants ask at a steady rate and control books what they did.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import func, select

from bench.client import Client, request_bytes
from bench.processes import Proxy, cpu_seconds, start_upstream, stop
from bench.site import Stored, make_store, start_control, start_gateway
from tenantry.control.site import Site, open_site
from tenantry.domain.directory import TenantStatus
from tenantry.settings import load_settings
from tenantry.storage.tables import ledger

TENANTS = 10_000
PROMPT_BYTES = 900
# Of each series of latencies; p99 is then the thirtieth longest.
ASKED = 3000
# Of each kind of change; p95 is then the fifth longest.
CHANGES = 100
# Asked by other tenants meanwhile, each second: what a machine of this size serves with a core to spare.
CHANGES_RATE = 100
CHANGES_SECONDS_MAX = 600
# Longer than idle connections are kept, so that nothing is left of what went before.
IDLE_SECONDS = 5.0
ACT_SECONDS_MAX = 10.0
POLL_SECONDS = 0.2


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--changes"]
    count, only_changes = int(words[0]) if words else TENANTS, "--changes" in sys.argv
    with tempfile.TemporaryDirectory() as name:
        upstream = start_upstream()
        stored = make_store(Path(name), upstream.port, others=count)
        gateway = start_gateway(stored)
        running = [gateway, upstream]
        try:
            if not only_changes:
                _latencies(gateway, stored)
                _idle(gateway, count)
            running.insert(1, start_control(stored, gateway))
            _changes(gateway, stored, Path(name) / "keys")
        finally:
            for proxy in running:
                stop(proxy)


def _latencies(gateway: Proxy, stored: Stored) -> None:
    client = Client(gateway.port)
    one = [request_bytes(stored.key, PROMPT_BYTES)]
    each = [request_bytes(key, PROMPT_BYTES) for key in stored.others]
    _timed(client, one * 500)
    print("| | p50 ms | p99 ms | longest ms |\n|---|---|---|---|")
    _row("one tenant, alone", _timed(client, one * ASKED))
    _row(f"{len(each):,} tenants, each for the first time", _timed(client, each))
    _row(f"one tenant, {len(each):,} others in use", _timed(client, one * ASKED))
    _row("tenants in turn", _timed(client, each[-ASKED:]))
    client.close()


def _timed(client: Client, requests: Sequence[bytes]) -> list[float]:
    """How long each answer took, in seconds."""
    found: list[float] = []
    for request in requests:
        started = time.perf_counter()
        client.ask(request)
        client.await_answer()
        found.append(time.perf_counter() - started)
    return sorted(found)


def _row(what: str, seconds: list[float], share: float = 0.99) -> None:
    p50, high, most = seconds[len(seconds) // 2], seconds[int(len(seconds) * share)], seconds[-1]
    print(f"| {what} | {p50 * 1000:.2f} | {high * 1000:.2f} | {most * 1000:.1f} |", flush=True)


def _idle(gateway: Proxy, count: int) -> None:
    descriptors = len(os.listdir(f"/proc/{gateway.process.pid}/fd"))
    before = cpu_seconds(gateway.process)
    time.sleep(IDLE_SECONDS)
    share = (cpu_seconds(gateway.process) - before) / IDLE_SECONDS
    print(f"\nwith {count:,} tenants in use and nothing asked: {share:.1%} of a core, {descriptors:,} descriptors\n")


def _changes(gateway: Proxy, stored: Stored, keys: Path) -> None:
    """How long after a change's commit its tenant is answered otherwise."""
    keys.write_text("\n".join(stored.others[CHANGES:]))
    words = (str(gateway.port), str(CHANGES_RATE), str(CHANGES_SECONDS_MAX), "whole", str(keys))
    load = subprocess.Popen([sys.executable, "-m", "bench.paced", *words])
    site = open_site(load_settings(None, stored.environ))
    print(f"{CHANGES_RATE} requests a second; control books\n")
    print("| a change, until it acts | p50 ms | p95 ms | longest ms |\n|---|---|---|---|")
    try:
        for what, change in (
            ("a tenant is disabled", _disable),
            ("a tenant is provisioned", _provision),
            ("what was answered is booked", _book),
        ):
            found: list[float] = []
            for number in range(CHANGES):
                time.sleep(random.random() * POLL_SECONDS)  # the gateway looks by the clock: at any moment of it
                found.append(change(site, gateway, stored, number))
            _row(what, sorted(found), 0.95)
        if load.poll() is not None:
            raise SystemExit("the load has ended before the changes")
    finally:
        load.kill()
        load.wait()
        site.engine.dispose()


def _disable(site: Site, gateway: Proxy, stored: Stored, number: int) -> float:
    site.directory.set_tenant_status(f"bench-{number}", TenantStatus.DISABLED)
    return _until(lambda: _status(gateway, stored.others[number]) == b"403")


def _provision(site: Site, gateway: Proxy, _stored: Stored, number: int) -> float:
    slug = f"new-{number}"
    with site.directory.transaction() as directory:
        directory.create_tenant(slug, slug, "bench")
        directory.add_credential(slug, f"sandbox-bench-credential-of-{slug}", "bench")
        directory.bind_credential(slug, slug)
        directory.set_budgets(slug, {"month": 10**12})
        key = directory.issue_key(slug, "bench").text
    return _until(lambda: _status(gateway, key) == b"200")


def _book(site: Site, gateway: Proxy, _stored: Stored, number: int) -> float:
    """Of a tenant that was provisioned before, and has asked once: until its second row."""
    tenant_id = site.directory.get_tenant(f"new-{number}").tenant_id
    rows = select(func.count()).where(ledger.c.tenant_id == tenant_id)
    key = site.directory.issue_key(f"new-{number}", "bench").text
    _until(lambda: _status(gateway, key) == b"200")

    def is_booked() -> bool:
        with site.engine.connect() as connection:
            return connection.execute(rows).scalar_one() == 2

    return _until(is_booked)


def _status(gateway: Proxy, key: str) -> bytes:
    client = Client(gateway.port)
    client.ask(request_bytes(key, PROMPT_BYTES))
    status = client.await_status()
    client.close()
    return status


def _until(acts: Callable[[], bool]) -> float:
    started = time.perf_counter()
    while not acts():
        if time.perf_counter() - started > ACT_SECONDS_MAX:
            raise SystemExit(f"a change did not act within {ACT_SECONDS_MAX:g} s")
        time.sleep(0.002)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
