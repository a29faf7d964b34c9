"""Wheels, as `pip install .` makes them: where nothing can be compiled they are interpreted, and say why."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_COMPILER = {"CC": "no-such-compiler"}


def build(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        (NO_COMPILER, "no C compiler was found where it was built"),
        ({"TENANTRY_COMPILE": "no"}, "it was built with TENANTRY_COMPILE=no"),
    ],
)
def test_a_wheel_that_is_not_compiled_says_why(tmp_path: Path, environ: dict[str, str], why: str) -> None:
    done = build(tmp_path, **environ)
    assert done.returncode == 0
    assert why in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as files:
        assert files.read("tenantry/form.txt").decode() == f"interpreted: {why}\n"
        assert not [name for name in files.namelist() if name.endswith(".so")]
        assert "tenantry/gateway/exchange.py" in files.namelist()


def test_who_asks_for_a_compiled_wheel_gets_no_other(tmp_path: Path) -> None:
    done = build(tmp_path, TENANTRY_COMPILE="yes", **NO_COMPILER)
    assert done.returncode != 0
    assert "Tenantry could not be compiled: no C compiler was found" in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_a_choice_that_is_none_is_refused(tmp_path: Path) -> None:
    done = build(tmp_path, TENANTRY_COMPILE="maybe")
    assert "TENANTRY_COMPILE is one of auto, yes, no" in done.stdout + done.stderr
    assert done.returncode != 0
