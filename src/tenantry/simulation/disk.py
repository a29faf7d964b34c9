"""A simulated disk with a journal on it: the gateway's own writer and its lines, on bytes in memory.

What a write has brought to the file survives the gateway's death, as it does a `kill -9`; what was being written then
is torn at any byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from zoneinfo import ZoneInfo

import msgspec

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress
from tenantry.domain.opening import PERIODS, Opening
from tenantry.domain.orphans import LastSigns
from tenantry.domain.periods import Period, period_of
from tenantry.domain.prices import PriceTable
from tenantry.ledger.events import EndedAttempt, RunFold
from tenantry.ledger.journal import JournalUnavailable, JournalWriter
from tenantry.simulation.clock import Clock


class Run:
    """The file of one run of a gateway. `died_us`: when its gateway was found dead, None while it lives.

    `machine` has its disk; `is_away`: that is off, and nobody can read it.
    """

    def __init__(self, name: str, machine: str = "") -> None:
        self.name = name
        self.machine = machine
        self.is_away = False
        self.data = bytearray()
        self.written_us = 0
        self.died_us: int | None = None
        self.offset = 0  # how far it is booked
        self.fold = RunFold()

    def lines(self, offset: int) -> list[bytes]:
        return bytes(self.data[offset:]).splitlines(keepends=True)

    def read(self) -> RunFold:
        """All of it, from its beginning."""
        fold = RunFold()
        fold.take(self.lines(0), 1, 0, 1 << 60)
        return fold

    def begun(self) -> list[str]:
        """The attempts whose beginnings stand in it, whole."""
        fold = self.read()
        return [*fold.open, *(one.begun.attempt_id for one in fold.ended)]

    def orphans(self, fold: RunFold, prices: PriceTable, at_us: int) -> list[EndedAttempt]:
        """What its gateway left without an end."""
        if self.died_us is None:
            return []
        return fold.orphans(prices, at_us, LastSigns(self.written_us, self.died_us, self.written_us))


class _Writer(JournalWriter):
    """The writer of a gateway, on a run in memory; `works` is False while the disk is full."""

    def __init__(self, run: Run) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._run = run
        self.works = True

    @property
    def waiting(self) -> bytes:
        """What is not written yet."""
        return b"".join(self._lines)

    def _append(self, lines: bytes) -> None:
        if not self.works:
            raise JournalUnavailable("the journal's disk is full")
        self._run.data += lines


class Journal:
    """What a gateway writes. A write takes `write_seconds`; the lines of one turn go together."""

    def __init__(self, run: Run, clock: Clock, wall_us: Callable[[], int]) -> None:
        self.run = run
        self.write_seconds = 0.0
        self._writer = _Writer(run)
        self._clock = clock
        self._wall_us = wall_us
        self._begun: list[Callable[[bool], None]] = []
        self._is_planned = False
        self._is_dead = False

    @property
    def works(self) -> bool:
        return self._writer.works

    @works.setter
    def works(self, works: bool) -> None:
        self._writer.works = works
        if works:
            self._plan()

    def begin(self, event: AttemptBegun, then: Callable[[bool], None]) -> None:
        """`then` is told whether it stands in the journal; only then may the attempt be sent."""
        self._writer.begin(event)
        self._begun.append(then)
        self._plan()

    def progress(self, event: AttemptProgress) -> None:
        self._writer.progress(event)
        self._plan()

    def end(self, event: AttemptEnded) -> None:
        self._writer.end(event)
        self._plan()

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            if self.write_seconds:
                self._clock.call_later(self.write_seconds, self._flush)
            else:
                self._clock.call_soon(self._flush)

    def flush(self) -> bool:
        """What is waiting is written at once. False: the disk is full."""
        self._flush()
        return self.works

    def _flush(self) -> None:
        if self._is_dead:
            return
        self._is_planned = False
        begun, self._begun = self._begun, []
        try:
            self._writer.flush()
        except JournalUnavailable:
            written = False
        else:
            written = True
            self.run.written_us = self._wall_us()
        for then in begun:
            then(written)

    def die(self, random: Random) -> None:
        """The process is killed; of what it was about to write, any part is on the file."""
        self._is_dead = True
        waiting = self._writer.waiting
        if waiting and self._writer.works:
            self.run.data += waiting[: random.randrange(len(waiting))]


class Ledger:
    """The rows, by attempt; and the one who books journals into them. `twice`: attempts booked more than once.

    `sums`: nano-dollars by tenant, key, period kind and the period's start. `rows` are those since `forget_rows`.
    """

    def __init__(self, prices: PriceTable, zone: ZoneInfo) -> None:
        self._prices = prices
        self._zone = zone
        self._known: set[str] = set()
        self.rows: dict[str, EndedAttempt] = {}
        self.runs: list[Run] = []
        self.twice: list[str] = []
        self.sums: Counter[tuple[str, str, str, int]] = Counter()
        self.closed: set[str] = set()  # dead runs that are booked to their ends
        # By run, tenant, key, period kind and start; kind "" is all that there ever was. Key "" is the tenant's own.
        self.by_run: Counter[tuple[str, str, str, str, int]] = Counter()
        self.knows_rows = True  # a row that is there is not booked again

    def opening(self, at_us: int, machine: str = "") -> Opening:
        """What a gateway begins with at that time: the rows, and what stands in its machine's journals beside them."""
        opening = Opening(at_us)
        periods = self.periods(at_us)
        for (tenant_id, key_id, kind, start_us), nanos in self.sums.items():
            if any(period.kind == kind and period.start_us == start_us for period in periods):
                opening.add(tenant_id, key_id, kind, nanos)
        for run in self.runs:
            if run.machine == machine and not run.is_away:
                for one in self.unbooked(run, at_us):
                    begun, end = one.begun, one.end
                    opening.count(periods, begun.tenant_id, begun.key_id, end.ended_at_us, end.counted_nanos)
        return opening

    def periods(self, at_us: int) -> list[Period]:
        return [period_of(kind, at_us, self._zone) for kind in PERIODS]

    def unbooked(self, run: Run, at_us: int) -> list[EndedAttempt]:
        """What has ended, or was left by a dead gateway, and has no row yet."""
        fold = run.read()
        found = [*fold.ended, *run.orphans(fold, self._prices, at_us)]
        return [one for one in found if one.begun.attempt_id not in self._known]

    def forget_rows(self) -> None:
        """Everything is booked, and has been looked at: what is kept are sums, and names."""
        self.rows.clear()
        for run in self.runs:
            run.data.clear()
            run.offset = 0
            run.fold = RunFold()

    def drain(self, at_us: int, *, dies_after: int | None = None) -> None:
        """Book what has come. `dies_after`: so many rows are booked, and the cursor is not moved: it is read again."""
        left = dies_after
        for run in list(self.runs):
            if run.is_away:
                continue
            fold = run.fold
            offset = fold.take(run.lines(run.offset), 1, run.offset, 1 << 60)
            ended, is_dead = list(fold.ended), run.died_us is not None
            if is_dead:
                ended += run.orphans(fold, self._prices, at_us)
            for one in ended:
                if left is not None:
                    if left == 0:
                        self._read_again(run)
                        return
                    left -= 1
                self.book(one, run.name)
            run.offset = offset
            fold.forget()
            if is_dead:
                self.runs.remove(run)
                self.closed.add(run.name)

    def _read_again(self, run: Run) -> None:
        run.fold, run.offset = RunFold(), 0

    def book(self, one: EndedAttempt, run: str) -> None:
        attempt_id = one.begun.attempt_id
        if attempt_id in self._known:
            if self.knows_rows:
                return
            self.twice.append(attempt_id)
        self._known.add(attempt_id)
        self.rows[attempt_id] = one
        begun, end = one.begun, one.end
        for kind in PERIODS:
            start_us = period_of(kind, end.ended_at_us, self._zone).start_us
            self.sums[begun.tenant_id, begun.key_id, kind, start_us] += end.counted_nanos
            for key_id in ("", begun.key_id):
                self.by_run[run, begun.tenant_id, key_id, kind, start_us] += end.counted_nanos
        for key_id in ("", begun.key_id):
            self.by_run[run, begun.tenant_id, key_id, "", 0] += end.counted_nanos
