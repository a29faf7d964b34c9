"""Whether a month's ledger is complete: everything that ended in it is booked."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine

from tenantry.billing.months import Month
from tenantry.billing.usage import start_us
from tenantry.control.leading import runs_in
from tenantry.control.site import Site
from tenantry.ledger.lag import booking_lag
from tenantry.settings import Settings
from tenantry.storage.controls import ControlStore
from tenantry.storage.directory import DirectoryError


class MonthIncomplete(DirectoryError):
    """What ended in the month is not all booked yet; the message says how much waits, and what to do."""


def require_complete(site: Site, month: Month) -> None:
    """Raises: MonthIncomplete: a journal holds what ended in the month and is not in the ledger, or cannot be read."""
    require_booked(site, start_us(month.end, site.settings.zone), str(month))


def require_booked(site: Site, end_us: int, period: str) -> None:
    """The same for all that ended before an instant, at which the period ends. Raises: MonthIncomplete."""
    try:
        lag = booking_lag(site.engine, site.settings.journal_dir)
    except OSError as error:
        raise MonthIncomplete(
            f"whether {period} is complete cannot be known: a journal cannot be read ({error.strerror or error})"
        ) from None
    elsewhere = unbooked_elsewhere(site.engine, site.settings)
    if elsewhere:
        raise MonthIncomplete(f"the ledger of {period} is not complete: {elsewhere}")
    if lag.oldest_us is None or (lag.oldest_us >= end_us and not lag.is_more):
        return
    since = datetime.fromtimestamp(lag.oldest_us // 1_000_000, UTC)
    raise MonthIncomplete(
        f"the ledger of {period} is not complete: {lag.attempts:,}{' and more' if lag.is_more else ''} attempts wait "
        f"to be booked, the oldest ended at {since:%Y-%m-%d %H:%M:%S} UTC. `tenantry control` books them (part of "
        "`tenantry serve`); `tenantry doctor` says why they wait"
    )


def unbooked_elsewhere(engine: Engine, settings: Settings) -> str:
    """Other machines whose gateways' journals nobody books, in words; "": none. What they hold cannot be read here."""
    if engine.dialect.name == "sqlite":
        return ""
    machines = ControlStore(engine).list_unbooked_machines(runs_in(settings.journal_dir))
    if not machines:
        return ""
    return (
        f"nobody books the journals of {', '.join(machines)}: start `tenantry serve` there (or `tenantry control`); "
        "what was lost with its disk is told with `tenantry gateways forget`"
    )
