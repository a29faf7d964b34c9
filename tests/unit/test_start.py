"""What a process and a command load: what they do not need would cost each start of theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command, get_group

from tenantry import start
from tenantry.app import Processes
from tenantry.cli.later import Later
from tenantry.cli.main import Commands, build_cli
from tenantry.settings import load_settings
from tests.template import init_from_template

WEB = {"starlette", "uvicorn"}
PAGES = {"jinja2", "markdown_it", "yaml"}
SCHEMA = {"alembic", "mako"}
ALERTS = {"apprise", "requests"}
PARSING = {"typer", "pydantic", "rich"}
# What checks values of a command line that are not plain, and what makes tables on a terminal.
CHECKING = {"pydantic", "rich"}
STORE = {"sqlalchemy", "cryptography", "asyncio"}
DATA_PLANE = {"tenantry.gateway", "httptools"}
# The database that is not in use.
OTHER_STORE = {"sqlalchemy.dialects.postgresql"}

# Runs `tenantry` with the words of its command line, and tells at the end what was loaded.
PROGRAM = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
import tenantry.app
if sys.argv[1] in ("gateway", "control"):
    import tenantry.running
    tenantry.running.run = lambda settings, process, **_: process.close() or 0
    tenantry.running.require_port = lambda name, host, port: None
tenantry.app.main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    init_from_template(load_settings(None, {"TENANTRY_DATA_DIR": str(made)}))
    return made


def loaded(folder: Path, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, "TENANTRY_DATA_DIR": str(folder), "TENANTRY_GATEWAY_PORT": "0"},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert "Traceback" not in done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "never"),
    [
        ("gateway", WEB | PAGES | SCHEMA | ALERTS | PARSING | OTHER_STORE | {"tenantry.control", "tenantry.web"}),
        ("control", {"markdown_it", "tenantry.gateway"} | SCHEMA | PARSING | OTHER_STORE),
        ("--version", WEB | PAGES | SCHEMA | ALERTS | STORE | DATA_PLANE | CHECKING),
        ("--help", WEB | {"jinja2", "yaml"} | SCHEMA | ALERTS | STORE | DATA_PLANE),
        ("tenants list", WEB | PAGES | SCHEMA | ALERTS | DATA_PLANE | OTHER_STORE | CHECKING),
        ("upstreams list", WEB | PAGES | SCHEMA | ALERTS | DATA_PLANE | OTHER_STORE | CHECKING),
        ("tiers list", WEB | PAGES | SCHEMA | ALERTS | DATA_PLANE | OTHER_STORE | CHECKING),
        ("credentials list", WEB | PAGES | SCHEMA | ALERTS | DATA_PLANE | OTHER_STORE | CHECKING),
        ("audit", WEB | PAGES | SCHEMA | ALERTS | DATA_PLANE | OTHER_STORE | CHECKING),
        ("keys list", WEB | PAGES | SCHEMA | ALERTS | DATA_PLANE | OTHER_STORE | CHECKING | {"tenantry.ledger"}),
        ("keys revoke KEY --yes", WEB | PAGES | SCHEMA | ALERTS | DATA_PLANE | OTHER_STORE | CHECKING),
        ("tenants disable acme --yes", WEB | PAGES | SCHEMA | ALERTS | DATA_PLANE | OTHER_STORE | CHECKING),
        ("ledger verify", WEB | PAGES | SCHEMA | ALERTS | DATA_PLANE | OTHER_STORE | CHECKING),
    ],
)
def test_nothing_is_loaded_that_others_need(folder: Path, words: str, never: set[str]) -> None:
    assert loaded(folder, *words.split()) & never == set()


def test_the_list_of_commands_says_what_the_commands_say() -> None:
    root = get_command(build_cli(Processes()))
    context = typer.Context(root)
    for name in Commands.table:
        stand_in = getattr(root, "get_command")(context, name)  # noqa: B009 -- not in Typer's types
        assert isinstance(stand_in, Later)
        assert stand_in.load().help == stand_in.help, name


def test_no_command_is_missing_from_the_list() -> None:
    names = {(module, name) for name, (module, _) in Commands.table.items()}
    for module, _ in Commands.table.values():
        loaded = __import__(f"tenantry.cli.{module}", fromlist=["app"])
        if hasattr(loaded, "register"):
            whole = typer.Typer()
            loaded.register(whole)
            assert {(module, name) for name in get_group(whole).commands} <= names


def test_the_version_is_told(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tenantry", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tenantry ")


def test_ctrl_c_while_a_command_is_loaded_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    start.tell(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "tenantry: interrupted before anything was done\n"


def test_any_other_error_is_to_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    start.tell(ValueError, ValueError("what"), None)
    assert "ValueError: what" in capsys.readouterr().err


def test_ctrl_c_at_any_moment_shows_no_traceback(folder: Path) -> None:
    told: list[str] = []
    step = 0
    while step < 4 or (step < 40 and not any("interrupted" in text for text in told)):  # a busy machine starts later
        step += 1
        # The interpreter's own start is not ours; from there on, any moment.
        program = f"import signal; signal.setitimer(signal.ITIMER_REAL, 0.1 * {step})\n"
        # As in front of a terminal, also where who runs the tests ignores it: what is ignored is inherited.
        program += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        program += "signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))\n"
        program += "import tenantry.start; tenantry.start.main()"
        done = subprocess.run(
            [sys.executable, "-c", program, "tenants", "list"],
            env={**os.environ, "TENANTRY_DATA_DIR": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        told.append(done.stderr)
    assert [text for text in told if "Traceback" in text or text.count("\n") > 1] == []
    assert any("interrupted" in text for text in told)
