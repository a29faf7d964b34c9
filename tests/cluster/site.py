"""Three gateways on two machines, two control processes, PostgreSQL and HAProxy: real processes on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, select
from sqlalchemy.exc import SQLAlchemyError

from tenantry.storage.cell_tables import cell_tenants, cells
from tenantry.storage.directory import AlreadyThere
from tenantry.storage.directory.tenants import TenantChange
from tests import postgresql
from tests.cluster.haproxy import HAProxy
from tests.cluster.link import Link
from tests.spawner import Process, spawn
from tests.stack import PATIENCE_SECONDS, Stack, free_ports, listens, parse, read_all, request, wait_for
from tests.storm.upstream import Upstream

# Which machine each process runs on.
GATEWAYS = {"one": "a", "two": "a", "three": "b"}
CONTROLS = {"control-a": "a", "control-b": "b"}
# The others' addresses of a machine: its own, so that gateways speak TLS as between machines.
ADDRESSES = {"a": "127.0.0.2", "b": "127.0.0.3"}
# Small enough that a budget of some calls is taken in many steps.
ENVELOPE_USD = "0.01"
STORE_AWAY = "the database cannot be used"


class Cluster:
    """A site below `folder`. `machines` are its folders, each with journals of its own; the store is common."""

    def __init__(self, folder: Path, lease_seconds: float) -> None:
        self.folder, self.lease_seconds = folder, lease_seconds
        self.server = postgresql.start(settings=postgresql.KEEPING)
        self.upstream = Upstream()
        self.links = {name: Link(self.server.port) for name in GATEWAYS}
        self.ports = dict(zip((*GATEWAYS, *CONTROLS), free_ports(len(GATEWAYS) + len(CONTROLS)), strict=True))
        self.machines = self._machines()
        self.site = self.machines["a"].site
        self.processes: dict[str, Process] = {}
        self.haproxy = HAProxy(folder, [self.ports[name] for name in GATEWAYS])
        for name in (*CONTROLS, *GATEWAYS):
            self.spawn(name)
        for name in (*CONTROLS, *GATEWAYS):
            self.await_listening(name)

    def _machines(self) -> dict[str, Stack]:
        common = {
            "TENANTRY_STORE_URL": self.server.url,
            "TENANTRY_CLUSTER": "true",
            "TENANTRY_LEASE_SECONDS": str(self.lease_seconds),
            "TENANTRY_ENVELOPE_USD": ENVELOPE_USD,
        }
        found: dict[str, Stack] = {}
        for name, address in ADDRESSES.items():
            folder = self.folder / name
            data = folder / "data"
            data.mkdir(parents=True, mode=0o700)
            if found:  # one site has one master key, on each machine
                first = next(iter(found.values())).settings.master_key_file
                shutil.copy2(first, data / first.name)
            found[name] = Stack(folder, TENANTRY_PEER_HOST=address, **common)
        return found

    # Processes

    def spawn(self, name: str) -> None:
        """Start a gateway or a control process."""
        machine = self.machines[GATEWAYS.get(name) or CONTROLS[name]]
        environ = os.environ | machine.environ
        if name in GATEWAYS:
            url = make_url(self.server.url).set(port=self.links[name].port)
            environ |= {"TENANTRY_GATEWAY_PORT": str(self.ports[name])}
            environ |= {"TENANTRY_STORE_URL": url.render_as_string(hide_password=False)}
        else:
            environ |= {"TENANTRY_CONTROL_PORT": str(self.ports[name])}
        with (self.folder / f"{name}.log").open("ab") as log:
            word = "gateway" if name in GATEWAYS else "control"
            self.processes[name] = spawn(word, env=environ, cwd=machine.folder, stdout=log, stderr=log)

    def await_listening(self, name: str) -> None:
        """What finds the store away when it starts says so and ends; it is started again, as a service is.

        Raises: AssertionError: it has ended for another reason; with the end of what it said.
        """

        def is_there() -> bool:
            code = self.processes[name].poll()
            if code is not None:
                said = self.told(name)[-4000:]
                assert STORE_AWAY in said.splitlines()[-1], f"{name} ended with {code}:\n{said}"
                self.spawn(name)
            return listens(self.ports[name])

        wait_for(is_there, what=f"{name} listening")

    def told(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait(PATIENCE_SECONDS)

    def signal(self, name: str, number: int) -> None:
        self.processes[name].send_signal(number)

    def run_id(self, name: str) -> str:
        """The life of a gateway's process, as the store names it."""
        mark = f"-{self.processes[name].pid}"
        runs = self.machines[GATEWAYS[name]].settings.journal_dir.iterdir()
        return max((one.name for one in runs if one.name.endswith(mark)), default="")

    # PostgreSQL

    def backends(self) -> list[int]:
        return children(self.server.process.pid)

    def freeze(self) -> list[int]:
        """Stop every process of the server, the one that starts others first. They have to be thawed."""
        frozen = [self.server.process.pid, *self.backends()]
        for pid in frozen:
            send(pid, signal.SIGSTOP)
        return frozen

    def thaw(self, frozen: list[int]) -> None:
        for pid in reversed(frozen):
            send(pid, signal.SIGCONT)

    def kill_server(self) -> None:
        """Its postmaster; then it is started again on what was left."""
        left = self.backends()
        self.server.process.kill()
        self.server.process.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), what="its processes seeing that")
        self.server.launch()

    def kill_backend(self, number: int) -> None:
        """One of its processes, whose death makes it restart all."""
        found = self.backends()
        if found:
            send(found[number % len(found)], signal.SIGKILL)

    # Who grants

    def owners(self) -> dict[str, str]:
        """By slug, the gateway that a tenant's cell is owned by; "" for one that is none of the living.

        Waits for PostgreSQL, where that has just been killed.
        """
        found: dict[str, str] = wait_for(self._owners, what="the store answering")
        return found

    def _owners(self) -> dict[str, str] | None:
        names = {self.run_id(name): name for name in GATEWAYS if name in self.processes}
        query = select(cell_tenants.c.tenant_id, cells.c.gateway_id).join(cells, cells.c.name == cell_tenants.c.cell)
        try:
            with self.site.engine.connect() as connection:
                found = {row.tenant_id: row.gateway_id for row in connection.execute(query)}
            tenants = self.site.directory.list_tenants()
        except SQLAlchemyError:
            return None
        return {one.slug: names.get(found.get(one.tenant_id, "-"), "") for one in tenants}

    def tenant(self, slug: str, budget_nanos: int | None = None, **limits: Any) -> str:
        """A tenant with a credential of its own; its key. To be followed by `follow`."""
        directory = self.site.directory
        with contextlib.suppress(AlreadyThere):
            directory.set_upstream("counted", self.upstream.url)
        directory.add_credential(slug, f"secret-of-{slug}", "counted")
        wide = {"sessions_max": 1000, "queue_depth_max": 1000, "requests_per_minute": 1_000_000, "request_burst": 1000}
        return self._tenant(slug, budget_nanos, wide | limits)

    def _tenant(self, slug: str, budget_nanos: int | None, limits: dict[str, Any]) -> str:
        directory = self.site.directory
        directory.create_tenant(slug, slug, "enterprise")
        directory.bind_credential(slug, slug)
        directory.set_tenant(slug, TenantChange(limits=limits))
        if budget_nanos is not None:
            directory.set_budgets(slug, {"month": budget_nanos}, "hard")
        return directory.issue_key(slug, "cluster").text

    def follow(self) -> None:
        """Returns once every gateway that runs knows the directory as it is now."""
        directory = self.site.directory
        with contextlib.suppress(AlreadyThere):
            directory.create_tenant("the-last", "the last", "standard")
        key = directory.issue_key("the-last", "test").text
        for name in GATEWAYS:
            if name in self.processes:
                wait_for(lambda name=name: self._knows(name, key), what=f"gateway {name} following the directory")

    def _knows(self, name: str, key: str) -> bool:
        """A request that every gateway refuses on its body tells, and claims nothing."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            return self.post(name, key, b"{")[0] not in (401, 503)
        return False

    def post(self, name: str, key: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """A message at one gateway."""
        with socket.create_connection(("127.0.0.1", self.ports[name]), timeout=PATIENCE_SECONDS) as client:
            client.sendall(request("POST", "/v1/messages", {"x-api-key": key, "connection": "close"}, body))
            return parse(read_all(client))

    def stop(self) -> None:
        for name, process in self.processes.items():
            if name in GATEWAYS:
                self.links[name].mend()
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            process.wait(PATIENCE_SECONDS)
        self.haproxy.stop()
        for machine in self.machines.values():
            machine.stop()
        for link in self.links.values():
            link.close()
        self.upstream.close()
        self.server.stop()


@contextlib.contextmanager
def running(folder: Path, lease_seconds: float) -> Iterator[Cluster]:
    found = Cluster(folder, lease_seconds)
    try:
        yield found
    finally:
        found.stop()


def children(pid: int) -> list[int]:
    """The processes that `pid` has started, the eldest first."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return sorted(found)


def send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def pause(seconds: float) -> None:
    """Let time pass, where that is what is tried."""
    time.sleep(seconds)
