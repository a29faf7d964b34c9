"""The proof, run for whoever asks: a command runs it in its own process, pages and the API as a task of control."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from tenantry.control.isolation.engine import clean_site, prove_probes
from tenantry.control.isolation.findings import Group, Report, lines_of
from tenantry.control.isolation.pace import kept_pace
from tenantry.control.isolation.probes import ProofRunning
from tenantry.control.isolation.real_tenants import prove_real
from tenantry.control.isolation.report import write_report
from tenantry.control.isolation.stage import Listener, Options, begin
from tenantry.control.isolation.waiting import ProofImpossible
from tenantry.control.site import Site
from tenantry.control.tasks import Progress, Work
from tenantry.settings import Settings
from tenantry.storage.directory import DirectoryError

# The kind of its task.
PROOF: Final = "proof"
log = logging.getLogger("tenantry.control")


class ProofFailed(Exception):
    """The proof could not be run."""


def prove(site: Site, options: Options, listener: Listener) -> Report:
    """The whole of it, and nothing is left of what it made. `site` is on behalf of whoever asks.

    Raises:
        ProofImpossible: no gateway, not this site's, or not between these tenants.
        ProofRunning: another run is at it.
        NotInDirectory: no such tenant.
    """
    with kept_pace() as pace, clean_site(site) as leftovers:
        try:
            stage = begin(site, options, listener, pace)
            listener.began(stage, leftovers)
            return prove_real(stage) if options.tenants else prove_probes(stage)
        finally:
            listener.tidies_up()


def proofs_folder(settings: Settings) -> Path:
    return settings.data_dir / "proofs"


def proof_work(site: Site, options: Options, report: Path) -> Work:
    """What a task does: a line for each group as it ends; its result is the report, which is written to `report` too.

    The work raises ProofFailed.
    """

    def work(progress: Progress) -> dict[str, Any]:
        try:
            report.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            done = prove(site, options, _Telling(progress))
            write_report(done, report)
        except (ProofImpossible, ProofRunning, DirectoryError, SQLAlchemyError, OSError) as error:
            log.warning("the isolation proof could not be run: %s", error)
            raise ProofFailed((str(error).splitlines() or [type(error).__name__])[0]) from error
        return done.as_json() | {"report": report.name}

    return work


class _Telling(Listener):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def came(self, share: float) -> None:
        self._progress.came(min(1.0, share))

    def ended(self, group: Group) -> None:
        for line in lines_of(group):
            self._progress(line)
