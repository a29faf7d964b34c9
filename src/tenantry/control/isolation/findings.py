"""What a proof found: checks in groups, each with what was tried, expected and seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tenantry.domain.printable import printable

PASS = "PASS"  # noqa: S105 -- a verdict
FAIL = "FAIL"
NOT_RUN = "NOT RUN"
# Of each group, the first that failed are told as it ends; the report has them all.
SHOWN_MAX: Final = 5
# A line that begins with a verdict is a group, of so many characters with what fills it up.
VERDICT_CHARS: Final = 8


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried. `repeat` is a command line, without secrets, that tries it again; or ""."""

    tried: str
    expected: str
    seen: str
    ok: bool
    ms: float = 0.0
    repeat: str = ""


@dataclass(slots=True)
class Group:
    """Checks that show one claim. `not_run` says why there are none; `is_done`: all were tried that are going to be."""

    name: str
    proves: str
    checks: list[Check] = field(default_factory=list[Check])
    seconds: float = 0.0
    not_run: str = ""
    is_done: bool = False

    def add(self, tried: str, expected: str, seen: str, ok: bool, ms: float = 0.0, repeat: str = "") -> bool:
        self.checks.append(Check(tried, expected, seen, ok, round(ms, 2), repeat))
        return ok

    @property
    def failures(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    @property
    def verdict(self) -> str:
        """A group that tried nothing has shown nothing."""
        if self.not_run:
            return NOT_RUN
        return PASS if self.checks and not self.failures else FAIL


@dataclass(slots=True)
class Report:
    """One run. `started_at` is RFC 3339 in UTC; `not_covered` is for the reader to know what was not shown."""

    run: str
    started_at: str
    version: str
    gateway: str
    tenants: list[str]
    mode: str
    groups: list[Group] = field(default_factory=list[Group])
    seconds: float = 0.0
    not_covered: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        verdicts = [group.verdict for group in self.groups]
        return PASS in verdicts and FAIL not in verdicts

    @property
    def verdict(self) -> str:
        return PASS if self.ok else FAIL

    def as_json(self) -> dict[str, Any]:
        """Every check of every group as JSON values."""
        document = asdict(self)
        for shown, group in zip(document["groups"], self.groups, strict=True):
            del shown["is_done"]
            shown["verdict"] = group.verdict
        return {"verdict": self.verdict, **document}


def lines_of(group: Group) -> list[str]:
    """What is told of a group that has ended."""
    lines = [f"{group.verdict:{VERDICT_CHARS}}{group.proves} ({group.not_run or f'{len(group.checks)} checks'})"]
    for check in group.failures[:SHOWN_MAX]:
        lines += [f"        {check.tried}", f"          expected {check.expected}", f"          seen {check.seen}"]
        if check.repeat:
            lines.append(f"          {check.repeat}")
    if len(group.failures) > SHOWN_MAX:
        lines.append(f"        and {len(group.failures) - SHOWN_MAX} more; --report or --json has them")
    return [printable(line) for line in lines]
