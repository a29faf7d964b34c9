"""What the back office takes: `python -m bench.office [TENANTS] [LINES] [CLIENTS]` (default 10,000, 20,000 and 300).

Each line is one whole command, as it is typed: `plan` and `apply` of a file of so many tenants, `plan` again, `import
env-file` of so many lines, and `provision --from` of so many clients with their live checks against a gateway and a
sandbox on this machine. Wall-clock time and the command's own CPU time are told; a busy machine changes only the first.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

TENANTS, LINES, CLIENTS = 10_000, 20_000, 300
_TENANT = """[tenants.t{0}]
name = "Tenant {0}"
credential = "env:KEY_{0}"
[tenants.t{0}.budget]
month_usd = "50.00"
[tenants.t{0}.keys.production]
"""


def main() -> None:
    given = [int(word) for word in sys.argv[1:]]
    tenants, lines, clients = (*given, *(TENANTS, LINES, CLIENTS)[len(given) :])
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as name:
        _declare(Path(name, "declare"), tenants)
        _import(Path(name, "import"), lines)
        _provision(Path(name, "provision"), clients)


def _declare(folder: Path, count: int) -> None:
    environ = _environ(folder)
    # By file: so many variables do not fit into an environment.
    for number in range(count):
        (folder / f"key{number}").write_text(f"sk-ant-api03-bench-{number:08d}")
    text = "".join(_TENANT.format(number) for number in range(count)).replace("env:KEY_", "file:key")
    (folder / "tenants.toml").write_text(text)
    _run(folder, environ, "init")
    _timed(folder, environ, f"plan, {count:,} new tenants", "plan")
    _timed(
        folder, environ, f"apply, {count:,} new tenants", *["apply", "--yes", "--no-probe", "--keys-out", "keys.jsonl"]
    )
    _timed(folder, environ, f"plan, {count:,} tenants that stand", "plan")


def _import(folder: Path, count: int) -> None:
    environ = _environ(folder)
    keys = "".join(f"TENANT_T{number}_KEY=old-proxy-key-{number:012d}\n" for number in range(count - 1))
    (folder / "proxy.env").write_text("ANTHROPIC_API_KEY=sk-ant-api03-bench\n" + keys)
    _timed(folder, environ, f"import env-file, {count:,} lines", *["import", "env-file", "proxy.env", "--out", "out"])


def _provision(folder: Path, count: int) -> None:
    environ = _environ(folder)
    rows = "".join(f"Client {number},vault:sandbox\n" for number in range(count))
    (folder / "clients.csv").write_text("name,credential\n" + rows)
    _run(folder, environ, "init")
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "tenantry", "serve", "--demo"]
        serving = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        _wait_for(folder / "log", b"What it used")
        _timed(folder, environ, f"provision --from, {count:,} clients, live", "provision", "--from", "clients.csv")
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(60)


def _environ(folder: Path) -> Mapping[str, str]:
    folder.mkdir()
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        ports: list[int] = []
        for each in (one, two, three):
            each.bind(("127.0.0.1", 0))
            ports.append(each.getsockname()[1])
    names = ("GATEWAY", "CONTROL", "SANDBOX")
    own = {f"TENANTRY_{name}_PORT": str(port) for name, port in zip(names, ports, strict=True)}
    kept = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
    return {**kept, **own, "TENANTRY_DATA_DIR": str(folder / "data")}


def _run(folder: Path, environ: Mapping[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "tenantry", *words]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or "Traceback" in done.stderr or (done.returncode == 1 and words[0] != "plan"):
        raise SystemExit(f"{' '.join(words)}: {done.returncode}\n{done.stderr[-2000:]}")


def _timed(folder: Path, environ: Mapping[str, str], what: str, *words: str) -> None:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    _run(folder, environ, *words)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what:45} {seconds:6.1f} s, {spent:6.1f} s of CPU", flush=True)


def _wait_for(log: Path, words: bytes) -> None:
    for _ in range(600):
        if words in log.read_bytes():
            return
        time.sleep(0.1)
    raise SystemExit(f"it does not serve:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    main()
