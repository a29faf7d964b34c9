"""What the tests' spawner starts is a process like any other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spawner import run, spawn
from tests.stack import PATIENCE_SECONDS, free_ports, listens, wait_for


def test_words_environment_and_exit_are_the_commands_own(tmp_path: Path) -> None:
    environ = os.environ | {"TENANTRY_DATA_DIR": str(tmp_path / "data")}
    made = run("init", env=environ, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "data" / "master.key").exists()
    wrong = run("tenants", "nonsense", env=environ, cwd=tmp_path)
    cold = subprocess.run(
        [sys.executable, "-m", "tenantry", "tenants", "nonsense"], env=environ, cwd=tmp_path, capture_output=True
    )
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (2, cold.stdout.decode(), cold.stderr.decode())


def test_a_signal_ends_it_and_is_told(tmp_path: Path) -> None:
    [port] = free_ports(1)
    environ = os.environ | {"TENANTRY_DATA_DIR": str(tmp_path / "data"), "TENANTRY_SANDBOX_PORT": str(port)}
    process = spawn("sandbox", env=environ, cwd=tmp_path)
    wait_for(lambda: listens(port), what="the sandbox listening")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    process.kill()  # no process has this number any more
    assert process.poll() == -signal.SIGKILL


@pytest.mark.parametrize(
    "code",
    [
        "import random\nprint(random.random())\n",
        "from tenantry.gateway.request import new_request_id\nprint(new_request_id())\n",
    ],
)
def test_two_processes_draw_different_names(tmp_path: Path, code: str) -> None:
    (tmp_path / "draw.py").write_text(code)
    drawn: set[str] = set()
    for number in range(2):
        with (tmp_path / f"out-{number}").open("w+b") as out:
            assert spawn(env=os.environ, cwd=tmp_path, stdout=out, module="draw").wait(PATIENCE_SECONDS) == 0
            out.seek(0)
            drawn.add(out.read().decode())
    assert len(drawn) == 2
