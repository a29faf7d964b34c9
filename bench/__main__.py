"""One run, one machine: CPU per request, added latency and memory of nginx, aiohttp and Tenantry side by side."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench.client import body_bytes
from bench.processes import Proxy, cpu_seconds, free_port, resident_kib, start, start_upstream, stop
from bench.site import make_store, start_gateway

SECONDS = int(os.environ.get("BENCH_SECONDS", "6"))
CONNECTIONS = 32
STREAMS = 200
HELD_STREAMS = 1000

NGINX = """
worker_processes 1; daemon off; master_process off; error_log stderr crit; pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 512k; tcp_nodelay on; keepalive_requests 10000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 10000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{
    proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
}}
"""


def start_tenantry(
    folder: Path, upstream: int, others: int = 0, capacity: dict[str, int] | None = None
) -> tuple[Proxy, list[str]]:
    """A gateway on a store of its own, and the keys of its other tenants."""
    stored = make_store(folder, upstream, others=others, capacity=capacity)
    return start_gateway(stored), stored.others


def wrk(proxy: Proxy, script: Path) -> dict[str, float]:
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{SECONDS}s",
        "--latency",
        "-s",
        str(script),
        f"http://127.0.0.1:{proxy.port}/v1/messages",
    ]
    subprocess.run(
        [*command[:3], "-d1s", *command[4:]], check=True, capture_output=True, env=os.environ | {"KEY": proxy.key}
    )
    before = cpu_seconds(proxy.process)
    out = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"KEY": proxy.key}
    ).stdout
    used = cpu_seconds(proxy.process) - before
    requests = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    if "Non-2xx" in out:
        raise SystemExit(f"{proxy.name}: {out}")
    return {
        "cpu_us": used / requests * 1e6,
        "rps": requests / SECONDS,
        "p50_ms": _ms(out, "50%"),
        "p99_ms": _ms(out, "99%"),
    }


def _ms(out: str, share: str) -> float:
    value, unit = re.search(rf"{share} +([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def streams(proxy: Proxy) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.load", str(proxy.port), proxy.key, str(STREAMS)]
    before = cpu_seconds(proxy.process)
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    used = cpu_seconds(proxy.process) - before
    if result["complete"] != STREAMS:
        raise SystemExit(f"{proxy.name}: only {result['complete']} of {STREAMS} streams were complete")
    return {"cpu_us": used / STREAMS * 1e6, "p50_ms": result["p50_ms"], "p99_ms": result["p99_ms"]}


def memory(proxy: Proxy) -> dict[str, float]:
    """KiB for each of a thousand open streams, the most seen over their life."""
    before = resident_kib(proxy.process)
    command = [sys.executable, "-m", "bench.load", str(proxy.port), proxy.key, str(HELD_STREAMS)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:
        most = before
        while load.poll() is None:
            most = max(most, resident_kib(proxy.process))
            time.sleep(0.1)
    return {"kib": (most - before) / HELD_STREAMS}


def lua(folder: Path, prompt_bytes: int, keys: list[str] | None = None) -> Path:
    """A wrk script that posts a prompt of this size, with the strings that code has in it; under `keys` in turn."""
    (folder / f"{prompt_bytes}.json").write_bytes(body_bytes(prompt_bytes))
    script = folder / f"{prompt_bytes}.lua"
    script.write_text(
        f'wrk.method = "POST"\nlocal f = io.open("{folder}/{prompt_bytes}.json")\nwrk.body = f:read("*a")\n'
        'wrk.headers["content-type"] = "application/json"\nwrk.headers["anthropic-version"] = "2023-06-01"\n'
        'wrk.headers["x-api-key"] = os.getenv("KEY")\n'
    )
    if keys:
        (folder / "keys.txt").write_text("\n".join(keys))
        script = folder / "turns.lua"
        script.write_text(
            (folder / f"{prompt_bytes}.lua").read_text()
            + f'local keys = {{}}\nfor line in io.lines("{folder}/keys.txt") do keys[#keys + 1] = line end\n'
            "local turn = 0\nrequest = function()\n  turn = turn % #keys + 1\n"
            '  wrk.headers["x-api-key"] = keys[turn]\n  return wrk.format()\nend\n'
        )
    return script


def main() -> None:
    for tool in ("nginx", "wrk"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed: apt-get install nginx-light wrk")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        proxies: list[Proxy] = []
        upstream = start_upstream()
        up = upstream.port
        try:
            port = free_port()
            (folder / "nginx.conf").write_text(NGINX.format(folder=folder, upstream=up, port=port))
            proxies.append(start("nginx", port, "nginx", "-p", name, "-c", str(folder / "nginx.conf")))
            port = free_port()
            proxies.append(
                start("aiohttp", port, sys.executable, "-m", "bench.aiohttp_proxy", str(port), f"http://127.0.0.1:{up}")
            )
            proxies.append(start_tenantry(folder, up)[0])
            report(folder, upstream, proxies)
            report_tenants(folder, up)
            report_fairness(folder, up)
        finally:
            for proxy in (*proxies, upstream):
                stop(proxy)


def report(folder: Path, upstream: Proxy, proxies: list[Proxy]) -> None:
    small, large = lua(folder, 900), lua(folder, 200_000)
    print(f"# {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {SECONDS} s a case\n", flush=True)
    cases: list[tuple[str, Callable[[Proxy], dict[str, float]]]] = [
        ("1 KB in, 1 KB out, 32 connections", lambda proxy: wrk(proxy, small)),
        ("200 KB in, 1 KB out, 32 connections", lambda proxy: wrk(proxy, large)),
        ("stream, 100 chunks at 20 ms, 200 at once", streams),
    ]
    for title, measure in cases:
        print(f"{title}\n\n| | CPU us/request | x nginx | p50 ms | p99 ms | added p50 ms |\n|---|---|---|---|---|---|")
        direct = measure(upstream)
        print(f"| direct | | | {direct['p50_ms']:.2f} | {direct['p99_ms']:.2f} | |")
        base = 0.0
        for proxy in proxies:
            found = measure(proxy)
            base = base or found["cpu_us"]
            print(
                f"| {proxy.name} | {found['cpu_us']:.0f} | {found['cpu_us'] / base:.1f} | {found['p50_ms']:.2f} "
                f"| {found['p99_ms']:.2f} | {found['p50_ms'] - direct['p50_ms']:.2f} |",
                flush=True,
            )
        print()
    print(f"memory, {HELD_STREAMS} streams open\n\n| | KiB a stream |\n|---|---|")
    for proxy in proxies:
        print(f"| {proxy.name} | {memory(proxy)['kib']:.1f} |", flush=True)


def report_tenants(folder: Path, upstream: int) -> None:
    """What a tenant more in the store costs a request: one busy, and up to a hundred busy in turn."""
    print("\nTenants in the store, 1 KB, 32 connections\n")
    print("| tenants | one busy, CPU us | a hundred in turn, CPU us |\n|---|---|---|")
    for count in (1, 100, 10_000):
        proxy, keys = start_tenantry(folder, upstream, count)
        try:
            one = wrk(proxy, lua(folder, 900))["cpu_us"]
            turns = wrk(proxy, lua(folder, 900, keys[:100]))["cpu_us"]
        finally:
            stop(proxy)
        print(f"| {count:,} | {one:.0f} | {turns:.0f} |", flush=True)


def report_fairness(folder: Path, upstream: int) -> None:
    """One tenant at a hundred times its share of an upstream of 600 requests a minute, and nine normal ones."""
    capacity = {"requests_per_minute": 600, "request_burst": 10}
    proxy, keys = start_tenantry(folder, upstream, 10, capacity)
    command = [sys.executable, "-m", "bench.fairness", str(proxy.port), "20", *keys]
    try:
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        stop(proxy)
    print(
        "\nOne tenant at 100x its share of 600 requests a minute, nine normal\n\n"
        "| nine: served | Jain | wait p50 ms | wait p99 ms | noisy: asked | served |\n|---|---|---|---|---|---|\n"
        f"| {found['served_percent']:.1f} % | {found['jain']:.3f} | {found['p50_ms']:.0f} | {found['p99_ms']:.0f} "
        f"| {found['noisy_asked']} | {found['noisy_served']} |"
    )


if __name__ == "__main__":
    main()
