"""What became of each line of a foreign configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

from tenantry.control.toml_out import Key

# A value that is told back in full may be a whole file.
PROBLEM_CHARS_MAX = 400
# Longer than any grace anyone means; a key that should live on belongs into a key of its own.
GRACE_DAYS_MAX = 365


class Fate(StrEnum):
    TAKEN = "taken over"
    BUILT_IN = "built in"
    NOT_HERE = "no meaning here"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of `source` (0: none in particular) and what it becomes, or why it has no meaning here."""

    source: str
    line: int
    name: str
    fate: Fate
    becomes: str

    @property
    def place(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


class ImportRefused(Exception):
    """The configuration cannot be imported. `problems` names each reason with its place."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Imported:
    """The two documents, with comments by path, and everything that has to be said.

    `variables` are environment variables that must be set before `tenantry plan` and that no imported file sets, with
    what each holds.
    """

    settings: dict[str, Any]
    tenants: dict[str, Any]
    comments: Mapping[Key, str]
    lines: list[Line]
    warnings: list[str]
    variables: Mapping[str, str]


@dataclass(slots=True)
class Report:
    """Collects lines, warnings and problems while a configuration is read."""

    lines: list[Line] = field(default_factory=list[Line])
    warnings: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])
    _warned: set[str] = field(default_factory=set[str])

    def taken(self, source: str, line: int, name: str, becomes: str) -> None:
        self.lines.append(Line(source, line, name, Fate.TAKEN, becomes))

    def built_in(self, source: str, line: int, name: str, why: str) -> None:
        self.lines.append(Line(source, line, name, Fate.BUILT_IN, why))

    def not_here(self, source: str, line: int, name: str, why: str) -> None:
        self.lines.append(Line(source, line, name, Fate.NOT_HERE, why))

    def warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self.warnings.append(text)

    def problem(self, source: str, line: int, text: str) -> None:
        told = text if len(text) <= PROBLEM_CHARS_MAX else text[:PROBLEM_CHARS_MAX] + "..."
        self.problems.append(f"{source}:{line}: {told}" if line else f"{source}: {told}")

    def sorted_lines(self) -> list[Line]:
        """As they stand in the files."""
        return sorted(self.lines, key=lambda one: (one.source, one.line))

    def require_sound(self) -> None:
        """Raises: ImportRefused, with every problem that was found."""
        if self.problems:
            raise ImportRefused(self.problems)


def read_grace(text: str) -> timedelta:
    """A grace period such as `30d` or `4w`; `0` for none.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\d{1,4})([dw])?", text.strip())
    days = int(found.group(1)) * (7 if found.group(2) == "w" else 1) if found else -1
    if found is None or (days and not found.group(2)) or days > GRACE_DAYS_MAX:
        raise ValueError(f"must be days or weeks such as 30d or 4w, at most {GRACE_DAYS_MAX}d, or 0; not {text!r}")
    return timedelta(days=days)


def take_over_key(variable: str, until: date) -> dict[str, Any]:
    """The entry of a key whose text an old proxy gave out."""
    return {"digest_of": f"env:{variable}", "expires": until}
