"""verify isolation: tries to break isolation between tenants on the running gateway."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.cli.context import FAILED, INTERRUPTED, USAGE, ToldLater, fail, opened, opened_site
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, say
from tenantry.cli.remote.api import Api
from tenantry.cli.remote.files import fetch
from tenantry.cli.remote.server import NAMED
from tenantry.cli.remote.tasks import followed
from tenantry.control.isolation.findings import PASS

if TYPE_CHECKING:
    from tenantry.control.isolation.findings import Report
    from tenantry.control.isolation.stage import Options, Stage

app = typer.Typer(help="Prove what the gateway promises, on the running one.", no_args_is_help=True)

# The alarm is that of one that came while something was being stored.
_INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
AGAIN_SECONDS = 0.01
_REAL = "Real tenants: only refusals and free routes are sent, no messages (--yes allows one each)."


@app.callback()
def verify() -> None:
    """Prove what the gateway promises, on the running one."""


@app.command()
def isolation(
    tenants: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Try these tenants, with throw-away keys, instead of throw-away tenants."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report to this HTML file.")] = None,
    logs: Annotated[
        list[Path] | None, typer.Option(help="A log file or folder to search too; may be repeated.")
    ] = None,
    as_json: AsJson = False,
    quick: Annotated[bool, typer.Option("--quick", help="Less load: some seconds.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --tenants: send one real message for each.")] = False,
) -> None:
    """Try to get from one tenant into another; exit 1 if anything came through, with the request that did it."""
    with _interruptible() as interrupts:
        named = tuple(slug.strip() for slug in (tenants or "").split(",") if slug.strip())
        if tenants is not None and len(set(named)) < 2:
            raise fail(
                "isolation is between tenants: name at least two different ones, as in --tenants acme,globex", USAGE
            )
        if report is not None and not report.parent.is_dir():
            raise fail(f"there is no folder {report.parent} for the report", USAGE)
        missing = [path for path in logs or [] if not path.exists()]
        if missing:
            raise fail(f"there is no log {missing[0]}", USAGE)
        if named and not yes:
            say(_REAL, err=True)
        if NAMED.get() is not None:
            done = _proved_there(named, report, has_logs=bool(logs), quick=quick, messages=yes)
        else:
            done = _proved_here(named, report, tuple(logs or ()), interrupts, quick=quick, messages=yes)
        _tell(done, report, as_json)


def _proved_here(
    named: tuple[str, ...],
    report: Path | None,
    logs: tuple[Path, ...],
    interrupts: Interrupts,
    *,
    quick: bool,
    messages: bool,
) -> dict[str, Any]:
    from tenantry.control.isolation.report import write_report
    from tenantry.control.isolation.stage import Options

    done = _prove(Options(named, quick, messages, logs), interrupts)
    if report is not None:
        try:
            write_report(done, report)
        except OSError as error:
            raise fail(f"the report could not be written: {error}") from None
    return done.as_json()


def _proved_there(
    named: tuple[str, ...], report: Path | None, *, has_logs: bool, quick: bool, messages: bool
) -> dict[str, Any]:
    """By the machine of control, which tells each group as it ends."""
    if has_logs:
        raise fail("--logs are files of the machine of control: search them there, without --server", USAGE)
    with opened() as at:
        if not isinstance(at, Api):
            raise TypeError("no server is named")
        body = {"tenants": list(named), "quick": quick, "messages": messages}
        done = followed(at, "proofs", body=body, line=_tell_line)
        kept = done.pop("report")
        if report is not None:
            try:
                fetch(at, report, "proofs", kept)
            except OSError as error:
                raise fail(f"the report could not be written: {error.strerror or error}") from None
    return done


class Interrupts:
    """Ctrl-C, `kill` and a terminal that closes: the first ends the run, the others do not disturb what it tidies up.

    `stage` is what was under way, for the last line to say.
    """

    def __init__(self) -> None:
        self.stage: Stage | None = None
        self._is_held = False

    def came(self, _number: int, frame: FrameType | None) -> None:
        """Not in the midst of a transaction, which would stay open under whoever tidies up: a moment later."""
        if self._is_held:
            return
        if _is_storing(frame):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
            return
        self._is_held = True
        raise ToldLater

    def watch(self, stage: Stage) -> None:
        """It is under way."""
        self.stage = stage

    def hold(self) -> None:
        """From here on what was begun is brought to its end."""
        self._is_held = True

    @property
    def words(self) -> str:
        """What was done and what not."""
        if self.stage is None:
            return "interrupted before anything was tried"
        from tenantry.control.isolation.stage import PROVES

        groups = self.stage.report.groups
        held = [group.name for group in groups if group.is_done and not group.not_run and not group.failures]
        failed = [group.name for group in groups if group.failures]
        settled = {*held, *failed, *(group.name for group in groups if group.not_run)}
        left = [name for name in PROVES if name not in settled]
        parts = [("held", held), ("FAILED", failed), ("not shown", left)]
        told = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
        return f"interrupted, and what it had made is removed; {told}"


def _is_storing(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(("sqlalchemy.", "tenantry.storage.")):
            return True
        frame = frame.f_back
    return False


@contextmanager
def _interruptible() -> Generator[Interrupts]:
    interrupts = Interrupts()
    before = {number: signal.signal(number, interrupts.came) for number in _INTERRUPTING}
    try:
        yield interrupts
    except KeyboardInterrupt:
        before = dict.fromkeys(_INTERRUPTING, signal.SIG_IGN)  # all is said: what comes now finds nothing to end
        raise fail(interrupts.words, INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _prove(options: Options, interrupts: Interrupts) -> Report:
    from tenantry.cli.proof_progress import Watched, told_progress
    from tenantry.control.isolation.probes import ProofRunning
    from tenantry.control.isolation.prover import prove
    from tenantry.control.isolation.waiting import ProofImpossible

    try:
        with opened_site() as site, told_progress(sys.stderr) as told:
            return prove(site, options, Watched(told, interrupts.watch, interrupts.hold))
    except (ProofImpossible, ProofRunning) as error:
        raise fail(str(error)) from None


def _tell_line(line: str) -> None:
    if line != _REAL:  # which was told before it was asked for
        say(line, err=True)


def _tell(done: dict[str, Any], path: Path | None, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        checks: list[dict[str, Any]] = [check for group in done["groups"] for check in group["checks"]]
        failed = sum(not check["ok"] for check in checks)
        say(f"{done['verdict']}: {len(checks)} checks, {failed} failed, {done['seconds']} s, on {done['gateway']}")
        if path is not None:
            say(f"Report: {path}")
    if done["verdict"] != PASS:
        raise typer.Exit(FAILED)
