"""What does not work through `--server` says so, and does nothing on this machine in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tenantry.app import Processes
from tenantry.cli.direct import run_direct
from tenantry.cli.examples import EXAMPLES
from tenantry.cli.main import build_cli
from tenantry.cli.remote.carried import CARRIED

HERE_ALONE = sorted(set(EXAMPLES) - CARRIED)
# What these need to be typed at all.
ARGUMENTS = {
    "restore": ["backup.tar"],
    "keys people link": ["ana"],
    "keys master rotate": ["--yes"],
    "service show": ["--system"],
    "service install": ["--user"],
    "provision": ["Acme"],
}


def test_every_command_that_carries_over_is_one() -> None:
    assert sorted(CARRIED - set(EXAMPLES)) == []


@pytest.mark.parametrize("path", ["init", "sandbox", "restore", "keys master rotate", "service show", "provision"])
def test_what_is_of_its_own_machine_says_so_and_does_nothing(path: str, tmp_path: Path) -> None:
    assert path in HERE_ALONE
    environ = {"TENANTRY_DATA_DIR": str(tmp_path / "data"), "TENANTRY_SERVER": "https://control.agency.example"}
    words = [*path.split(), *ARGUMENTS.get(path, [])]
    done = CliRunner().invoke(build_cli(Processes()), words, env=environ)
    assert done.exit_code == 2, done.output
    assert done.stderr == (
        f"tenantry: `tenantry {path}` works on the store of its own machine: run it there, without --server\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["serve", "gateway", "control"])
def test_no_process_is_started_here_while_a_server_is_named(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_SERVER", "https://control.agency.example")
    assert run_direct(Processes(), [word]) is None  # the whole command line refuses it
    assert CliRunner().invoke(build_cli(Processes()), [word]).exit_code == 2
