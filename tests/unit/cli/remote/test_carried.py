"""Every command works through `--server`, or says why it does not, and does nothing on this machine in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tenantry.app import Processes
from tenantry.cli.direct import run_direct
from tenantry.cli.examples import EXAMPLES
from tenantry.cli.main import build_cli
from tenantry.cli.remote.carried import CARRIED, HERE_ALONE
from tests.unit.cli.remote import test_both_ways, test_money_both_ways, test_site_both_ways
from tests.unit.cli.test_examples import KNOWN

# What these need to be typed at all.
ARGUMENTS = {
    "restore": ["backup.tar"],
    "keys master rotate": ["--yes"],
    "service show": ["--system"],
    "service install": ["--user"],
    "store copy": ["--to", "sqlite:////srv/tenantry.db"],
    "import env-file": ["env", "--grace", "30d"],
    "import litellm": ["config.yaml"],
}


def test_each_command_of_the_tree_carries_over_or_has_a_reason_and_never_both() -> None:
    commands = {path for path, one in KNOWN.items() if not hasattr(one, "commands")}
    assert commands == set(EXAMPLES)
    assert sorted(CARRIED | set(HERE_ALONE)) == sorted(commands)
    assert CARRIED & set(HERE_ALONE) == set()


def test_the_help_of_a_command_says_whether_it_works_through_a_server() -> None:
    for path, one in KNOWN.items():
        if not hasattr(one, "commands"):
            assert ("Works through --server, too." in one.epilog) == (path in CARRIED), path


@pytest.mark.parametrize("path", sorted(HERE_ALONE))
def test_what_is_of_its_own_machine_says_why_and_does_nothing(path: str, tmp_path: Path) -> None:
    environ = {"TENANTRY_DATA_DIR": str(tmp_path / "data"), "TENANTRY_SERVER": "https://control.agency.example"}
    words = [*path.split(), *ARGUMENTS.get(path, [])]
    done = CliRunner().invoke(build_cli(Processes()), words, env=environ)
    assert done.exit_code == 2, done.output
    assert done.stderr == (
        f"tenantry: `tenantry {path}` {HERE_ALONE[path]}: run it on the machine that it is for, without --server\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["serve", "gateway", "control"])
def test_no_process_is_started_here_while_a_server_is_named(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_SERVER", "https://control.agency.example")
    assert run_direct(Processes(), [word]) is None  # the whole command line refuses it
    assert CliRunner().invoke(build_cli(Processes()), [word]).exit_code == 2


def test_every_command_that_carries_over_is_tried_both_ways() -> None:
    tried = [
        *(*test_both_ways.READ, *test_both_ways.WRITTEN, *test_both_ways.REFUSED, "plan", "apply", "drift"),
        *(*test_money_both_ways.READ, *test_money_both_ways.WRITTEN, *test_money_both_ways.REFUSED),
        *(*test_site_both_ways.READ, *test_site_both_ways.WRITTEN, *test_site_both_ways.REFUSED),
        *test_site_both_ways.BY_THEMSELVES,
    ]
    assert [path for path in CARRIED if not any(one.startswith(path) for one in tried)] == []
