"""Invoices as use-cases: looked at, issued one by one or for all, taken back, proved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy.exc import SQLAlchemyError

from tenantry.billing.books import Books, SumsDiffer, open_books
from tenantry.billing.credits import NotCredited, Part, credit_note, credit_part, left_of
from tenantry.billing.invoice import AlreadyBilled, Client, NotBilled, NothingToBill, draft, finished
from tenantry.billing.months import Month
from tenantry.billing.refusals import NotStructured
from tenantry.billing.render import digits_of, require_known
from tenantry.billing.usage import ReadUsage, read_usage
from tenantry.billing.wording import FALLBACK
from tenantry.control.completeness import require_complete
from tenantry.control.site import Site
from tenantry.domain.billing_details import LIST_CURRENCY, PLAIN, BadDetails, Details, check_details, require_rate
from tenantry.domain.proof import is_of_proof
from tenantry.storage.database import reading
from tenantry.storage.directory import Directory, DirectoryError, NotInDirectory
from tenantry.storage.directory.invoices import (
    CREDIT_NOTE,
    FIRST_HASH,
    INVOICE,
    PARTIAL_CREDIT,
    Covered,
    Issued,
    IssuedMeanwhile,
    NewInvoice,
    covered_by,
    credits_of,
    hash_of,
    newest_invoice,
    standing_months,
)

# The writer's lock is held for a fifth of a second then; one commit an invoice took a third of the time (measured,
# 2026-11-29, `python -m bench.invoices`).
INVOICES_PER_TRANSACTION_MAX = 50


@dataclass(frozen=True, slots=True)
class Passed:
    """What became of one tenant: what would be issued, what was, or why not.

    With a draft and a reason, somebody else issued for it at the same time. `failed`: that is a fault and no state.
    `standing`: the number of the invoice that the month has already. `empty`: there is nothing to bill, as was
    seen after this document of the tenant's.
    """

    client: Client
    draft: NewInvoice | None = None
    issued: Issued | None = None
    why: str = ""
    failed: bool = False
    standing: str | None = None
    empty: int | None = None

    @property
    def slug(self) -> str:
        return self.client.slug


# Looks at a document before it is issued. Raises: NotStructured.
Check: TypeAlias = Callable[[Mapping[str, Any]], None]


def any_document(_: Mapping[str, Any]) -> None:
    """Every document will do."""


@contextmanager
def reading_books(site: Site, read: ReadUsage = read_usage) -> Generator[Books]:
    """The store as it is at this moment. `read`: how usage is read of it."""
    with reading(site.engine) as connection:
        yield open_books(site.directory, connection, site.settings.zone, read)


def agency_details(site: Site) -> Details:
    return site.directory.billing_of("").over(PLAIN)


def set_billing(site: Site, slug: str | None, details: Details) -> None:
    """Raises: DirectoryError: a detail that cannot be."""
    try:
        check_details(details)
        known = require_known(details.currency or LIST_CURRENCY, details.locale or FALLBACK)
        require_rate(details.over(agency_details(site) if slug is not None else PLAIN))
    except BadDetails as error:
        raise DirectoryError(str(error)) from None
    site.directory.set_billing(slug, replace(details, locale=known) if details.locale is not None else details)


def list_clients(site: Site) -> list[Client]:
    """All tenants that have or had a plan, also those that were deleted since, by slug."""
    there = {one.tenant_id: one for one in site.directory.list_tenants()}
    slugs = {one.tenant_id: one.slug for one in site.directory.list_tenant_plans()}
    found = [Client(id_, slug, there[id_].name if id_ in there else slug) for id_, slug in slugs.items()]
    return sorted(found, key=lambda one: (one.slug, one.tenant_id))


def list_without_plan(site: Site) -> list[Client]:
    """Tenants that never had a plan, then those of them that were deleted after use: the agency paid for it."""
    known = {one.tenant_id for one in site.directory.list_tenant_plans()}
    there = site.directory.list_tenants()
    found = [Client(one.tenant_id, one.slug, one.name) for one in there if one.tenant_id not in known]
    known.update(one.tenant_id for one in there)
    return [
        *(one for one in found if not is_of_proof(one.tenant_id)),
        *(
            Client(id_, slug, slug)
            for id_, slug in site.directory.list_deleted().items()
            if id_ not in known and not is_of_proof(id_)
        ),
    ]


def find_client(site: Site, slug: str) -> Client:
    """Raises: NotInDirectory."""
    try:
        row = site.directory.get_tenant(slug)
    except NotInDirectory:
        gone = [one for one in (*list_without_plan(site), *list_clients(site)) if one.slug == slug]
        if not gone:
            raise
        return gone[-1]
    return Client(row.tenant_id, row.slug, row.name)


def preview(site: Site, books: Books, client: Client, month: Month) -> NewInvoice:
    """The invoice as it would be issued now.

    Raises: NotBilled, SumsDiffer; DirectoryError: its currency has no rate.
    """
    own, agency = site.directory.billing_of(client.tenant_id), agency_details(site)
    try:
        require_rate(own.over(agency))
    except BadDetails as error:
        raise DirectoryError(
            f"{error} (`tenantry invoices details {client.slug} --currency EUR --rate 0.92`)"
        ) from None
    return draft(books, client, month, agency, own, digits_of)


def issue(site: Site, client: Client, month: Month, check: Check = any_document) -> Issued:
    """Raises: NotBilled, SumsDiffer, as `check`; DirectoryError: it is not over or complete, or somebody was first."""
    require_issuable(site, month)
    try:
        with reading_books(site) as books:
            new = preview(site, books, client, month)
    except NothingToBill as reason:
        site.directory.close_month(client.tenant_id, str(month), reason.after)
        raise
    check(new.document)
    return issue_drafted(site.directory, new)


def issue_drafted(directory: Directory, new: NewInvoice) -> Issued:
    """What was drafted gets its day and its number. Raises: DirectoryError: somebody was first."""
    return directory.issue_invoice(finished(new, directory.today()))


def require_issuable(site: Site, month: Month) -> None:
    """Raises: DirectoryError: the month is not over, or its ledger not complete."""
    require_over(site, month)
    require_complete(site, month)


def require_over(site: Site, month: Month) -> None:
    """Raises: DirectoryError."""
    if site.directory.today() < month.end:
        raise DirectoryError(f"{month} is not over: it can be looked at, and issued from {month.end.isoformat()} on")


def issue_all(
    site: Site, month: Month, clients: Iterable[Client] | None = None, check: Check = any_document
) -> Iterator[Passed]:
    """Everybody's invoice, or those of `clients`. Who has one is passed by, so it can be run again after anything.

    Some at a time are kept in one transaction with their numbers: a commit waits for the disk, and none that is undone
    has taken a number.
    """
    require_issuable(site, month)
    with reading_books(site) as books:
        for some in _batches(list_clients(site) if clients is None else clients):
            yield from _issue_some(site, month, [_drafted(site, books, client, month, check) for client in some])


def preview_all(site: Site, month: Month, clients: Iterable[Client] | None = None) -> Iterator[Passed]:
    """What `issue_all` would issue now, without numbers."""
    with reading_books(site) as books:
        for client in list_clients(site) if clients is None else clients:
            yield _drafted(site, books, client, month)


def list_waiting(site: Site, month: Month, clients: Iterable[Client]) -> list[Client]:
    """Those who are to have an invoice of a month and have none yet."""
    with reading_books(site) as books:
        return [one for one in clients if _is_waiting(site, books, one, month)]


def _is_waiting(site: Site, books: Books, client: Client, month: Month) -> bool:
    """Who was on a plan on any day of the month is billed for it; of who was on none then, what is owed is drafted."""
    sold = books.sold(client.tenant_id)
    first = sold.first_day()
    if first is None or first >= month.end or str(month) in standing_months(books.connection, client.tenant_id):
        return False
    if any(one.terms is not None for one in sold.stretches(month)):
        return True
    passed = _drafted(site, books, client, month)
    return passed.draft is not None or passed.failed


def _drafted(site: Site, books: Books, client: Client, month: Month, check: Check = any_document) -> Passed:
    try:
        new = preview(site, books, client, month)
        check(new.document)
        return Passed(client, new)
    except AlreadyBilled as reason:
        return Passed(client, why=str(reason), standing=reason.number)
    except NothingToBill as reason:
        return Passed(client, why=str(reason), empty=reason.after)
    except NotBilled as reason:
        return Passed(client, why=str(reason))
    except (SumsDiffer, NotStructured, DirectoryError) as fault:
        return Passed(client, why=str(fault), failed=True)
    except SQLAlchemyError:
        raise
    except Exception as fault:  # noqa: BLE001 -- fails closed: this one gets no invoice, and the others theirs
        return Passed(client, why=f"{type(fault).__name__}: {fault}", failed=True)


def _issue_some(site: Site, month: Month, drafted: Sequence[Passed]) -> list[Passed]:
    """All of them, or none: of a transaction that is undone no number is taken."""
    found: list[Passed] = []
    with site.directory.transaction() as directory:
        for one in drafted:
            if one.empty is not None:
                directory.close_month(one.client.tenant_id, str(month), one.empty)
            if one.draft is None:
                found.append(one)
                continue
            try:
                found.append(replace(one, issued=issue_drafted(directory, one.draft)))
            except IssuedMeanwhile as reason:
                found.append(replace(one, why=str(reason)))
    return found


def _batches(clients: Iterable[Client]) -> Iterator[list[Client]]:
    left = iter(clients)
    while some := list(islice(left, INVOICES_PER_TRANSACTION_MAX)):
        yield some


def credit(site: Site, number: str, reason: str, part: Part | None = None) -> Issued:
    """Give an invoice back by a credit note: over all of it, so that its month can be billed anew, or over a part.

    Raises:
        DirectoryError: there is no such invoice, it is credited already, or the part is more than what is left.
    """
    return issue_drafted(site.directory, prepare_credit(site, number, reason, part))


def prepare_credit(site: Site, number: str, reason: str, part: Part | None = None) -> NewInvoice:
    """The credit note as it would be issued now. Raises: DirectoryError, as `credit` does."""
    issued = site.directory.get_invoice(number)
    series = agency_details(site).credit_series or ""
    with reading(site.engine) as connection:
        if issued.kind != INVOICE or standing_months(connection, issued.tenant_id).get(issued.month) != number:
            raise DirectoryError(f"{number} is no invoice that stands: it is a credit note, or has one")
        covered, parts = covered_by(connection, number), credits_of(connection, number)
        after = newest_invoice(connection, issued.tenant_id)
    if part is None:
        return credit_note(issued, covered, parts, series, after, reason)
    try:
        return credit_part(issued, parts, part, series, after, reason)
    except NotCredited as error:
        raise DirectoryError(str(error)) from None


def verify_invoices(site: Site) -> tuple[int, list[str]]:
    """How many were issued, and what is wrong with them: changed, missing, or not adding up."""
    wrong: list[str] = []
    previous, numbers = FIRST_HASH, dict[str, int]()
    # In this order: somebody may issue meanwhile.
    last = site.directory.last_numbers()
    issued = site.directory.list_invoices()
    covered = site.directory.list_covered()
    for one in issued:
        if (one.prev_hash, one.row_hash) != (previous, hash_of(previous, one.number, one.text)):
            wrong.append(f"{one.number} is not as it was issued, or one before it is missing")
        previous = one.row_hash
        numbers[one.series] = numbers.get(one.series, 0) + 1
        if one.number.removeprefix(one.series).lstrip("0") != str(numbers[one.series]):
            wrong.append(f"{one.number} is not number {numbers[one.series]} of its series")
        wrong += _wrong_sums(one)
        wrong += _wrong_words(one)
        wrong += _wrong_cover(one, covered)
    for series, number in last.items():
        if numbers.get(series, 0) < number:
            wrong.append(f"{series}: {number} numbers were given, and {numbers.get(series, 0)} documents are there")
    return len(issued), [*wrong, *_wrong_credits(issued)]


def _wrong_words(issued: Issued) -> Iterator[str]:
    """What the store says beside the document, by which the next bill is made."""
    document = issued.document
    said = (issued.kind, issued.month, issued.slug, issued.currency, issued.credits)
    written = (document["kind"], document["month"], document["client"]["slug"], document["currency"])
    if said != (*written, document.get("credits")):
        yield f"{issued.number}: the store tells it otherwise than the document"


def _wrong_cover(issued: Issued, covered: Mapping[str, Sequence[Covered]]) -> Iterator[str]:
    """Which rows it covers: an invoice those on its lines, a note over all of it those of the invoice, one over a part
    none.
    """
    own = covered.get(issued.number, ())
    if issued.kind == INVOICE:
        lines = issued.document["lines"]
        sums = [sum(line[name] for line in lines) for name in ("rows", "list_nanos", "nanos")]
        if sums != [sum(getattr(one, name) for one in own) for name in ("rows", "cost_nanos", "net_nanos")]:
            yield f"{issued.number}: what it covers is not what its lines say"
        return
    billed = covered.get(issued.credits or "", ()) if issued.kind == CREDIT_NOTE else ()
    if issued.credits is not None and list(own) != [one.given_back for one in billed]:
        yield f"{issued.number}: the rows that it gives back are not those of {issued.credits}"


def _wrong_sums(issued: Issued) -> Iterator[str]:
    document = issued.document
    net = sum(line["amount_minor"] for line in document["lines"])
    total = net + sum(tax["amount_minor"] for tax in document["taxes"])
    if (net, total, total) != (document["net_minor"], document["total_minor"], issued.total_minor):
        yield f"{issued.number}: its lines do not add up"


def _wrong_credits(issued: Sequence[Issued]) -> Iterator[str]:
    """More was given back than was billed."""
    by_number = {one.number: one for one in issued}
    parts: defaultdict[str, list[Issued]] = defaultdict(list)
    for one in issued:
        if one.kind == PARTIAL_CREDIT and one.credits is not None:
            parts[one.credits].append(one)
    for number, some in parts.items():
        if number not in by_number or left_of(by_number[number], some).net_minor < 0:
            yield f"{number}: more is credited than was billed"


KINDS = {INVOICE: "invoice", CREDIT_NOTE: "credit note", PARTIAL_CREDIT: "credit over a part"}
