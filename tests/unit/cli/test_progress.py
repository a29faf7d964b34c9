"""Long work shows how far it is, and Ctrl-C says in one line what is done and what not."""

import io
from pathlib import Path

import pytest
import typer

from tenantry.cli.context import INTERRUPTED, ToldLater, if_interrupted, told
from tenantry.cli.progress import SILENT_SECONDS, told_share


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_with_the_time_left() -> None:
    out = Terminal()
    with told_share(out, "checked") as came:
        came(0.5)
    assert "50%" in out.getvalue()
    assert "left" in out.getvalue()


def test_in_a_pipe_there_is_a_line_for_each_quarter_once_it_is_long() -> None:
    out, now = io.StringIO(), iter([0.0, 1.0, *[SILENT_SECONDS + 1] * 99])
    with told_share(out, "checked", lambda: next(now)) as came:
        for share in (0.3, 0.3, 0.4, 0.55, 0.8, 1.0):
            came(share)
    assert out.getvalue() == "checked: 25 %\nchecked: 50 %\nchecked: 75 %\n"


def test_an_interrupt_is_one_line_in_the_words_of_what_was_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, told(), if_interrupted(lambda: "2 of 3 are made"):
        raise KeyboardInterrupt
    assert ended.value.exit_code == INTERRUPTED
    assert capsys.readouterr().err == "tenantry: interrupted; 2 of 3 are made\n"


def test_an_interrupt_elsewhere_says_that_nothing_is_half_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), told():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "tenantry: interrupted; what was begun and not finished is undone\n"


def test_an_interrupt_that_is_told_later_passes(tmp_path: Path) -> None:
    with pytest.raises(ToldLater), told(), if_interrupted(str):
        raise ToldLater
