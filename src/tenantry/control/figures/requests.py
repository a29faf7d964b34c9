"""The explorer of the ledger: what somebody asks for, as rows, as a sum and as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from tenantry.control.figures.days import DaySums
from tenantry.control.figures.scope import Scope
from tenantry.control.figures.time import DAY_US
from tenantry.control.site import Site
from tenantry.domain.money import BadAmount, read_usd
from tenantry.domain.periods import BadPeriod, read_period
from tenantry.ledger.explorer import LedgerPage, Place, Wanted, every_row, list_rows
from tenantry.ledger.exports import COLUMNS, csv_line, export_lines
from tenantry.ledger.rollup import QUARTER_US
from tenantry.ledger.series import NOTHING, Selection, Sums, sum_of
from tenantry.storage.database import reading

OUTCOMES: Final = ("settled", "voided", "estimated", "orphaned", "unpriced", "adjusted")
FIELDS: Final = ("tenant", "key", "model", "outcome", "status", "from", "to", "min", "max", "proof")
# What the isolation proof has sent is not shown but where it is asked for: beside the rest, or alone.
PROOF_WITH, PROOF_ONLY = "with", "only"
_PROOF: Final[Mapping[str, bool | None]] = {"": False, PROOF_WITH: None, PROOF_ONLY: True}
_WORD_CHARS_MAX: Final = 128
_STATUSES: Final = range(100, 600)
# The largest number that a database takes; nothing has one beyond it.
_STORED_MAX: Final = 2**63 - 1
# Of a longer time the rows are shown, and no sum.
SUMMED_DAYS_MAX: Final = 62


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed, by field, what is wrong with it, and the rows that are meant."""

    typed: Mapping[str, str]
    problems: Mapping[str, str]
    wanted: Wanted


def read_asked(typed: Mapping[str, str], scope: Scope, zone: ZoneInfo) -> Asked:
    """A field that is wrong is passed over, and told."""
    problems: dict[str, str] = {}
    text = {name: typed.get(name, "").strip()[:_WORD_CHARS_MAX] for name in FIELDS}

    def moment(name: str, *, is_end: bool) -> int | None:
        try:
            return _moment(text[name], zone, is_end=is_end) if text[name] else None
        except (ValueError, OverflowError):
            problems[name] = "A day such as 2026-11-29, a month, or a time such as 2026-11-29T14:30."
            return None

    def dollars(name: str) -> int | None:
        try:
            return read_usd(text[name].lstrip("$")) if text[name] else None
        except BadAmount:
            problems[name] = "Dollars, such as 0.05."
            return None

    status: int | None = None
    if text["status"]:
        if text["status"].isascii() and text["status"].isdigit() and int(text["status"]) in _STATUSES:
            status = int(text["status"])
        else:
            problems["status"] = "A status such as 200 or 529."
    if text["outcome"] and text["outcome"] not in OUTCOMES:
        problems["outcome"] = f"One of {', '.join(OUTCOMES)}."
    ids = scope.ids
    if text["tenant"]:
        tenant = scope.tenants.get(text["tenant"])
        if tenant is None:
            problems["tenant"] = f"There is no tenant {text['tenant']!r}."
        ids = [tenant.tenant_id] if tenant is not None else []
    if text["proof"] not in _PROOF:
        problems["proof"] = f"{PROOF_WITH} or {PROOF_ONLY}; nothing: without."
    wanted = Wanted(
        ids,
        text["key"] or None,
        text["model"] or None,
        text["outcome"] if text["outcome"] in OUTCOMES else None,
        status,
        moment("from", is_end=False),
        moment("to", is_end=True),
        dollars("min"),
        dollars("max"),
        _PROOF.get(text["proof"], False),
    )
    return Asked(text, problems, wanted)


def _moment(text: str, zone: ZoneInfo, *, is_end: bool) -> int:
    """A day, week or month is all of it. Raises: ValueError, OverflowError."""
    try:
        period = read_period(text, zone)
        return period.end_us if is_end else period.start_us
    except BadPeriod:
        at = datetime.fromisoformat(text)
        aware = at if at.tzinfo is not None else at.replace(tzinfo=zone)
        return (aware.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Found:
    """A page, and the sum of the whole selection; None: its filters are finer than the sums that are kept.

    `hidden`: what the isolation proof's own tenants used that is so and not shown; None as above.
    """

    page: LedgerPage
    whole: Sums | None
    hidden: Sums | None


def find_requests(
    site: Site, days: DaySums, wanted: Wanted, behind: Place | None, now_us: int, most: int = 50
) -> Found:
    with reading(site.engine) as connection:
        page, whole = list_rows(connection, wanted, behind, most), _sum_of(connection, days, wanted, now_us)
        if wanted.is_proof is not False or wanted.tenant_ids is not None:
            return Found(page, whole, NOTHING)
        return Found(page, whole, _sum_of(connection, days, replace(wanted, is_proof=True), now_us))


def _sum_of(connection: Connection, days: DaySums, wanted: Wanted, now_us: int) -> Sums | None:
    """Of rows that the roll-up can sum: by tenant, key, model, outcome, within whole quarters of an hour."""
    finer = (wanted.status, wanted.cost_nanos_min, wanted.cost_nanos_max)
    start_us, end_us = wanted.start_us, min(wanted.end_us or now_us + DAY_US, now_us + DAY_US)
    # Without a beginning it would be a sum of everything there ever was.
    if start_us is None or end_us - start_us > SUMMED_DAYS_MAX * DAY_US or any(one is not None for one in finer):
        return None
    if start_us >= end_us:
        return NOTHING
    if start_us % QUARTER_US or (wanted.end_us or 0) % QUARTER_US:
        return None
    finer_still = (wanted.key_id, wanted.model, wanted.outcome, wanted.is_proof)
    of = Selection(start_us, end_us, wanted.tenant_ids, *finer_still)
    if wanted.tenant_ids is not None and len(wanted.tenant_ids) <= 1:
        return sum_of(connection, of)
    return days.sum_of(connection, of, now_us)


def csv_of(site: Site, wanted: Wanted) -> Iterator[bytes]:
    """The selection with the columns of an export, newest first, some rows at a time."""
    head = io.StringIO()
    csv.writer(head).writerow(COLUMNS)
    yield head.getvalue().encode()
    with reading(site.engine) as connection:
        for ids in every_row(connection, wanted):
            if ids:
                yield b"".join(csv_line(line) for line in export_lines(connection, ids))


def place_of(text: str) -> Place | None:
    """From an address; what is no place is the beginning."""
    at, _, number = text.partition(".")
    if not (at.isascii() and at.isdigit() and number.isascii() and number.isdigit() and len(text) <= 40):
        return None
    place = Place(int(at), int(number))
    return place if max(place.ended_at_us, place.entry_id) <= _STORED_MAX else None


def as_text(place: Place) -> str:
    return f"{place.ended_at_us}.{place.entry_id}"
