"""A whole Tenantry on free loopback ports: real processes, a real store, the sandbox as upstream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from tenantry.control.site import Site, ensure_sandbox_credential, open_site
from tenantry.ledger.booking import already_booked
from tenantry.ledger.events import RunReader
from tenantry.ledger.live import read_live
from tenantry.sandbox.log import read_log
from tenantry.settings import Settings, load_settings
from tenantry.storage.directory import AlreadyThere
from tenantry.storage.directory.tenants import TenantChange
from tenantry.storage.tables import journals, ledger
from tests.patience import PATIENCE_SECONDS, patience_seconds
from tests.spawner import COLD, Process, run, spawn
from tests.template import init_from_template

# After that what a test left running is killed at its end.
STOP_SECONDS = 10.0


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS, what: str = "the condition") -> Any:
    """What the condition says once that is true. `seconds` may ask for more patience than is usual, never for less."""
    began = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        _have_patience(began, what, seconds)
        time.sleep(0.02)


async def until(condition: Callable[[], Any], what: str = "the condition") -> None:
    """`wait_for` in a loop that goes on meanwhile."""
    began = time.monotonic()
    while not condition():
        _have_patience(began, what)
        await asyncio.sleep(0.002)


def _have_patience(began: float, what: str, least: float = PATIENCE_SECONDS) -> None:
    waited = time.monotonic() - began
    if waited > least and waited > patience_seconds(least):
        raise AssertionError(f"{what} did not come true within {waited:.0f} s")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


class Stack:
    """Gateway, control and sandbox of one site below `folder`."""

    def __init__(self, folder: Path, **extra: str) -> None:
        self.folder = folder
        self.cold = COLD  # whether its processes start as they do outside of tests
        gateway, control, sandbox = free_ports(3)
        self.environ = {
            "TENANTRY_DATA_DIR": str(folder / "data"),
            "TENANTRY_GATEWAY_PORT": str(gateway),
            "TENANTRY_CONTROL_PORT": str(control),
            "TENANTRY_SANDBOX_PORT": str(sandbox),
            **extra,
        }
        self.settings: Settings = load_settings(None, self.environ)
        init_from_template(self.settings)
        self.site: Site = open_site(self.settings)
        ensure_sandbox_credential(self.site, f"http://127.0.0.1:{sandbox}", "sandbox-canary-shared")
        self.port = gateway
        self.sandbox_log = self.settings.data_dir / "sandbox.log"
        self.processes: dict[str, Process] = {}

    def start(self, *names: str) -> Stack:
        ports = {"gateway": self.port, "control": self.settings.control_port, "sandbox": self.settings.sandbox_port}
        for name in names or ("sandbox", "gateway", "control"):
            log = (self.folder / f"{name}.log").open("ab")
            self.processes[name] = spawn(
                name, env=os.environ | self.environ, cwd=self.folder, stdout=log, stderr=log, cold=self.cold
            )
            log.close()
        for name in names or ("sandbox", "gateway", "control"):
            wait_for(lambda name=name: self._listens(name, ports[name]), what=f"{name} listening")
        return self

    def _listens(self, name: str, port: int) -> bool:
        """Raises: AssertionError: it has ended already; with the end of what it said."""
        if listens(port):
            return True
        code = self.processes[name].poll()
        if code is not None:
            said = (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]
            raise AssertionError(f"{name} ended with {code} before it listened; its log ends with:\n{said}")
        return False

    def serve(self, log: Path) -> subprocess.Popen[bytes]:
        """`tenantry serve` on this site, as it starts outside of tests; what it says is added to `log`."""
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "tenantry", "serve"],
                env=os.environ | self.environ,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        for name in ("gateway", "control", "sandbox"):
            if name in self.processes:
                process = self.processes.pop(name)
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.site.engine.dispose()

    def tenant(self, slug: str, tier: str = "open", secret: str | None = None, **limits: Any) -> str:
        """A new tenant on the sandbox; its key. With `secret`, on a credential of its own.

        The tier "open" has no limit that a test would meet; `limits` are the tenant's own.
        """
        directory = self.site.directory
        if tier == "open":
            directory.set_tier("open", {"sessions_max": 1000, "requests_per_minute": None})
        directory.create_tenant(slug, slug, tier)
        if secret is not None:
            directory.add_credential(slug, secret, "sandbox")
        directory.bind_credential(slug, slug if secret else "sandbox")
        if limits:
            directory.set_tenant(slug, TenantChange(limits=limits))
        key = directory.issue_key(slug, "test").text
        if "gateway" in self.processes:
            wait_for(lambda: self.get(key, "/v1/models")[0] == 200, what="the key reaching the gateway")
        return key

    def lanes(self) -> dict[str, Any]:
        """What the living gateway says of itself, every second."""
        for gateway in read_live(self.settings.journal_dir):
            if gateway.told is not None:
                uses = {tenant_id: line.use(gateway.read_at) for tenant_id, line in gateway.told.lines.items()}
                told = {"at": gateway.told.at, "tenants": uses, "health": gateway.told.health}
                return msgspec.to_builtins(told)
        return {}

    def rows(self, slug: str | None = None) -> list[dict[str, Any]]:
        query = select(ledger).order_by(ledger.c.entry_id)
        if slug is not None:
            query = query.where(ledger.c.tenant_id == self.site.directory.get_tenant(slug).tenant_id)
        with self.site.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def final_rows(self, slug: str, count: int = 1) -> list[dict[str, Any]]:
        """A tenant's rows once there are so many, and nothing that its requests began is left to be booked."""
        tenant_id = self.site.directory.get_tenant(slug).tenant_id
        wait_for(lambda: len(self.rows(slug)) >= count, what=f"{count} rows")
        wait_for(lambda: not self._unbooked(tenant_id), what=f"the end of all attempts of {slug}, and their rows")
        return self.rows(slug)

    def _unbooked(self, tenant_id: str) -> list[str]:
        """The attempts that stand in the journals, running or over, and not in the ledger."""
        engine, begun = self.site.engine, list[str]()
        with engine.connect() as connection:
            cursors = {row.run_id: (row.file_number, row.offset) for row in connection.execute(select(journals))}
        for folder in self.settings.journal_dir.iterdir():
            reader = RunReader(folder, *cursors.get(folder.name, (1, 0)))
            with contextlib.suppress(
                FileNotFoundError, NotADirectoryError
            ):  # booked to its end, and removed, meanwhile
                reader.read()
            found = [*reader.fold.open.values(), *reader.fold.ended]
            begun += [one.begun.attempt_id for one in found if one.begun.tenant_id == tenant_id]
        with engine.connect() as connection:
            return sorted({*begun} - already_booked(connection, begun))

    def follow(self) -> None:
        """Returns once the gateway knows the directory as it is now: it lets in a key that is issued last."""
        directory = self.site.directory
        with contextlib.suppress(AlreadyThere):
            directory.create_tenant("the-last", "the last", "standard")
        key = directory.issue_key("the-last", "test").text
        wait_for(lambda: self.get(key, "/v1/models")[0] != 401, what="the gateway following the directory")

    def billed(self) -> list[dict[str, Any]]:
        """What the sandbox would have billed."""
        return [entry for entry in read_log(self.sandbox_log) if entry["event"] == "begin"]

    # A client of plain sockets, that sends exactly what it is told

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def raw(self, data: bytes) -> bytes:
        """Send `data`; everything that comes until the gateway closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    def get(self, key: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self.call("GET", path, {"x-api-key": key, **headers})

    def message(self, key: str, scenario: str = "", path: str = "/v1/messages", **fields: Any) -> Any:
        body = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "hi"}],
            **fields,
        }
        return self.call("POST", path, {"x-api-key": key, "x-sandbox-scenario": scenario}, json.dumps(body).encode())

    def call(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        answer = self.raw(request(method, path, {**headers, "connection": "close"}, body))
        return parse(answer, method == "HEAD")


def tenantry(stack: Stack, *words: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line on a site."""
    return run(*words, env=os.environ | stack.environ | environ, cwd=stack.folder, stdin=stdin)


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: gateway.test",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_all(client: socket.socket) -> bytes:
    parts: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


class CutShort(ConnectionError):
    """The connection ended before the answer did, as it does where the gateway is killed."""


def parse(answer: bytes, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and decoded body of one response. Raises: CutShort."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        raise CutShort(answer)
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if fields.get("transfer-encoding") == "chunked" and not head_only:
        body = b"".join(dechunk(body))
    return int(lines[0].split(" ")[1]), fields, body


def dechunk(body: bytes) -> Iterator[bytes]:
    """Raises: CutShort."""
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        length = int(body[at:end], 16)
        if length == 0:
            return
        yield body[end + 2 : end + 2 + length]
        at = end + length + 4
    raise CutShort("the chunked body has no end")
