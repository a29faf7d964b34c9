"""The next release takes over from this one, process by process, under load, and no request fails."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests import postgresql, releases
from tests.acceptance.test_restart import gateways
from tests.callers import Callers
from tests.spawner import Process, run, spawn
from tests.stack import PATIENCE_SECONDS, Stack, free_ports, tenantry, wait_for

# Between two steps of an upgrade, at each gateway.
CALLS = 6


class Fleet:
    """Two gateways, `a` and `b`, each on a port of its own, and a control; a part of them of the next release."""

    def __init__(self, folder: Path, url: str) -> None:
        self.stack = Stack(folder, TENANTRY_STORE_URL=url, TENANTRY_CLUSTER="true", TENANTRY_DRAIN_SECONDS="3")
        self.next = {"PYTHONPATH": str(releases.make_next(folder / "next"))}
        self.ports = dict(zip("ab", (self.stack.port, *free_ports(1)), strict=True))
        self.processes: list[Process] = []
        self.stack.start("sandbox", "control")
        for name in self.ports:
            self.start(name)

    def start(self, name: str, **environ: str) -> Process:
        """A gateway; it takes the place of the one that serves its port."""
        log = self.stack.folder / f"gateway-{name}.log"
        before = self.told(name)
        port = {"TENANTRY_GATEWAY_PORT": str(self.ports[name])}
        with log.open("ab") as file:
            env = os.environ | self.stack.environ | port | environ
            process = spawn("gateway", env=env, cwd=self.stack.folder, stdout=file, stderr=file, cold=bool(environ))
        self.processes.append(process)
        wait_for(lambda: self.told(name) > before or process.poll() is not None, what=f"gateway {name} listening")
        assert process.poll() is None, log.read_text()
        return process

    def told(self, name: str) -> int:
        log = self.stack.folder / f"gateway-{name}.log"
        return log.read_text().count("gateway listening") if log.exists() else 0

    def start_control(self, **environ: str) -> None:
        """In the place of the one that runs."""
        before = dict(self.stack.environ)
        assert self.stack.kill("control", signal.SIGTERM) == 0
        self.stack.environ |= environ
        self.stack.cold = bool(environ)
        self.stack.start("control")
        self.stack.environ, self.stack.cold = before, False

    def init(self) -> str:
        """`tenantry init` of the next release."""
        env = os.environ | self.stack.environ | self.next
        done = run("init", env=env, cwd=self.stack.folder, cold=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.stack.stop()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    name = f"rolling_{os.getpid()}"
    made = Fleet(tmp_path, postgresql.migrated_database(name))
    yield made
    made.stop()
    postgresql.drop_database(name)


def calling(callers: list[Callers]) -> None:
    """Returns when each has called some more."""
    for one, before in [(one, one.done) for one in callers]:
        wait_for(lambda one=one, before=before: one.done > before + CALLS, what="calls between two steps")


def stop_all(callers: list[Callers]) -> None:
    for one in callers:
        one.stop()
    assert [failed for one in callers for failed in one.failed] == []


@pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed")
def test_no_request_fails_while_gateways_and_control_are_upgraded_one_after_another(fleet: Fleet) -> None:
    stack = fleet.stack
    keys = [stack.tenant("acme", secret="sandbox-canary-acme"), stack.tenant("beta", secret="sandbox-canary-beta")]
    for slug in ("acme", "beta"):
        stack.site.directory.set_budgets(slug, {"month": 10**12})
    for key in keys:
        wait_for(lambda key=key: stack.message(key)[0] == 200, what="an answer")
    # Either tenant at either gateway: half of the requests are passed on.
    callers = [Callers(fleet.ports[name], key, workers=1) for name, key in zip("abba", keys * 2, strict=True)]
    try:
        calling(callers)
        said = fleet.init()
        assert "The last step of the schema (9001) waits for what still runs in an earlier version" in said
        calling(callers)
        fleet.start_control()  # of this release, which died in the middle of the upgrade
        assert "go on with the upgrade" in tenantry(stack, "doctor").stdout
        fleet.start_control(**fleet.next)
        for name in fleet.ports:
            calling(callers)
            before = fleet.processes[0 if name == "a" else 1]
            fleet.start(name, **fleet.next)
            calling(callers)
            assert before.wait(PATIENCE_SECONDS) == 0
        calling(callers)
    finally:
        stop_all(callers)
    stack.site.engine.dispose()  # the last of this release
    assert "waits" not in fleet.init()
    with stack.site.engine.connect() as connection:
        notes = connection.execute(text("SELECT note FROM gateways WHERE note IS NOT NULL")).scalars().all()
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9001"
    assert set(notes) == {releases.NOTE}
    wait_for(lambda: len(stack.rows()) == len(stack.billed()), what="the rows")
    assert {row["outcome"] for row in stack.rows()} == {"settled"}
    assert len({row["attempt_id"] for row in stack.rows()}) == len(stack.billed())
    refused = tenantry(stack, "tenants", "list")
    assert refused.returncode == 1
    assert "that of a later version of Tenantry. Install that version" in refused.stderr


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[tuple[Stack, Path, subprocess.Popen[bytes]]]:
    """A site that `serve` runs from a folder whose release can be exchanged, as an installation's is."""
    installed = tmp_path / "installed"
    installed.symlink_to(Path(__file__).parents[2] / "src")
    stack = Stack(tmp_path, TENANTRY_DRAIN_SECONDS="3", PYTHONPATH=str(installed))
    process = stack.serve(tmp_path / "serve.log")
    try:
        wait_for(lambda: "serving on" in (tmp_path / "serve.log").read_text(), what="serving")
        yield stack, installed, process
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        for pid in gateways(stack):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        stack.stop()


def test_serve_is_upgraded_by_a_signal_on_sqlite(
    upgraded: tuple[Stack, Path, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    stack, installed, process = upgraded
    key = stack.tenant("acme")
    stack.site.directory.set_budgets("acme", {"month": 10**12})
    wait_for(lambda: stack.message(key)[0] == 200, what="an answer")
    (before,) = gateways(stack)
    following = releases.make_next(tmp_path / "next")
    callers = [Callers(stack.port, key, workers=2)]
    try:
        calling(callers)
        installed.unlink()
        installed.symlink_to(following)
        said = init(stack)
        assert f"  process {before}" in said
        assert "Restart those, then `tenantry init` again" in said
        calling(callers)
        process.send_signal(signal.SIGHUP)
        log = tmp_path / "serve.log"
        wait_for(lambda: "the new gateway serves" in log.read_text(), what="the new gateway")
        calling(callers)
        wait_for(lambda: before not in gateways(stack), what="the old gateway's end")
    finally:
        stop_all(callers)
    assert releases.NOTE in log.read_text()
    wait_for(lambda: "waits" not in init(stack), what="the old control's end")
    wait_for(lambda: len(stack.rows("acme")) == len(stack.billed()), what="the rows")
    assert {row["outcome"] for row in stack.rows("acme")} == {"settled"}


def init(stack: Stack) -> str:
    env = os.environ | stack.environ
    command = [sys.executable, "-m", "tenantry", "init"]
    return subprocess.run(command, env=env, cwd=stack.folder, capture_output=True, text=True, check=True).stdout
