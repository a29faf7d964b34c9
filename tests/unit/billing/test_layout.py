"""How a PDF breaks: no line over two pages, nothing beyond the margin, the total in one piece, whatever is written."""

from __future__ import annotations

import io
import re
from dataclasses import replace

from pypdf import PdfReader

from tenantry.billing.render import render
from tests.unit.billing.papers import REACHED, draft_in, in_parts, issued_as

# Of the widest letter there is room for some 70 in a line of small print.
WIDE_CHARS_MAX = 80
LONG = 200


def pages_of(document: dict[str, object]) -> list[str]:
    return [one.extract_text() for one in PdfReader(io.BytesIO(render(document, "pdf"))).pages]


def with_lines(count: int) -> dict[str, object]:
    document = draft_in("de_DE", in_parts("de_DE"), **REACHED)
    line = document["lines"][3]
    said = "was zu einer Zeile gehört, die in dieser Breite nicht auf einer steht, "
    document["lines"] = [{**line, "text": f"Anfang{n} {said * (n % 5)} Ende{n}"} for n in range(count)]
    return issued_as(document)


def test_no_line_of_two_hundred_stands_on_two_pages_and_each_page_says_what_its_columns_are() -> None:
    pages = pages_of(with_lines(LONG))
    there = [one for one in pages if "Anfang" in one]
    assert len(there) > 3
    for page in there:
        assert re.findall(r"Anfang(\d+)", page) == re.findall(r"Ende(\d+)", page)
        assert "Leistung" in page
        assert "Betrag" in page


def test_the_total_stands_with_what_it_is_the_total_of() -> None:
    for count in range(8, 20, 2):
        (page,) = [one for one in pages_of(with_lines(count)) if "Nettobetrag" in one]
        assert "USt 19" in page
        assert re.search(r"Gesamtbetrag\s*[0-9]", page)


def test_a_word_without_an_end_stays_within_the_margin_wherever_it_stands() -> None:
    word = "W" * LONG
    own = replace(in_parts("de_DE"), name=word, purchase_order=word, buyer_reference=word)
    document = draft_in("de_DE", own, **{**REACHED, "name": word, "payment": word, "note": word, "contact": word})
    document["lines"][0]["text"] = document["appendix"]["by_key"][0]["label"] = word
    document["appendix"]["price_versions"][0]["name"] = word
    text = "\n".join(pages_of(issued_as(document)))
    assert max(len(one) for one in re.findall("W+", text.replace("\u200b", ""))) <= WIDE_CHARS_MAX
