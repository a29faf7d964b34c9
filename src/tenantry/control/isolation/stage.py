"""What the groups of one run share: the site, the report, what to look for, and whom to tell how far it has come."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tenantry import __version__
from tenantry.control.isolation import cases
from tenantry.control.isolation.client import Address, gateway_address
from tenantry.control.isolation.findings import Group, Report
from tenantry.control.isolation.pace import Pace
from tenantry.control.isolation.search import Needles
from tenantry.control.site import Site

PROVES: Final = {
    "undisturbed": "The same requests get the same bytes before other tenants exist and after.",
    cases.WHO: "Every route answers every kind of caller as the table of authentication says.",
    cases.BESIDE: "What else stands in a head changes nothing of who a caller is, and names nobody upstream.",
    cases.HOW: "No way of writing path, header, key or framing reaches another tenant.",
    cases.IDS: "Ids of another tenant's objects are answered like ids that nobody has, in equal bytes.",
    "connection": "On one connection, a head that is nearly the one before it is not taken for it.",
    "answers": "Equal requests of two tenants are two requests: no answer, count or list is kept for another.",
    "credentials": "Under concurrency each request leaves under its own tenant's credential; each answer is its own.",
    "bleed": "A tenant at many times its limits changes nothing for another: latency, limits, counters.",
    "books": "The ledger rows of each tenant are exactly its own requests.",
    "sharing": "One credential of two tenants, and several keys of one, share no connection, limit or budget by it.",
    "switching": "Disabling, revoking, a key's end act within a second, on running streams too; others notice nothing.",
    "search": "No secret, prompt or answer stands in the clear in anything the site writes or tells.",
}
# What each takes on an idle machine, all and quick, in seconds: for a bar to tell the time left by.
_TAKES: Final = {"bleed": (9.0, 2.2), "switching": (3.5, 3.5), "credentials": (2.5, 1.5), cases.BESIDE: (0.6, 0.6)}
_TAKES_SECONDS: Final = 0.4

NOT_COVERED: Final = [
    "Whatever runs on this machine as the same user or as root can read the master key; that is outside this proof.",
    "The upstream's own separation of its customers, and the TLS between here and there.",
    "Other processes and hosts in front of the gateway, such as a proxy that caches or rewrites requests.",
    "Other gateway processes of the same site: the one at the address above was asked.",
    "Timing differences between refusals are not measured.",
    "The control plane's own pages and API.",
    "Whether a stream is cut when the time of its key runs out; one whose key is revoked is.",
    "Files that a process of the site wrote and closed elsewhere than in its own folders and the temporary ones.",
]


@dataclass(frozen=True, slots=True)
class Options:
    """`tenants`: real ones, not probes. `messages`: they may send a real message each. `logs`: more to search.

    `only` names the groups to run; empty for all.
    """

    tenants: tuple[str, ...] = ()
    quick: bool = False
    messages: bool = False
    logs: tuple[Path, ...] = ()
    only: frozenset[str] = frozenset()


class Listener:
    """Who is told how a run comes along. Tells nobody."""

    def began(self, stage: Stage, leftovers: Sequence[str]) -> None:
        """What a run that died had left is removed; from here on something is tried."""

    def came(self, share: float) -> None:
        """So much of the run, from 0 to 1, is behind it."""

    def ended(self, group: Group) -> None:
        """A group has its verdict."""

    def tidies_up(self) -> None:
        """However it ended: what it made is removed now."""


@dataclass(slots=True)
class Stage:
    """`needles` are secrets, which nobody may be told; `words` what prompts and answers said, to be kept nowhere.

    `since`: when the run began, unix seconds. `pace`: its clock.
    """

    site: Site
    options: Options
    report: Report
    address: Address
    listener: Listener
    since: float
    pace: Pace = field(default_factory=Pace)
    needles: Needles = field(default_factory=Needles)
    words: Needles = field(default_factory=Needles)
    _behind: float = 0.0
    _open: tuple[str, ...] = ()

    @contextmanager
    def groups(self, *names: str) -> Generator[dict[str, Group]]:
        """Groups that are filled together, timed and told when they are done."""
        started = self.pace.clock()
        opened = {name: Group(name, PROVES[name]) for name in names}
        self.report.groups.extend(opened.values())
        self._open = names
        yield opened
        for group in opened.values():
            group.seconds = round(self.pace.clock() - started, 2)
            group.is_done = True
        self._close()
        for group in opened.values():
            self.listener.ended(group)

    def came(self, share: float) -> None:
        """So much of the groups that are open, from 0 to 1, is done."""
        whole = self._whole()
        if whole:
            self.listener.came((self._behind + share * self._takes(self._open)) / whole)

    def _close(self) -> None:
        self.came(1.0)
        self._behind += self._takes(self._open)
        self._open = ()

    def _whole(self) -> float:
        return self._takes(tuple(self.options.only) or tuple(PROVES))

    def _takes(self, names: tuple[str, ...]) -> float:
        return sum(_TAKES[name][self.options.quick] if name in _TAKES else _TAKES_SECONDS for name in names)

    def wants(self, *names: str) -> bool:
        """Whether these groups are to run; those that are not are in the report all the same."""
        only = self.options.only
        if not only or only.intersection(names):
            return True
        for name in names:
            self.skip(name, "it was not asked for")
        return False

    def skip(self, name: str, why: str) -> None:
        group = Group(name, PROVES[name], not_run=why, is_done=True)
        self.report.groups.append(group)
        if not self.options.only:
            self._open = (name,)
            self._close()
        self.listener.ended(group)


def begin(site: Site, options: Options, listener: Listener, pace: Pace) -> Stage:
    """A stage without any group yet."""
    now = datetime.now(UTC)
    address = gateway_address(site.settings)
    mode = "real tenants, throw-away keys" if options.tenants else "throw-away probe tenants"
    run, started_at = secrets.token_hex(4), now.strftime("%Y-%m-%dT%H:%M:%SZ")
    report = Report(run, started_at, __version__, address.url, list(options.tenants), mode)
    report.not_covered += NOT_COVERED
    return Stage(site, options, report, address, listener, now.timestamp(), pace)
