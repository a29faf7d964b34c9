"""What an invoice of each locale looks like, kept as text. `python -m tests.unit.billing.golden` writes it anew.

A difference in `documents` is a change of what is said from now on; one in a page or a PDF of a document that is kept
there changes what was issued, and must not be.
"""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from pypdf import PdfReader

from tenantry.billing.credits import Part
from tenantry.billing.render import render
from tests.unit.billing.papers import CLIENTS, credit_in, invoice_in

FOLDER = Path(__file__).parent / "golden"
NAMES = tuple(f"{locale}{kind}" for locale in CLIENTS for kind in ("", "-credit"))


def document(name: str) -> dict[str, Any]:
    """As it would be issued today."""
    locale, _, is_credit = name.partition("-")
    return credit_in(locale, PARTS[locale]) if is_credit else invoice_in(locale)


PARTS = {
    "en_US": Part(Decimal("12.50")),
    "de_DE": Part(Decimal("12.50"), (4,)),
    "fr_FR": Part(lines=(3,)),
    "es_ES": Part(lines=(1, 2)),
}


def kept(name: str) -> dict[str, Any]:
    """As it was issued when the files were written."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def page(issued: dict[str, Any]) -> str:
    return render(issued, "html").decode()


def pdf_text(issued: dict[str, Any]) -> str:
    pages = PdfReader(io.BytesIO(render(issued, "pdf"))).pages
    return "\n\f\n".join(one.extract_text() for one in pages) + "\n"


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        issued = document(name)
        text = json.dumps(issued, indent=1, ensure_ascii=False, sort_keys=True)
        (FOLDER / f"{name}.json").write_text(text + "\n", "utf-8")
        (FOLDER / f"{name}.txt").write_text(pdf_text(issued), "utf-8")
    (FOLDER / "de_DE.html").write_text(page(document("de_DE")), "utf-8")


if __name__ == "__main__":
    write()
