"""Invoices as files: private, whole or not at all, written again only where they are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tenantry.billing.einvoice_needs import require_complete
from tenantry.billing.render import E_INVOICES, XRECHNUNG, ending_of, render
from tenantry.control.invoicing import Check, Passed, any_document
from tenantry.control.site import Site
from tenantry.ledger.exports import replacing


def check_of(forms: Iterable[str]) -> Check:
    """What an e-invoice lacks is told before there is a number that cannot be given back."""
    wanted = {*forms} & {*E_INVOICES}
    return partial(require_complete, is_xrechnung=XRECHNUNG in wanted) if wanted else any_document


def write_document(document: Mapping[str, Any], form: str, path: Path) -> None:
    """A file for its owner only. Raises: OSError, NotRendered."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(render(document, form))


def keep_files(site: Site, passed: Passed, forms: Iterable[str], folder: Path) -> int:
    """The files of what was issued for a tenant, now or before: those that are missing. How many were written.

    Whoever is killed between a number and its file finds the file the next time.

    Raises:
        OSError: the folder cannot be written.
        NotRendered: a format cannot be made of it.
    """
    number = passed.issued.number if passed.issued is not None else passed.standing
    if number is None:
        return 0
    missing = [(form, path) for form in forms if not (path := folder / file_name(number, form)).exists()]
    if missing:
        document = (passed.issued or site.directory.get_invoice(number)).document
        for form, path in missing:
            write_document(document, form, path)
    return len(missing)


def keep_preview(passed: Passed, forms: Iterable[str], folder: Path, month: str) -> None:
    """What would be issued for a tenant, as it is now; an e-invoice has a number. Raises: OSError, NotRendered."""
    if passed.draft is not None:
        for form in (one for one in forms if one not in E_INVOICES):
            write_document(passed.draft.document, form, folder / preview_name(month, passed.slug, form))


def file_name(number: str, form: str) -> str:
    """A series may have slashes in it."""
    return f"{number.replace('/', '-')}.{ending_of(form)}"


def preview_name(month: str, slug: str, form: str) -> str:
    return f"preview-{month}-{slug}.{ending_of(form)}"
