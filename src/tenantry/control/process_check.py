"""Do the processes of this site work: gateways, the control process, the booking of journals?"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine

from tenantry.control.findings import Finding
from tenantry.control.presence import LOCK_FILE
from tenantry.kernel import DISK_SLEEP, STOPPED, TRACED, command_of, holders_of, state_of, uses_another
from tenantry.ledger.lag import Lag, booking_lag
from tenantry.ledger.live import LIVE_SECONDS_MAX, LiveGateway, read_live
from tenantry.settings import Settings

# Booking comes five times a second and waits two seconds after a fault.
LAG_SECONDS_MAX = 10.0
_RESTART = "restart Tenantry (`systemctl restart tenantry`, or end `tenantry serve` and start it)"


def check_journal(journal_dir: Path) -> Finding:
    """Can a line be written and brought to the disk? Nothing of the try is left."""
    try:
        with tempfile.TemporaryFile(dir=journal_dir) as file:
            file.write(b"\n" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding("journal", False, f"{journal_dir}: {error.strerror}", _mend_journal(journal_dir, error))
    return Finding("journal", True, f"{journal_dir} can be written")


def _mend_journal(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"free space: `du -xh {path.parent} | sort -h | tail` shows where; the gateway then goes on by itself"
    if error.errno == errno.EROFS:
        return f"its disk is mounted read-only: see `dmesg`, then `mount -o remount,rw` the one that `df {path}` names"
    if error.errno == errno.ENOENT:
        return "run `tenantry init`: it makes what is missing"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"it is no folder: `mv {path} {path}.aside`, then `tenantry init`"
    return f"`chown -R` and `chmod 700` {path} for the user that Tenantry runs as"


def check_gateways(settings: Settings, store: Path | None, now: float | None = None) -> Iterator[Finding]:
    """Each gateway that lives: does it go on, and what does it say of itself? `now` is unix seconds."""
    for gateway in read_live(settings.journal_dir, now):
        pids = holders_of(settings.journal_dir / gateway.run_id / "lock")
        yield _gateway(gateway, pids[0] if pids else None, store)


def _gateway(gateway: LiveGateway, pid: int | None, store: Path | None) -> Finding:
    check = f"gateway {pid}" if pid is not None else f"gateway {gateway.run_id}"
    held_up = _held_up(pid)
    if held_up is not None:
        return Finding(check, False, *held_up)
    if pid is not None and store is not None and uses_another(pid, store):
        return Finding(check, False, *_other_store(store))
    told, age = gateway.told, gateway.age_seconds
    if told is None or age is None:
        return Finding(check, True, "runs, and has told nothing of itself yet")
    if not told.health.journal_works:
        return Finding(check, False, "it cannot write its journal, and answers 503", "see `journal` and `disk`")
    if abs(age) > LIVE_SECONDS_MAX:
        return Finding(check, False, f"frozen: it lives, and has told nothing for {age:.0f} s", _mend_silence(pid))
    if told.health.directory_fault:
        found = f"it does not follow the directory: {told.health.directory_fault}"
        return Finding(check, False, found, f"see `database`; if that is ok: {_RESTART}")
    if told.health.credentials_closed:
        mend = "`tenantry init` puts an address back; `tenantry credentials rotate NAME` gives a secret anew"
        found = f"{'; '.join(told.health.credentials_closed)}; its tenants keep the last one that opened, or have none"
        return Finding(check, False, found, mend)
    return Finding(check, True, f"told of itself {max(0.0, age):.0f} s ago")


def _mend_silence(pid: int | None) -> str:
    if pid is not None and state_of(pid) == DISK_SLEEP:
        return "it waits for a disk: `dmesg` says what is wrong with it"
    end = f"`kill -KILL {pid}`" if pid is not None else "end its process"
    return f"if `disk` and `journal` are ok: {end}; `tenantry serve` starts its own again, not another one"


def _held_up(pid: int | None) -> tuple[str, str] | None:
    """Why a process does nothing, and the cure, where the kernel knows."""
    state = state_of(pid) if pid is not None else ""
    if state == STOPPED:
        return "frozen: its process is stopped (SIGSTOP)", f"let it go on: `kill -CONT {pid}`"
    if state == TRACED:
        return "frozen: a debugger holds its process", "end the debugger, or let it continue"
    return None


def _other_store(store: Path) -> tuple[str, str]:
    return (
        f"it uses another file than {store}, which was deleted or replaced while it ran",
        f"if the file that is there now is the right one: {_RESTART}; if not, put the right one there first",
    )


def check_control(
    settings: Settings, engine: Engine, store: Path | None, now: float | None = None
) -> Iterator[Finding]:
    """Does the control process go on, and does it book? `now` is unix seconds."""
    pids = holders_of(settings.data_dir / LOCK_FILE)
    ours = [pid for pid in pids if " control" in command_of(pid)] or pids
    held_up: tuple[str, str] | None = None
    for pid in ours:
        held_up = _held_up(pid)
        if held_up is None and store is not None and uses_another(pid, store):
            held_up = _other_store(store)
        if held_up is not None:
            yield Finding(f"control {pid}", False, *held_up)
    lag = booking_lag(engine, settings.journal_dir)
    age = (time.time() if now is None else now) - (lag.oldest_us or 0) / 1_000_000
    if lag.oldest_us is None:
        yield Finding("booking", True, "every attempt that ended is booked")
    elif age <= LAG_SECONDS_MAX:
        yield Finding("booking", True, f"{_described(lag)} wait for the next round")
    else:
        yield Finding(
            "booking", False, f"{_described(lag)} not booked, the oldest for {age:.0f} s", _mend_booking(ours)
        )


def _described(lag: Lag) -> str:
    count = f"{'more than ' if lag.is_more else ''}{lag.attempts}"
    return f"{count} attempts ({lag.journal_bytes} bytes of journal)"


def _mend_booking(pids: list[int]) -> str:
    if not pids:
        return "no control process runs: start `tenantry serve` (or `tenantry control`); it books all of it"
    return (
        "see `database`, `disk` and `control` here; if they are ok, the log of control says why, "
        f"and: {_RESTART}. Nothing is lost: journals are kept"
    )
