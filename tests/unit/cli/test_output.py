"""What stands in tables, lines and JSON comes from clients and upstreams too, and does nothing to the terminal."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime

import pytest

from tenantry.cli.output import print_json, print_table, say
from tests.pages import ROOT

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


def test_a_day_and_a_moment_have_a_form_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan has days where its file has them: it was a TypeError."""
    print_json({"day": date(2026, 12, 29), "moment": datetime(2026, 12, 29, 8, 30, tzinfo=UTC)})
    assert json.loads(capsys.readouterr().out) == {"day": "2026-12-29", "moment": "2026-12-29T08:30:00Z"}


MODELS = ["model", "requests", "input", "write 5m", "write 1h", "cache read", "output", "searches", "cost"]
WIDE = ["claude-haiku-4-5-20251001", "1234567", "12345678901", "4567890", "0", "98765432", "7654321", "0", "$12,345.67"]


def at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Called in the test itself: before it begins, another standard output stands there."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")  # 80 columns


def test_no_number_is_broken_at_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    at_80_columns(monkeypatch)
    print_table(MODELS, [WIDE, ["claude-sonnet-5-5", *["1"] * 8]], right=MODELS[1:])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [cell for cell in WIDE if not any(cell in line.split() for line in lines)] == []


def test_columns_of_zeros_are_left_out_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_80_columns(monkeypatch)
    print_table(
        MODELS, [["claude-sonnet-5-5", "5", "100000", "0", "0", "0", "20000", "0", "$1.2345"]], right=MODELS[1:]
    )
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "requests", "input", "output", "cost"]
    assert row.split() == ["claude-sonnet-5-5", "5", "100000", "20000", "$1.2345"]


def test_a_text_gives_way_to_names_and_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_80_columns(monkeypatch)
    print_table(["key_id", "what", "times"], [["key_0123456789abcdef0123", "word " * 40, "1000000"]], right=["times"])
    shown = capsys.readouterr().out
    assert "key_0123456789abcdef0123" in shown
    assert "1000000" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert shown.count("word") == 40


def test_make_help_fits_80_columns() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line for line in shown.splitlines() if len(line) > 80] == []
