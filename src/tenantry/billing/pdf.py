"""Invoices as PDF by typst (the extra `tenantry[pdf]`): tagged, PDF/A-3a, the same bytes for the same document.

Fonts are those that the wheel carries (Latin, Greek, Cyrillic, Hebrew). Only for text in other scripts are the fonts of
the machine asked; where it has none either, the characters are empty boxes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from importlib import resources
from typing import Any

import typst

from tenantry.billing.refusals import NotDrawn

# What typst says of a character that no font has, where the standard wants all of them.
_NO_GLYPH = "could not be displayed"
# For keeping, and to carry an invoice as XML.
_ARCHIVED = "a-3a"


def draw(document: Mapping[str, Any], paper: Mapping[str, Any], structured: bytes | None = None) -> bytes:
    """The PDF of a document. With `structured`, the invoice as XML, it carries that and is PDF/A-3 or nothing.

    Raises: NotDrawn.
    """
    logo = document["agency"]["logo"]
    try:
        return _draw(document, paper, logo, structured)
    except typst.TypstError as error:
        if logo is None:
            raise NotDrawn(f"the PDF could not be made: {error}") from None
    try:  # a picture that cannot be drawn costs the picture
        return _draw(document, paper, None, structured)
    except typst.TypstError as error:
        raise NotDrawn(f"the PDF could not be made: {error}") from None


def _draw(document: Mapping[str, Any], paper: Mapping[str, Any], logo: str | None, xml: bytes | None) -> bytes:
    day = date.fromisoformat(document.get("issued_on") or document["period"][1])
    template = resources.files("tenantry.billing").joinpath("templates", f"invoice-{paper['layout']}.typ")
    inputs = {
        "paper": json.dumps(paper),
        "number": document.get("number", ""),
        "issued": day.isoformat(),
        "logo": json.dumps(list(base64.b64decode(logo.partition(",")[2]))) if logo else "",
        "structured": xml.decode() if xml is not None else "",
    }
    source, at = template.read_bytes(), datetime.combine(day, time(), UTC)
    # First with the fonts of the wheel alone, so that the bytes depend on no machine.
    for own_fonts in (True, False):
        try:
            return _compile(source, inputs, at, own_fonts, archived=True)
        except typst.TypstError as error:
            if _NO_GLYPH not in str(error) or (xml is not None and not own_fonts):
                raise
    return _compile(source, inputs, at, own_fonts=False, archived=False)


def _compile(source: bytes, inputs: dict[str, str], at: datetime, own_fonts: bool, archived: bool) -> bytes:
    return typst.compile(
        source,
        format="pdf",
        sys_inputs=inputs,
        timestamp=at,
        ignore_system_fonts=own_fonts,
        pdf_standards=_ARCHIVED if archived else None,
    )
