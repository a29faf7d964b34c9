"""The proof, run beside other work: one at a time, watched while it runs, its last report kept."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from tenantry.control.isolation.engine import clean_site, prove_probes
from tenantry.control.isolation.findings import Group, Report
from tenantry.control.isolation.pace import kept_pace
from tenantry.control.isolation.probes import ProofRunning
from tenantry.control.isolation.stage import PROVES, Listener, Options, begin
from tenantry.control.isolation.waiting import ProofImpossible
from tenantry.control.site import Site
from tenantry.storage.directory import DirectoryError

log = logging.getLogger("tenantry.control")


@dataclass(frozen=True, slots=True)
class Run:
    """How far one has come. `share` is from 0 to 1; `ended` are its groups that have a verdict, in their order.

    `fault` says why it could not be brought to its end; `report` is there when it was.
    """

    by: str
    is_quick: bool
    started_at: datetime
    share: float = 0.0
    ended: tuple[Group, ...] = field(default_factory=tuple)
    report: Report | None = None
    fault: str = ""

    @property
    def is_running(self) -> bool:
        return self.report is None and not self.fault

    @property
    def waiting(self) -> list[str]:
        """What has no verdict yet, by what it proves."""
        done = {group.name for group in self.ended}
        return [words for name, words in PROVES.items() if name not in done]


class Prover(Listener):
    """Runs the proof in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: Run | None = None

    def last(self) -> Run | None:
        """The run that is under way, or the last one of this process."""
        with self._lock:
            return self._run

    def start(self, site: Site, by: str, *, is_quick: bool) -> bool:
        """Whether it was begun: False while one runs. `site` is on behalf of whoever asks."""
        with self._lock:
            if self._run is not None and self._run.is_running:
                return False
            self._run = Run(by, is_quick, datetime.now(UTC))
        threading.Thread(target=self._prove, args=(site, is_quick), name="isolation proof", daemon=True).start()
        return True

    def came(self, share: float) -> None:
        self._change(share=min(1.0, share))

    def ended(self, group: Group) -> None:
        with self._lock:
            if self._run is not None:
                self._run = replace(self._run, ended=(*self._run.ended, group))

    def _prove(self, site: Site, is_quick: bool) -> None:
        try:
            with kept_pace() as pace, clean_site(site):
                report = prove_probes(begin(site, Options(quick=is_quick), self, pace))
            self._change(report=report, share=1.0)
        except (ProofImpossible, ProofRunning, DirectoryError, SQLAlchemyError, OSError) as error:
            log.warning("the isolation proof could not be run: %s", error)
            self._change(fault=(str(error).splitlines() or [type(error).__name__])[0])
        except BaseException:
            self._change(fault="it broke; the log of control says what went wrong")
            raise

    def _change(self, **values: object) -> None:
        with self._lock:
            if self._run is not None:
                self._run = replace(self._run, **values)  # pyright: ignore[reportArgumentType] -- fields of Run
