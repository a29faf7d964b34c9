"""Lines of `.env` files, and whether a real shell reads them alike."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.control.importing.dotenv import read_entries


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("export A=b", "b"),
        ("  A=b  ", "b"),
        ("A=", ""),
        ("A='b # c'", "b # c"),
        ('A="b # c" # d', "b # c"),
        ("A=b # c", "b"),
        ("A=b#c", "b#c"),
        ("A=#b", "#b"),
        ("A= # b", ""),
        (r'A="a\"b\\c\$d"', r'a"b\c$d'),
        ("A='it'", "it"),
        ("A=b=c", "b=c"),
        ("A=b\r", "b"),
        ("\ufeffA=b", "b"),
        ("A = b", "b"),
    ],
)
def test_a_line_is_read(line: str, value: str) -> None:
    entries, wrong = read_entries(line)
    assert wrong == []
    assert [(entry.name, entry.value) for entry in entries] == [("A", value)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("A", "no `=`"),
        ("sk-ant-api03-secret", "no `=`"),
        ("=b", "no name"),
        ("1A=b", "does not begin with a name"),
        ("A-B=c", "does not begin with a name"),
        ("A='b", "not closed"),
        ('A="b', "not closed"),
        ("A='b'c", "goes on behind"),
        ("A=b\x00", "NUL"),
    ],
)
def test_a_broken_line_is_told_without_its_content(line: str, why: str) -> None:
    entries, wrong = read_entries(f"OK=1\n{line}\n")
    assert [entry.name for entry in entries] == ["OK"]
    assert len(wrong) == 1
    assert wrong[0][0] == 2
    assert why in wrong[0][1]
    assert "secret" not in wrong[0][1]


@pytest.mark.parametrize("line", ["A=b c", "A=$B", "A=`b`", 'A="$B"', "A=b;c", "A = b", "A=~/x", "A=b&c", "A=a'b"])
def test_what_a_shell_would_read_otherwise_is_marked(line: str) -> None:
    (entry,), _ = read_entries(line)
    assert entry.shell_reads


@settings(deadline=None, max_examples=150)
@given(st.text(st.sampled_from("ab1 =#'\"\\$`;.-/"), max_size=12), st.sampled_from(["", "export "]))
def test_a_line_that_is_not_marked_means_the_same_to_a_shell(rest: str, before: str) -> None:
    line = f"{before}A={rest}"
    entries, _ = read_entries(line)
    if not entries or entries[0].shell_reads:
        return
    done = subprocess.run(["sh", "-c", f'{line}\nprintf "%s" "$A"'], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, entries[0].value)
