"""Which control processes live, and who does what one does at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from tenantry.control.findings import Finding
from tenantry.control.leading import BOOKING_FILE, SITE_FILE, holder_of, runs_in
from tenantry.control.presence import LOCK_FILE
from tenantry.control.site import host
from tenantry.control.views import View
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.kernel import command_of, holders_of
from tenantry.settings import Settings
from tenantry.storage.controls import ControlRecord, ControlStore
from tenantry.storage.database import path_of_store

LIVES, ENDED = "lives", "ended"
_SECOND_US: Final = 1_000_000
_NOBODY_HERE: Final = "nobody books the journals here"
_TOGETHER: Final = (
    "`cluster = true` in each tenantry.toml; where several grant by themselves, stop them all but one; `tenantry "
    "restart` there; then start the others"
)
_START: Final = "start `tenantry serve` (or `tenantry control`)"


@value
class ControlView(View):
    """A control process. `books`: the journals of its machine; `leads`: it does the work of the whole site.

    `since` null: on SQLite nobody notes it.
    """

    control_id: str
    machine: str
    pid: int
    address: str
    since: str | None
    state: str
    books: bool
    leads: bool


def list_controls(settings: Settings, engine: Engine) -> list[ControlView]:
    """On PostgreSQL all that share the store, those that ended within a day too; on SQLite those of this machine.

    Raises: SQLAlchemyError.
    """
    store = path_of_store(settings.store_url)
    if store is None:
        return sorted((_of_store(one) for one in ControlStore(engine).list_controls()), key=place_of)
    return sorted(_of_machine(settings, store), key=place_of)


def place_of(one: ControlView) -> tuple[bool, str, int, str]:
    """Where it stands in a list: those that live first, by machine."""
    return one.state != LIVES, one.machine, one.pid, one.control_id


def _of_store(one: ControlRecord) -> ControlView:
    since = stamp(datetime.fromtimestamp(one.since_us // _SECOND_US, UTC))
    state = LIVES if one.is_live else ENDED
    return ControlView(one.control_id, one.machine, one.pid, one.address, since, state, one.is_booking, one.is_leading)


def _of_machine(settings: Settings, store: Path) -> Iterator[ControlView]:
    booking, leading = holder_of(settings.data_dir / BOOKING_FILE), holder_of(store.with_name(SITE_FILE))
    named = {one.pid: one for one in (booking, leading) if one is not None}
    others = [pid for pid in holders_of(settings.data_dir / LOCK_FILE) if " control" in command_of(pid)]
    for pid in dict.fromkeys([*named, *others]):
        yield ControlView(
            named[pid].control_id if pid in named else "",
            host(),
            pid,
            named[pid].address if pid in named else "",
            None,
            LIVES,
            booking is not None and booking.pid == pid,
            leading is not None and leading.pid == pid,
        )


def check_leaders(settings: Settings, engine: Engine) -> Iterator[Finding]:
    """Who books the journals of this machine, and who does the work of the site. Raises: SQLAlchemyError."""
    found = [one for one in list_controls(settings, engine) if one.state == LIVES]
    booking = holder_of(settings.data_dir / BOOKING_FILE)
    leading = next((one for one in found if one.leads), None)
    if found or booking is not None:
        words = f"{len(found)} live; " + (f"process {booking.pid} books the journals here" if booking else _NOBODY_HERE)
        words += (
            f"; process {leading.pid} of {leading.machine} leads the site" if leading else "; nobody leads the site"
        )
        ok = booking is None or leading is not None  # whether what nobody books is missed, `booking` says
        mend = "" if ok else f"another takes over within some seconds; where none does: {_START} here"
        yield Finding("controls", ok, words, mend)
    if path_of_store(settings.store_url) is None:
        for machine in ControlStore(engine).list_unbooked_machines(runs_in(settings.journal_dir)):
            mend = f"{_START} there; lost for good: `tenantry gateways forget`, as `gateways list` names its gateways"
            yield Finding(f"journals of {machine}", False, "nobody books them", mend)
        for machine, gateway in ControlStore(engine).list_lone_gateways():
            found = f"grants by itself on {machine}, beside gateways elsewhere: limits and budgets count there anew"
            yield Finding(gateway, False, found, _TOGETHER)
