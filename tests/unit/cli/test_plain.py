"""Plain values are taken without Pydantic, and what a command line then means is what Typer makes of it."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tenantry.cli import later
from tenantry.cli.main import Commands

SEED = 20261129
LINES_A_COMMAND = 60
NUMBERS = ("0", "7", "007", "100", "99999999999999", "+7", "-7", " 7", "7_0", "7.0", "\u0667", "1e3")
WORDS = ("acme", "", " ", "Köln", "\udcff", "-", "--", "csv", "json", "CSV", "none", "a b", "true", "\x00")
FILES = ("missing.toml", "there.toml", "folder", "closed.toml", ".", "-")


def commands_of(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, one in command.commands.items():
            yield from commands_of(one, (*words, name))
    else:
        yield words, command


def loaded() -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for name, (module, words) in Commands.table.items():
        found |= commands_of(later.Later(name, module, words).load(), (name,))
    return found


def as_typer_has_it(command: Any) -> None:
    """In the place of `take_plain_values`."""


def a_line(command: Any, random_: random.Random) -> list[str]:
    """Some options and arguments, of which some are wrong."""
    line: list[str] = []
    values = (*NUMBERS, *WORDS, *FILES)
    for parameter in command.params:
        for _ in range(random_.choice((0, 1, 1, 2))):
            if parameter.param_type_name == "argument":
                line.append(random_.choice(values))
            else:
                name = random_.choice(parameter.opts)
                line += [name] if parameter.is_flag else [name, random_.choice(values)]
    if random_.random() < 0.1:
        line.append(random_.choice(("--no-such-option", "--help", "left-over")))
    return line


def meant(command: Any, line: list[str]) -> tuple[Any, ...]:
    """What a command is called with, or how it is refused."""
    try:
        context = command.make_context("command", list(line), parent=None)
    except typer.Exit as ended:
        return "ends", ended.exit_code
    except Exception as error:  # noqa: BLE001 -- Click's classes of refusals, which Typer keeps for itself
        return type(error).__name__, str(error), getattr(error, "exit_code", None)
    called: dict[str, object] = context.params
    return "called", called, [type(value) for value in called.values()]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there.toml").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "closed.toml").touch(mode=0o000)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("files")
def test_a_line_means_the_same_with_and_without_the_short_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    print("seed", SEED)
    short = loaded()
    monkeypatch.setattr(later, "take_plain_values", as_typer_has_it)
    whole = loaded()
    assert short.keys() == whole.keys()
    random_, endings = random.Random(SEED), set[str]()
    for words, command in short.items():
        for _ in range(LINES_A_COMMAND):
            line = a_line(command, random_)
            capsys.readouterr()
            said = meant(command, line), capsys.readouterr()
            assert said == (meant(whole[words], line), capsys.readouterr()), (words, line)
            endings.add(said[0][0])
    assert {"called", "BadParameter", "MissingParameter", "NoSuchOption", "ends"} <= endings


def test_what_is_not_plain_is_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.command()
    def only(number: int = typer.Option(1, min=1, max=9)) -> None: ...  # pyright: ignore[reportUnusedFunction]

    command: Any = typer.main.get_command(app)
    later.take_plain_values(command)
    assert meant(command, ["--number", "7"])[1]["number"] == 7
    assert meant(command, ["--number", " 7"])[1]["number"] == 7
    assert meant(command, ["--number", "10"])[0] == "BadParameter"
