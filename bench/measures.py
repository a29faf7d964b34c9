"""How each thing is measured: a load from the outside, and the processor time that the system took for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.client import body_bytes
from bench.processes import pin, resident_kib
from bench.systems import OTHER_CORE, System

Figures = dict[str, float]
CONNECTIONS = 32
STREAMS = 200
HELD_STREAMS = 1000
WARM_UP_SECONDS = 1


def wrk(system: System, script: Path, seconds: float) -> Figures:
    """CPU us a request of the proxy and of control, and how long a request takes with 32 connections busy."""
    words = [*pin(OTHER_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", "--latency", "-s", str(script)]
    environ = os.environ | {"KEY": system.proxy.key}

    def run(for_seconds: float) -> str:
        command = [*words, f"-d{for_seconds:g}s", f"http://127.0.0.1:{system.proxy.port}/v1/messages"]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout

    run(WARM_UP_SECONDS)
    before = system.cpu()
    out = run(seconds)
    after = system.cpu()
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{system.name}: {out}")
    requests = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    return _cpu(before, after, requests) | {"p50_ms": _ms(out, "50%"), "p99_ms": _ms(out, "99%")}


def streams(system: System, core: int | None = OTHER_CORE) -> Figures:
    """CPU us a stream, times to the first byte, and what a chunk takes from the upstream to the client."""
    before = system.cpu()
    found = _json(
        *pin(core), sys.executable, "-m", "bench.load", str(system.proxy.port), system.proxy.key, str(STREAMS)
    )
    if found["complete"] != STREAMS:
        raise SystemExit(f"{system.name}: only {found['complete']} of {STREAMS} streams were complete")
    return _cpu(before, system.cpu(), STREAMS) | found


def paced(system: System, kind: str, rate: float, seconds: float, keys: Path) -> Figures:
    """How long a request takes at this rate (`whole`), or its first byte (`stream`)."""
    words = (str(system.proxy.port), str(rate), str(seconds), kind, str(keys))
    return _json(*pin(OTHER_CORE), sys.executable, "-m", "bench.paced", *words)


def memory(system: System) -> Figures:
    """KiB for each of a thousand open streams, the most seen over their life."""
    before = resident_kib(system.proxy.process)
    command = [sys.executable, "-m", "bench.load", str(system.proxy.port), system.proxy.key, str(HELD_STREAMS)]
    with subprocess.Popen([*pin(OTHER_CORE), *command], stdout=subprocess.DEVNULL) as load:
        most = before
        while load.poll() is None:
            most = max(most, resident_kib(system.proxy.process))
            time.sleep(0.1)
    return {"kib": (most - before) / HELD_STREAMS}


def medians(rounds: list[Figures]) -> Figures:
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


def keys_file(folder: Path, keys: list[str]) -> Path:
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".keys", delete=False) as file:
        file.write("\n".join(keys))
    return Path(file.name)


def lua(folder: Path, prompt_bytes: int, keys: Path | None = None) -> Path:
    """A wrk script that posts a prompt of this size, with the strings that code has in it; under `keys` in turn."""
    (folder / f"{prompt_bytes}.json").write_bytes(body_bytes(prompt_bytes))
    script = folder / f"{prompt_bytes}.lua"
    script.write_text(
        f'wrk.method = "POST"\nlocal f = io.open("{folder}/{prompt_bytes}.json")\nwrk.body = f:read("*a")\n'
        'wrk.headers["content-type"] = "application/json"\nwrk.headers["anthropic-version"] = "2023-06-01"\n'
        'wrk.headers["x-api-key"] = os.getenv("KEY")\n'
    )
    if keys is not None:
        head, script = script.read_text(), folder / f"{keys.stem}.lua"
        script.write_text(
            f'{head}local keys = {{}}\nfor line in io.lines("{keys}") do keys[#keys + 1] = line end\n'
            "local turn = 0\nrequest = function()\n  turn = turn % #keys + 1\n"
            '  wrk.headers["x-api-key"] = keys[turn]\n  return wrk.format()\nend\n'
        )
    return script


def _cpu(before: tuple[float, float], after: tuple[float, float], count: int) -> Figures:
    proxy, control = ((after[part] - before[part]) / count * 1e6 for part in (0, 1))
    return {"proxy_us": proxy, "control_us": control, "cpu_us": proxy + control}


def _ms(out: str, share: str) -> float:
    value, unit = re.search(rf"{share} +([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def _json(*command: str) -> dict[str, Any]:
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
