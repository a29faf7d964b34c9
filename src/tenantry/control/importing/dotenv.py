"""The lines of an `.env` file, and whether a shell would read them alike.

The values are what dotenv libraries make of them, without expansion. After the import the same file is sourced by a
shell (`set -a; . ./.env.proxy`), so every line that a shell would read otherwise is marked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# A configuration by hand has some hundred lines; this many bytes are something else.
FILE_BYTES_MAX = 1 << 20

_ASSIGNMENT = re.compile(r"\s*(export\s+)?([^\s=]+)(\s*)=(\s*)(.*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMMENT = re.compile(r"\s+#.*")
_SHELL_MEANS_MORE = re.compile(r"[\s$`;&|<>()*?\[\]\\'\"~!]")


class BadLine(Exception):
    """The line is no assignment; the message says why, without its content, which may be a secret."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One assignment. `shell_reads` is "" when a shell reads the line alike, else what it would do with it."""

    line: int
    name: str
    value: str
    shell_reads: str


def read_entries(text: str) -> tuple[list[Entry], list[tuple[int, str]]]:
    """The assignments, and what is wrong with the other lines: (line, why)."""
    entries: list[Entry] = []
    wrong: list[tuple[int, str]] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entries.append(_read_line(number, line))
        except BadLine as error:
            wrong.append((number, str(error)))
    return entries, wrong


def _read_line(number: int, line: str) -> Entry:
    if "\x00" in line:
        raise BadLine("holds a NUL byte")
    found = _ASSIGNMENT.fullmatch(line)
    if found is None:
        raise BadLine("is no NAME=VALUE: there is no `=`, or no name before it")
    _, name, before, after, rest = found.groups()
    if not _NAME.fullmatch(name):
        raise BadLine("does not begin with a name: letters, digits and _, not a digit first")
    if after and rest.startswith("#"):
        rest = ""
    value, shell_reads = _read_value(rest)
    if before or (after and rest):
        shell_reads = "has spaces around `=`, which a shell takes for a command"
    return Entry(number, name, value, shell_reads)


def _read_value(rest: str) -> tuple[str, str]:
    """The value, and what a shell would do otherwise with it ("": nothing)."""
    if rest.startswith("'"):
        value, _, behind = rest[1:].partition("'")
        if "'" not in rest[1:]:
            raise BadLine("has a quotation mark that is not closed")
        _only_a_comment(behind)
        return value, ""
    if rest.startswith('"'):
        return _double_quoted(rest)
    value = _COMMENT.sub("", rest).strip()
    if _SHELL_MEANS_MORE.search(value):
        return value, "holds a character that means something to a shell: put the value into single quotes"
    return value, ""


def _double_quoted(rest: str) -> tuple[str, str]:
    """POSIX 2.2.3: inside double quotes a backslash escapes only `$`, the backtick, `"` and itself."""
    found = re.match(r'"((?:\\.|[^"\\])*)"', rest)
    if found is None:
        raise BadLine("has a quotation mark that is not closed")
    _only_a_comment(rest[found.end() :])
    inner = found.group(1)
    expands = re.search(r"(?<!\\)(?:\\\\)*[$`]", inner) is not None
    value = re.sub(r'\\([$`"\\])', r"\1", inner)
    return value, "holds a $ or ` that a shell would expand: use single quotes" if expands else ""


def _only_a_comment(behind: str) -> None:
    if behind.strip() and not _COMMENT.fullmatch(behind):
        raise BadLine("goes on behind its closing quotation mark")
