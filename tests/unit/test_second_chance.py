"""`python -m tests`: what fails once on a busy machine is run again, alone, and told; what fails twice is red."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKER = ("-p", "xdist", "-n", "1")
ONCE = """
from pathlib import Path

def test_steady():
    pass

def test_unsteady():
    mark = Path(__file__).with_name("mark")
    if not mark.exists():
        mark.touch()
        assert "the first time" == ""
"""


def run(folder: Path, suite: str, *words: str) -> tuple[int, str]:
    """Exit code and output of a run of the runner on a suite."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    (folder / "test_made_up.py").write_text(suite)
    done = subprocess.run(
        [sys.executable, "-m", "tests", "-p", "no:cacheprovider", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # a third of the time
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def closing_line(said: str) -> str:
    return said.strip().splitlines()[-1]


@pytest.mark.parametrize("workers", [(), WORKER], ids=["in its process", "in a worker"])
def test_what_fails_once_is_run_alone_and_told_and_the_run_is_green(tmp_path: Path, workers: tuple[str, ...]) -> None:
    code, said = run(tmp_path, ONCE, *workers)
    assert code == 0, said
    assert "1 failed, and are run once more, alone" in said
    told = said[said.index("UNSTEADY: test_made_up.py::test_unsteady") :]
    assert "the first time" in told
    assert "UNSTEADY: 1 passed only when run alone" in told
    assert " 2 passed in " in closing_line(said)
    assert "failed" not in closing_line(said)


def test_what_fails_twice_is_red(tmp_path: Path) -> None:
    code, said = run(tmp_path, "def test_red():\n    assert 1 == 2\n" + ONCE)
    assert code == 1
    assert "2 failed, and are run once more, alone" in said
    assert "UNSTEADY" not in said
    assert " 2 failed, 1 passed in " in closing_line(said)


def test_an_error_of_a_fixture_that_comes_once_is_told_and_its_test_counted_once(tmp_path: Path) -> None:
    suite = ONCE.replace("def test_unsteady", "@pytest.fixture\ndef broken").replace("def test_steady", "def test_it")
    suite = "import pytest\n" + suite.replace("def test_it():", "def test_it(broken):")
    code, said = run(tmp_path, suite)
    assert code == 0, said
    assert "UNSTEADY test_made_up.py::test_it" in said
    assert " 1 passed in " in closing_line(said)


def test_six_that_fail_are_red_at_once(tmp_path: Path) -> None:
    suite = "".join(f"def test_{number}():\n    assert 0\n" for number in range(6))
    code, said = run(tmp_path, suite)
    assert code == 1
    assert "once more" not in said
    assert " 6 failed in " in closing_line(said)


@pytest.mark.parametrize("workers", [(), WORKER], ids=["in its process", "in a worker"])
def test_a_file_that_cannot_be_collected_is_red_at_once(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "test_well.py").write_text("def test_well():\n    pass\n")
    code, said = run(tmp_path, "import there_is_no_such_module\n", *workers)
    assert code not in (0, 5)
    assert "once more" not in said
    assert "1 error" in closing_line(said)


def test_a_worker_that_dies_is_red_at_once(tmp_path: Path) -> None:
    suite = ONCE.replace('assert "the first time" == ""', "__import__('os')._exit(3)")
    code, said = run(tmp_path, suite, *WORKER)
    assert code == 1
    assert "once more" not in said
    assert "1 failed" in closing_line(said)


def test_without_a_failure_nothing_is_said_of_it(tmp_path: Path) -> None:
    code, said = run(tmp_path, "def test_well():\n    pass\n")
    assert (code, "UNSTEADY" in said, "once more" in said) == (0, False, False)
    assert " 1 passed in " in closing_line(said)
