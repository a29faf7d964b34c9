"""A month's invoices, for `invoice`: of the store of this machine, or of a control elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tenantry.billing.books import SumsDiffer
from tenantry.billing.invoice import NotBilled
from tenantry.billing.months import Month
from tenantry.billing.refusals import NotStructured
from tenantry.billing.render import JSON, NotRendered, render
from tenantry.cli.context import fail
from tenantry.cli.remote.api import Api
from tenantry.control.invoice_files import check_of
from tenantry.control.invoice_views import passed_view
from tenantry.control.invoicing import (
    Passed,
    find_client,
    issue,
    issue_all,
    list_clients,
    preview,
    preview_all,
    reading_books,
)
from tenantry.control.site import Site

_GOES_ON = "the same command goes on with the others"
# Makes a file of it in a format.
Draw = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one tenant, as JSON has it; `share` of all that is done with it, from 0 to 1."""

    passed: dict[str, Any]
    share: float
    draw: Draw


class Billed(Protocol):
    """The invoices of one month, as `invoice` needs them."""

    def require_client(self, slug: str) -> None:
        """That there is, or was, such a tenant; where that can be said before it is asked for."""
        ...

    def preview(self, slug: str) -> tuple[dict[str, Any], Draw]: ...

    def issue(self, slug: str, form: str) -> tuple[dict[str, Any], Draw]: ...

    def preview_all(self) -> Iterator[Told]: ...

    def issue_all(self, form: str) -> Iterator[Told]: ...

    def words_if_interrupted(self) -> str: ...


def drawn_as(document: Mapping[str, Any], form: str) -> bytes:
    """The document in a format, or exit 1."""
    try:
        return render(document, form)
    except NotRendered as error:
        raise fail(str(error)) from None


class Here:
    """Of the store of this machine."""

    def __init__(self, site: Site, month: Month) -> None:
        self._site, self._month = site, month
        self._before = len(site.directory.list_invoices(month=str(month)))

    def require_client(self, slug: str) -> None:
        find_client(self._site, slug)

    def preview(self, slug: str) -> tuple[dict[str, Any], Draw]:
        try:
            with reading_books(self._site) as books:
                return _drawing(preview(self._site, books, find_client(self._site, slug), self._month).document)
        except (NotBilled, SumsDiffer) as error:
            raise fail(str(error)) from None

    def issue(self, slug: str, form: str) -> tuple[dict[str, Any], Draw]:
        try:
            return _drawing(issue(self._site, find_client(self._site, slug), self._month, check_of([form])).document)
        except (NotBilled, SumsDiffer, NotStructured) as error:
            raise fail(str(error)) from None

    def preview_all(self) -> Iterator[Told]:
        return self._told(preview_all(self._site, self._month))

    def issue_all(self, form: str) -> Iterator[Told]:
        return self._told(issue_all(self._site, self._month, check=check_of([form])))

    def _told(self, all_passed: Iterator[Passed]) -> Iterator[Told]:
        count = max(1, len(list_clients(self._site)))
        for done, one in enumerate(all_passed, 1):
            yield Told(passed_view(one).as_json(), done / count, self._drawing(one))

    def _drawing(self, one: Passed) -> Draw:
        def draw(form: str) -> bytes:
            if one.issued is not None:
                return drawn_as(one.issued.document, form)
            if one.standing is not None:
                return drawn_as(self._site.directory.get_invoice(one.standing).document, form)
            return drawn_as(one.draft.document if one.draft is not None else {}, form)

        return draw

    def words_if_interrupted(self) -> str:
        """What is kept, as the store has it."""
        numbers = [one.number for one in self._site.directory.list_invoices(month=str(self._month))[self._before :]]
        if not numbers:
            return f"nothing was issued; {_GOES_ON}"
        which = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else numbers[0]
        return f"{len(numbers)} {'are' if len(numbers) > 1 else 'is'} issued ({which}); {_GOES_ON}"


def _drawing(document: Mapping[str, Any]) -> tuple[dict[str, Any], Draw]:
    return dict(document), lambda form: drawn_as(document, form)


class Elsewhere:
    """Of a control that runs elsewhere, which draws the files, too. Raises: ServerFailed, everywhere."""

    def __init__(self, api: Api, month: str) -> None:
        self._api, self._month = api, month

    def require_client(self, slug: str) -> None:
        """One that has left is known to its invoices alone."""

    def preview(self, slug: str) -> tuple[dict[str, Any], Draw]:
        draw = self._of_preview(slug)
        return self._api.get("tenants", slug, "invoice-preview", month=self._month, format=JSON), draw

    def issue(self, slug: str, form: str) -> tuple[dict[str, Any], Draw]:
        body = {"month": self._month, "format": form}
        number = self._api.write("POST", "tenants", slug, "invoices", body=body)["number"]
        return self._api.get("invoices", number), self._of_number(number)

    def preview_all(self) -> Iterator[Told]:
        return self._told(self._api.items("invoice-previews", month=self._month))

    def issue_all(self, form: str) -> Iterator[Told]:
        body = {"month": self._month, "format": form}
        return self._told(self._api.write("POST", "invoices", body=body)["tenants"])

    def _told(self, all_passed: list[dict[str, Any]]) -> Iterator[Told]:
        for done, one in enumerate(all_passed, 1):
            number = one["number"] or one["standing"]
            draw = self._of_number(number) if number is not None else self._of_preview(one["tenant"])
            yield Told(one, done / len(all_passed), draw)

    def _of_number(self, number: str) -> Draw:
        return lambda form: self._api.bytes_of("invoices", number, format=form)

    def _of_preview(self, slug: str) -> Draw:
        place = ("tenants", slug, "invoice-preview")
        return lambda form: self._api.bytes_of(*place, month=self._month, format=form)

    def words_if_interrupted(self) -> str:
        return f"what is issued by then is kept at the machine of control; {_GOES_ON}"
