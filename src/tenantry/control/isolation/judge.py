"""Sends cases one after the other and compares what comes with what has to come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tenantry.control.isolation.canaries import UPSTREAM_QUOTA, CanaryUpstream, Record
from tenantry.control.isolation.cases import Case, Expected
from tenantry.control.isolation.client import Address, Answer, NoAnswer, ask
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.repeat import repeat_line
from tenantry.control.isolation.search import Needles

# A gateway that is gone or hangs would cost half a minute for each of thousands of cases. Nothing else bounds them: as
# long as answers come, they are waited for.
SILENCES_MAX = 3


@dataclass(slots=True)
class Judge:
    """`secret` and `mark` are the own tenant's canary, `foreign_marks` the others'; empty where tenants are real.

    `keys` are the presented keys by the name that a command line gives them.
    """

    address: Address
    needles: Needles
    keys: Mapping[str, str] = field(repr=False)
    upstream: CanaryUpstream | None = None
    secret: str = field(default="", repr=False)
    foreign_marks: tuple[bytes, ...] = ()
    _twins: dict[str, tuple[str, bytes]] = field(default_factory=dict[str, tuple[str, bytes]])
    _silences: int = 0

    def heard_nothing(self) -> None:
        """A request got no answer."""
        self._silences += 1

    @property
    def has_given_up(self) -> bool:
        """Whether so many got none that no more are to be sent."""
        return self._silences >= SILENCES_MAX

    def try_all(self, groups: Mapping[str, Group], cases: Sequence[Case], came: Callable[[float], None]) -> None:
        """Each case becomes a check of its group. `came` is told how many of them, from 0 to 1, are behind it."""
        for number, case in enumerate(cases):
            group = groups[case.group]
            if self.has_given_up:
                group.add("the rest of the cases", "to be tried", "not tried: the gateway stopped answering", False)
                return
            self._try(group, case)
            came(number / len(cases))

    def _try(self, group: Group, case: Case) -> None:
        before = len(self.upstream.records) if self.upstream is not None else 0
        started = time.perf_counter()
        try:
            answers = ask(self.address, case.data, case.method)
        except NoAnswer as error:
            self.heard_nothing()
            answers, problems = [], [str(error)]
        else:
            problems = self._problems(case, answers)
        ms = (time.perf_counter() - started) * 1000
        if self.upstream is not None:
            problems += self._upstream_problems(case.expected, self.upstream.records[before:])
        tried = f"{case.route}: {case.title}"
        seen = "; ".join(problems) or " ".join(str(answer.status) for answer in answers) + ", as expected"
        repeat = repeat_line(self.address, case.data, self.keys) if problems else ""
        group.add(tried, case.expected.words, seen, not problems, ms, repeat)

    def _problems(self, case: Case, answers: list[Answer]) -> list[str]:
        answer, expected = answers[0], case.expected
        problems: list[str] = []
        if len(answers) != 1:
            problems.append(f"{len(answers)} answers to one request")
        allowed = answer.status in expected.statuses if expected.statuses else answer.status not in (401, 403)
        if not allowed:
            problems.append(f"{answer.status} {_error_type(answer)}".strip())
        elif expected.error_type and case.method != b"HEAD" and _error_type(answer) != expected.error_type:
            problems.append(f"error type {_error_type(answer) or 'none'}")
        if expected.final and answer.field(b"x-should-retry") != b"false":
            problems.append("no x-should-retry: false")
        if not problems:  # what is wrong already is nothing to compare others with
            problems += self._unequal(case, answer)
        return problems + self.leaks(answer)

    def leaks(self, answer: Answer) -> list[str]:
        """What an answer holds that belongs to another tenant, or to the upstream."""
        whole = answer.comparable()
        problems = [f"the answer holds {name}" for name in self.needles.find(whole)]
        problems += ["the answer holds the mark of another tenant" for mark in self.foreign_marks if mark in whole]
        if UPSTREAM_QUOTA in whole or answer.field(b"anthropic-organization-id"):
            problems.append("the answer holds the upstream's own quota or organization")
        return problems

    def _unequal(self, case: Case, answer: Answer) -> list[str]:
        if not case.twin:
            return []
        seen = answer.comparable()
        title, first = self._twins.setdefault(case.twin, (case.title, seen))
        return [] if seen == first else [f"bytes that differ from `{title}`: {_first_difference(first, seen)}"]

    def _upstream_problems(self, expected: Expected, records: list[Record]) -> list[str]:
        problems = [f"upstream saw {leak}" for record in records for leak in record.leaks]
        if any(record.secret != self.secret for record in records):
            problems.append("ANOTHER TENANT'S CREDENTIAL went upstream")
        if expected.upstream == "none" and records:
            problems.append("the request was forwarded")
        elif len(records) > 1 or (expected.upstream == "own" and not records):
            problems.append(f"{len(records)} requests went upstream")
        return problems


def _error_type(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["error"]["type"])
    except (ValueError, KeyError, TypeError):
        return ""


def _first_difference(first: bytes, second: bytes) -> str:
    at = next((at for at, (one, two) in enumerate(zip(first, second, strict=False)) if one != two), len(first))
    start = max(0, at - 10)
    return f"{first[start : at + 30]!r} against {second[start : at + 30]!r}"
