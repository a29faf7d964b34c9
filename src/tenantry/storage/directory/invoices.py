"""What is issued, numbered without a gap and never changed; and who bills whom."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, func, insert, select, update

from tenantry.domain.billing_details import YEAR, BadDetails, Details, check_details, read_details
from tenantry.storage.billing_tables import billing_details, invoice_months, invoice_rounds, invoice_series, invoices
from tenantry.storage.columns import aware, now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.versions import NOTHING

# A credit note is over the whole of an invoice, and its month can be billed anew; one over a part leaves it standing.
INVOICE, CREDIT_NOTE, PARTIAL_CREDIT = "invoice", "credit_note", "partial_credit"
# Of the number behind its series; a year of 9,999 sorts as text too.
NUMBER_DIGITS_MIN = 4
FIRST_HASH = "0" * 64
_SAME = ("kind", "tenant_id", "slug", "month", "credits", "currency")
# The step of a round that found nothing to bill: the month is closed without an invoice.
NOTHING_STEP = "nothing"
# Counts documents of all series. Who issues takes it first, so that two come one after the other.
_ALL = ""


class IssuedMeanwhile(DirectoryError):
    """Another invoice of this tenant was issued at the same time; look again at what is left to bill."""


class AnotherDay(IssuedMeanwhile):
    """Midnight passed while it was made, and its day would be wrong; say it again."""


@dataclass(frozen=True, slots=True)
class Covered:
    """Ledger rows of a month that an invoice covers, their list cost and what is billed for the month."""

    month: str
    rows: int
    cost_nanos: int
    net_nanos: int

    @property
    def given_back(self) -> Covered:
        """What a note over all of it covers."""
        return Covered(self.month, -self.rows, -self.cost_nanos, -self.net_nanos)


@dataclass(frozen=True, slots=True)
class NewInvoice:
    """What is to be issued. `after` is the newest document of the tenant when it was made, by its id.

    `document` has its day of issue, and gets its number.
    """

    kind: str
    series: str
    tenant_id: str
    slug: str
    month: str
    currency: str
    total_minor: int
    document: Mapping[str, Any]
    covered: Sequence[Covered]
    after: int
    credits: str | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """An invoice or a credit note as it was issued."""

    invoice_id: int
    number: str
    series: str
    kind: str
    tenant_id: str
    slug: str
    month: str
    credits: str | None
    currency: str
    total_minor: int
    text: str
    prev_hash: str
    row_hash: str
    issued_at: datetime

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.text)


class InvoiceChanges(Changes):
    """Issuing, and the details that it needs."""

    def set_billing(self, slug: str | None, details: Details) -> None:
        """Billing details of a tenant, or with None of the agency.

        Raises:
            NotInDirectory: no such tenant.
            DirectoryError: a detail that cannot be.
        """
        try:
            check_details(details)
        except BadDetails as error:
            raise DirectoryError(str(error)) from None
        with self._engine.begin() as connection:
            tenant_id = self._tenant(connection, slug).tenant_id if slug is not None else ""
            before = _details(connection, tenant_id)
            connection.execute(delete(billing_details).where(billing_details.c.tenant_id == tenant_id))
            stored = json.dumps(details.as_json())
            connection.execute(insert(billing_details).values(tenant_id=tenant_id, details=stored))
            told: dict[str, Any] = {"before": _told(before), "after": _told(details)}
            about = {"tenant": slug} if slug is not None else {}
            self._record(connection, "billing.set", slug or "agency", told | about, NOTHING)

    def list_billing(self) -> dict[str, Details]:
        """Billing details by internal id of the tenant; "" is the agency."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(billing_details)).all()
        return {row.tenant_id: read_details(json.loads(row.details)) for row in rows}

    def billing_of(self, tenant_id: str) -> Details:
        """What was said of a tenant by its internal id, or of the agency for ""."""
        with self._engine.connect() as connection:
            return _details(connection, tenant_id)

    def issue_invoice(self, new: NewInvoice) -> Issued:
        """Give it the next number of its series and keep it, in one transaction.

        Raises:
            IssuedMeanwhile: the tenant has a newer one than was known, or this one; no number was taken.
            AnotherDay: midnight passed since it was made; no number was taken.
        """
        with self._engine.begin() as connection:
            now = now_utc()
            _next_number(connection, _ALL)
            if newest_invoice(connection, new.tenant_id) != new.after:
                raise IssuedMeanwhile((IssuedMeanwhile.__doc__ or "").strip())
            if new.document["issued_on"] != self.today().isoformat():
                raise AnotherDay((AnotherDay.__doc__ or "").strip())
            series = new.series.replace(YEAR, str(self.today().year))
            number = f"{series}{_next_number(connection, series):0{NUMBER_DIGITS_MIN}d}"
            document = {**new.document, "number": number}
            text = json.dumps(document, ensure_ascii=False, sort_keys=True)
            last = connection.execute(select(invoices.c.row_hash).order_by(invoices.c.invoice_id.desc()).limit(1))
            previous = last.scalar() or FIRST_HASH
            values = {name: getattr(new, name) for name in _SAME}
            values |= {"number": number, "series": series, "total_minor": new.total_minor, "document": text}
            values |= {"prev_hash": previous, "row_hash": hash_of(previous, number, text), "actor": self._actor}
            connection.execute(insert(invoices).values(occasion=_occasion(new), issued_at=now, **values))
            _cover(connection, number, new)
            if new.kind == INVOICE:
                connection.execute(delete(invoice_rounds).where(*_closed(new.tenant_id, new.month)))
            detail = {"number": number, "month": new.month, "total_minor": new.total_minor, "currency": new.currency}
            self._record(connection, f"{new.kind}.issue", number, detail | {"tenant": new.slug}, NOTHING)
            return _read(connection.execute(select(invoices).where(invoices.c.number == number)).one())

    def close_month(self, tenant_id: str, month: str, after: int) -> None:
        """Keep that there was nothing to bill: what is booked for the month from now on is on the next invoice.

        `after` as for an invoice: who has got a document since has something, and nothing is kept.
        """
        with self._engine.begin() as connection:
            _next_number(connection, _ALL)
            known = select(invoice_rounds.c.month).where(*_closed(tenant_id, month))
            if newest_invoice(connection, tenant_id) == after and connection.execute(known).first() is None:
                row = {"month": month, "step": NOTHING_STEP, "tenant_id": tenant_id, "ended_at": now_utc()}
                connection.execute(insert(invoice_rounds).values(**row))

    def get_invoice(self, number: str) -> Issued:
        """Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            row = connection.execute(select(invoices).where(invoices.c.number == number)).first()
        if row is None:
            raise NotInDirectory(f"there is no invoice {number[:60]!r}; `tenantry invoices list` has their numbers")
        return _read(row)

    def list_invoices(self, slug: str | None = None, month: str | None = None) -> list[Issued]:
        """In the order in which they were issued."""
        query = select(invoices).order_by(invoices.c.invoice_id)
        if slug is not None:
            query = query.where(invoices.c.slug == slug)
        if month is not None:
            query = query.where(invoices.c.month == month)
        with self._engine.connect() as connection:
            return [_read(row) for row in connection.execute(query)]

    def newest_invoices(
        self,
        most: int,
        tenant_ids: Collection[str] | None = None,
        slug: str | None = None,
        month: str | None = None,
        before: int | None = None,
    ) -> list[Issued]:
        """A page of them, the newest first: of some tenants, behind the one whose `invoice_id` is `before`."""
        query = select(invoices).order_by(invoices.c.invoice_id.desc()).limit(most)
        if tenant_ids is not None:
            query = query.where(invoices.c.tenant_id.in_(tenant_ids))
        if slug is not None:
            query = query.where(invoices.c.slug == slug)
        if month is not None:
            query = query.where(invoices.c.month == month)
        if before is not None:
            query = query.where(invoices.c.invoice_id < before)
        with self._engine.connect() as connection:
            return [_read(row) for row in connection.execute(query)]

    def invoiced(
        self, month: str | None = None, tenant_ids: Collection[str] | None = None
    ) -> dict[tuple[str, str], int]:
        """How many there are by slug and kind, of a month or ever; no document is read."""
        columns = invoices.c
        query = select(columns.slug, columns.kind, func.count()).group_by(columns.slug, columns.kind)
        if month is not None:
            query = query.where(columns.month == month)
        if tenant_ids is not None:
            query = query.where(columns.tenant_id.in_(tenant_ids))
        with self._engine.connect() as connection:
            return {(slug, kind): int(count) for slug, kind, count in connection.execute(query)}

    def last_numbers(self) -> dict[str, int]:
        """The last number that was given, by series."""
        columns = invoice_series.c
        query = select(columns.series, columns.last_number).where(columns.series != _ALL)
        with self._engine.connect() as connection:
            return {series: int(last) for series, last in connection.execute(query)}

    def list_covered(self) -> dict[str, list[Covered]]:
        """What each document covers, by its number, in the order of months; who covers nothing is left out."""
        columns = invoice_months.c
        query = select(columns.number, columns.month, columns.row_count, columns.cost_nanos, columns.net_nanos)
        found: defaultdict[str, list[Covered]] = defaultdict(list)
        with self._engine.connect() as connection:
            for number, month, rows, cost, net in connection.execute(query.order_by(columns.number, columns.month)):
                found[number].append(Covered(month, int(rows), int(cost), int(net)))
        return found


def hash_of(previous: str, number: str, text: str) -> str:
    """Of an issued document, over the one before it: none can be changed, taken away or put between."""
    return sha256(f"{previous}\n{number}\n{text}".encode()).hexdigest()


def newest_invoice(connection: Connection, tenant_id: str) -> int:
    """The id of the tenant's last one; 0 where it has none."""
    query = select(func.max(invoices.c.invoice_id)).where(invoices.c.tenant_id == tenant_id)
    return int(connection.execute(query).scalar() or 0)


def covered_months(connection: Connection, tenant_id: str) -> dict[str, Covered]:
    """What is on invoices, less what was taken back, by month; also late usage of a month without its own."""
    found = connection.execute(_query_of_covered(), {"tenant_id": tenant_id})
    return {month: Covered(month, int(rows), int(cost), int(net)) for month, rows, cost, net in found}


def standing_months(connection: Connection, tenant_id: str) -> dict[str, str]:
    """The number of the invoice that stands for each month."""
    found: dict[str, str] = {}
    for month, number, kind in connection.execute(_query_of_standing(), {"tenant_id": tenant_id}):
        if kind == INVOICE:
            found[month] = number
        elif kind == CREDIT_NOTE:
            found.pop(month, None)
    return found


def closed_months(connection: Connection, tenant_id: str) -> set[str]:
    """Those that had nothing to bill when their invoices were issued, and have had none since."""
    columns = invoice_rounds.c
    here = (columns.step == NOTHING_STEP, columns.tenant_id == tenant_id)
    return set(connection.execute(select(columns.month).where(*here)).scalars())


def _closed(tenant_id: str, month: str) -> tuple[ColumnElement[bool], ...]:
    columns = invoice_rounds.c
    return columns.month == month, columns.step == NOTHING_STEP, columns.tenant_id == tenant_id


def credits_of(connection: Connection, number: str) -> list[Issued]:
    """The credit notes over parts of an invoice, in the order in which they were issued."""
    query = select(invoices).where(invoices.c.credits == number, invoices.c.kind == PARTIAL_CREDIT)
    return [_read(row) for row in connection.execute(query.order_by(invoices.c.invoice_id))]


# Made once each: who bills a year asks them thousands of times.
@cache
def _query_of_covered() -> Select[*tuple[Any, ...]]:
    columns = invoice_months.c
    sums = (func.sum(columns.row_count), func.sum(columns.cost_nanos), func.sum(columns.net_nanos))
    here = columns.tenant_id == bindparam("tenant_id")
    return select(columns.month, *sums).where(here).group_by(columns.month).order_by(columns.month)


@cache
def _query_of_standing() -> Select[*tuple[Any, ...]]:
    query = select(invoices.c.month, invoices.c.number, invoices.c.kind).order_by(invoices.c.invoice_id)
    return query.where(invoices.c.tenant_id == bindparam("tenant_id"))


def last_billed_day(connection: Connection, tenant_ids: Collection[str]) -> date | None:
    """The first day of the newest month that is on an invoice of one of these tenants."""
    months = [month for one in tenant_ids for month in standing_months(connection, one)]
    return date.fromisoformat(f"{max(months)}-01") if months else None


def _next_number(connection: Connection, series: str) -> int:
    """Writes first: whoever issues at the same time waits here."""
    here = invoice_series.c.series == series
    added = update(invoice_series).where(here).values(last_number=invoice_series.c.last_number + 1)
    if not connection.execute(added).rowcount:
        connection.execute(insert(invoice_series).values(series=series, last_number=1))
    return int(connection.execute(select(invoice_series.c.last_number).where(here)).scalar_one())


def _occasion(new: NewInvoice) -> str:
    """A month has one invoice, and after its credit note one more; an invoice has one credit note over all of it."""
    if new.kind == PARTIAL_CREDIT:
        return f"{PARTIAL_CREDIT} {new.credits} {new.after}"
    return f"{CREDIT_NOTE} {new.credits}" if new.kind == CREDIT_NOTE else f"{new.tenant_id} {new.month} {new.after}"


def _cover(connection: Connection, number: str, new: NewInvoice) -> None:
    rows = [
        {
            "number": number,
            "month": one.month,
            "tenant_id": new.tenant_id,
            "row_count": one.rows,
            "cost_nanos": one.cost_nanos,
            "net_nanos": one.net_nanos,
        }
        for one in new.covered
    ]
    if rows:
        connection.execute(insert(invoice_months), rows)


def _details(connection: Connection, tenant_id: str) -> Details:
    query = select(billing_details.c.details).where(billing_details.c.tenant_id == tenant_id)
    stored = connection.execute(query).scalar()
    return read_details(json.loads(stored)) if stored is not None else Details()


def _told(details: Details) -> dict[str, Any]:
    """For the audit log, which has no room for pictures."""
    return details.as_json() | ({"logo": "a picture"} if details.logo else {})


def _read(row: Any) -> Issued:
    names = ("invoice_id", "number", "series", "kind", "tenant_id", "slug", "month", "credits", "currency")
    same = {name: getattr(row, name) for name in names}
    hashes = {"prev_hash": row.prev_hash, "row_hash": row.row_hash}
    return Issued(**same, total_minor=row.total_minor, text=row.document, issued_at=aware(row.issued_at), **hashes)


def covered_by(connection: Connection, number: str) -> list[Covered]:
    """What one invoice covers."""
    columns = invoice_months.c
    query = select(columns.month, columns.row_count, columns.cost_nanos, columns.net_nanos).order_by(columns.month)
    return [
        Covered(month, rows, cost, net)
        for month, rows, cost, net in connection.execute(query.where(columns.number == number))
    ]
