"""A child that freezes is ended and started again; one that a debugger holds is not."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tenantry import child as child_module
from tenantry.child import Child
from tenantry.domain import pulse
from tenantry.kernel import STOPPED, TRACED, state_of
from tenantry.running import SUPERVISED
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
