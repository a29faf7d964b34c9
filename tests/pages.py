"""The pages of the documentation as their reader meets them: commands in order, and files that the page shows by name.

A fence of `sh` is typed. A fence of anything else is a file, where the line before it ends in a name such as
`clients.csv`: with a colon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))

_FENCE = re.compile(r"```(\w*)\s*")
_FILE_NAME = re.compile(r"`([\w./-]+)`:")
_HERE_DOCUMENT = re.compile(r"<<'?(\w+)'?")


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed at once, with its comment; `line` is where it begins."""

    page: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file that the page shows whole."""

    name: str
    text: str


def steps(page: str) -> Iterator[Command | ShownFile]:
    """Everything on a page that its reader types or makes, in order."""
    before = ""
    lines = iter(enumerate((ROOT / page).read_text().splitlines(), 1))
    for number, line in lines:
        opened = _FENCE.fullmatch(line)
        if opened is None:
            before = line.rstrip() or before
            continue
        inside: list[str] = []
        for _, content in lines:
            if content == "```":
                break
            inside.append(content)
        named = _FILE_NAME.search(before[-80:])
        if opened[1] == "sh":
            yield from _commands(page, number + 1, inside)
        elif named is not None and before.endswith(named[0]):
            yield ShownFile(named[1], "\n".join(inside) + "\n")
        before = ""


def _commands(page: str, first: int, lines: list[str]) -> Iterator[Command]:
    at = 0
    while at < len(lines):
        begin, end = at, at + 1
        while lines[end - 1].endswith("\\"):
            end += 1
        document = _HERE_DOCUMENT.search(lines[at])
        if document is not None:
            end = lines.index(document[1], at) + 1
        at = end
        if lines[begin].strip() and not lines[begin].lstrip().startswith("#"):
            yield Command(page, first + begin, "\n".join(lines[begin:end]))
