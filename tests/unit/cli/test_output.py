"""What stands in tables, lines and JSON comes from clients and upstreams too, and does nothing to the terminal."""

import json
import sys

import pytest

from tenantry.cli.output import print_json, print_table, say

EVIL = "\x1b]0;title\x07\x1b[2Jall \x9b31mis\u202e well"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_table_shows_escape_sequences_as_marks(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    print_table(["key", "agent"], [["key_1", EVIL], ["key\t2\n", "[bold]x[/bold]"]])
    shown = capsys.readouterr().out
    assert all(mark.isprintable() or mark in "\n\t" for mark in shown)
    assert len(shown.strip().split("\n")) == 3
    assert "all" in shown
    assert "[bold]x[/bold]" in shown


def test_a_line_and_json_do_too(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"one {EVIL}\n\ttwo")
    print_json({"agent": EVIL})
    shown = capsys.readouterr().out
    assert all(mark.isprintable() or mark in "\n\t" for mark in shown)
    assert json.loads(shown[shown.index("{") :]) == {"agent": EVIL}
