"""The journal's side of the event loop: the events of one turn are written together, behind what made them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Tally
from tenantry.domain.repeats import Repeats
from tenantry.ledger.journal import JournalUnavailable, JournalWriter

log = logging.getLogger("tenantry.gateway")


class Recorder:
    """`works` is False while the journal cannot be written; `is_dirty` when something waits for a sync.

    `needs_care` is set by each flush: something waits for a sync, or for being written after all.
    """

    def __init__(
        self, journal: JournalWriter, call_soon: Callable[[Callable[[], None]], object], now: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._begun: list[Callable[[bool], None]] = []
        self._is_planned = False
        self._call_soon = call_soon
        self._now = now
        self._faults = Repeats()
        self.is_dirty = False
        self.needs_care = asyncio.Event()
        self.works = True

    @property
    def is_behind(self) -> bool:
        """Whether anything waits to be written: only this process knows it."""
        return self._journal.has_lines

    def begin(self, line: bytes, then: Callable[[bool], None]) -> None:
        """`then` is told whether the event is on the file; only then may the attempt be sent."""
        self._journal.add(line)
        self._begun.append(then)
        if not self._is_planned:
            self._is_planned = True
            self._call_soon(self.flush)

    def begin_event(self, event: AttemptBegun, then: Callable[[bool], None]) -> None:
        """The same, of an event that is no line yet."""
        self._journal.begin(event)
        self._begun.append(then)
        self._plan()

    def progress(self, event: AttemptProgress) -> None:
        self._journal.progress(event)
        self._plan()

    def end(self, line: bytes) -> None:
        self._journal.add(line)
        if not self._is_planned:
            self._is_planned = True
            self._call_soon(self.flush)

    def end_event(self, event: AttemptEnded) -> None:
        self._journal.end(event)
        self._plan()

    def tally(self, event: Tally) -> None:
        self._journal.tally(event)
        self._plan()

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits. What cannot be written now is tried again with the next flush."""
        self._is_planned = False
        if not self._journal.has_lines:
            return
        begun, self._begun = self._begun, []
        try:
            self._journal.flush()
        except JournalUnavailable as error:
            written = False
            if self._faults.came(str(error), self._now()):
                log.error("%s; requests are refused until it can", str(error))
        else:
            written = self.is_dirty = True
            if self._faults.count:
                self._tell_end()
        self.works = written
        self.needs_care.set()
        for then in begun:
            try:
                then(written)
            except Exception:  # one request's fault must not cost the others of this turn theirs
                log.exception("a request failed when its beginning stood in the journal")

    def _tell_end(self) -> None:
        count = self._faults.went_well(self._now())
        if count:
            log.warning("the journal can be written again; it could not %d times", count)
