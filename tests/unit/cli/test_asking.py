"""Before something is cut off a command asks; what is not there is told first."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tenantry.cli.main import build_cli
from tenantry.settings import load_settings
from tests.template import init_from_template


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    found = {"TENANTRY_DATA_DIR": str(tmp_path / "data")}
    init_from_template(load_settings(None, found))
    return found


ASKING = {
    "keys revoke": ["key_nobody"],
    "keys admin revoke": ["nobody"],
    "tenants disable": ["nobody"],
    "tenants delete": ["nobody"],
    "alerts targets remove": ["nobody"],
    "invoices credit": ["INV-404", "--reason", "none"],
    "invoice": ["nobody", "--issue"],
}


@pytest.mark.parametrize("command", ASKING)
def test_a_name_that_is_not_there_is_told_before_anything_is_asked(environ: dict[str, str], command: str) -> None:
    words = [*command.split(), *ASKING[command]]
    # The processes are for commands that run for long.
    done = CliRunner().invoke(build_cli(None), words, env=environ)  # pyright: ignore[reportArgumentType]
    assert done.exit_code == 1, done.output
    assert "there is no " in done.output
    assert "?" not in done.output.replace("did you mean", "")
    assert "Nobody can answer" not in done.output
