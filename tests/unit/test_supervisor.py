"""A child that freezes is ended and started again; one that a debugger holds is not. Restarts, and the end."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tenantry import child as child_module
from tenantry import supervisor as supervisor_module
from tenantry.child import Child
from tenantry.domain import pulse
from tenantry.kernel import STOPPED, TRACED, state_of
from tenantry.running import SUPERVISED
from tenantry.settings import load_settings
from tenantry.supervisor import Supervisor
from tests.stack import PATIENCE_SECONDS, free_ports, listens, until


async def beating(child: Child) -> asyncio.subprocess.Process:
    port = int(os.environ["TENANTRY_SANDBOX_PORT"])
    await until(lambda: child.life is not None and listens(port))
    assert child.life is not None
    pulse = child.life._pulse
    await until(lambda: pulse._has_beaten)
    return child.life.process


def run_on_uvloop(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The loop of the real one."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox's process, the lightest, and a watch that looks more often and waits less."""
    monkeypatch.setenv("TENANTRY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TENANTRY_SANDBOX_PORT", str(free_ports(1)[0]))
    monkeypatch.setattr(child_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(pulse, "SILENCE_SECONDS_MAX", 3.0)
    monkeypatch.delenv(SUPERVISED, raising=False)


def test_a_child_that_is_frozen_is_ended_and_started_again_unless_a_debugger_holds_it(
    quick: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the kernel says of one that is traced; a debugger is not to be had everywhere.
    traced = [TRACED]
    monkeypatch.setattr(child_module, "state_of", lambda pid: state_of(pid).replace(STOPPED, *traced))

    async def run() -> None:
        child = Child("sandbox")
        child.start()
        first = await beating(child)
        os.kill(first.pid, signal.SIGSTOP)
        await until(lambda: bool(caplog.messages))
        os.kill(first.pid, signal.SIGCONT)
        await asyncio.sleep(2.0)  # it beats once a second again
        assert caplog.messages == ["sandbox says nothing: a debugger holds it"]
        traced[:] = [STOPPED]
        os.kill(first.pid, signal.SIGSTOP)
        await until(lambda: child.life is not None and child.life.process is not first)
        assert first.returncode == -signal.SIGKILL
        await child.stop(PATIENCE_SECONDS, asyncio.Event())

    with caplog.at_level(logging.ERROR):
        run_on_uvloop(run)
    assert caplog.messages[1].startswith("sandbox is frozen: for 3 s it has said nothing")
    assert caplog.messages[2].startswith("sandbox was ended by SIGKILL; starting it again")


def test_a_restart_that_was_asked_for_is_no_error_and_does_not_count_as_an_end(
    quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        child = Child("sandbox")
        child.start()
        for _ in range(2):
            before = await beating(child)
            await child.renew(PATIENCE_SECONDS)
            await until(lambda before=before: child.life is not None and child.life.process is not before)
        assert child.ends == 0
        os.kill((await beating(child)).pid, signal.SIGKILL)
        await until(lambda: len(caplog.messages) == 3)
        await child.stop(PATIENCE_SECONDS, asyncio.Event())

    with caplog.at_level(logging.INFO, "tenantry.serve"):
        run_on_uvloop(run)
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "sandbox has stopped, and is started anew"),
        ("INFO", "sandbox has stopped, and is started anew"),
        ("ERROR", "sandbox was ended by SIGKILL; starting it again in 0.2 s"),
    ]


class Seat:
    """A gateway of a `serve`, which is replaced when it is told that it may be."""

    may_come: asyncio.Event
    started: list[int]
    replaced: list[int]

    def __init__(self, name: str, _listener: object, _data_dir: Path, seat: int, seats: int) -> None:
        self.name, self.seats, self.has_lives, self._seat = name, seats, False, seat

    def start(self) -> None:
        Seat.started.append(self._seat)

    async def replace(self) -> bool:
        Seat.replaced.append(self._seat)
        await Seat.may_come.wait()
        return True

    def leave_to_others(self) -> None:
        """It is not looked after any more."""


class Renewed:
    """Control, which is started anew after gateways."""

    async def renew(self, _seconds: float) -> None:
        return


@pytest.fixture
def seats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Supervisor]:
    """A supervisor with so many gateways, whose settings say one number after the other."""

    def make(count: int, *numbers: int) -> Supervisor:
        settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path)})
        said = iter(numbers)
        found = Supervisor(settings, lambda: replace(settings, gateway_processes=next(said)))
        Seat.may_come, Seat.started, Seat.replaced = asyncio.Event(), [], []
        monkeypatch.setattr(supervisor_module, "Child", Seat)
        monkeypatch.setattr(found, "_children", {"control": Renewed()})
        found._start_gateways(count)
        Seat.started.clear()
        return found

    return make


@pytest.mark.parametrize(("before", "numbers"), [(1, (3, 3)), (2, (3, 1)), (3, (1, 3))])
def test_restarts_that_are_asked_for_at_once_come_one_after_the_other(
    seats: Callable[..., Supervisor], before: int, numbers: tuple[int, int]
) -> None:
    async def run() -> None:
        supervisor = seats(before, *numbers)
        both = [asyncio.create_task(supervisor._restart()) for _ in numbers]
        await until(lambda: bool(Seat.replaced))
        await asyncio.sleep(0)  # the second one has asked
        assert Seat.replaced == [0]
        Seat.may_come.set()
        assert await asyncio.gather(*both) == ["", ""]
        assert [one._seat for one in supervisor._gateways] == [*range(numbers[1])]
        assert all(one.seats == numbers[1] for one in supervisor._gateways)

    run_on_uvloop(run)


def test_nothing_is_restarted_once_serve_is_stopping(seats: Callable[..., Supervisor]) -> None:
    async def run() -> None:
        supervisor = seats(2, 3, 3)
        under_way = asyncio.create_task(supervisor._restart())
        await until(lambda: bool(Seat.replaced))
        supervisor._stop.set()
        Seat.may_come.set()
        words = "nothing was restarted: `tenantry serve` is stopping"
        assert [await under_way, await supervisor._restart()] == [words, words]
        assert (Seat.replaced, Seat.started) == ([0], [])

    run_on_uvloop(run)


def test_a_child_that_was_stopped_is_not_replaced(quick: None) -> None:
    async def run() -> None:
        child = Child("sandbox")
        child.start()
        await beating(child)
        await child.stop(PATIENCE_SECONDS, asyncio.Event())
        assert not await child.replace()
        assert not child.has_lives

    run_on_uvloop(run)
