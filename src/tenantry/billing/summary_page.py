"""A summary as a mail: HTML, and plain text beside it; numbers and dates as its reader writes them.

What clients chose (names of models) or typed (labels of keys) is text in both: escaped in HTML, and in plain text
without what chats take for a mention, a link or markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, format_percent
from jinja2 import Environment, PackageLoader, StrictUndefined

from tenantry.billing.summary import AGENCY
from tenantry.domain.printable import printable

FORMATS = ("text", "html", "json")
_NAME_CHARS_MAX = 60
_UNMARKED = str.maketrans({"<": "‹", ">": "›", "@": "＠", "[": "(", "]": ")", "`": "'", "*": "×", "|": "/"})
_loader = PackageLoader("tenantry.billing")
_html = Environment(loader=_loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
# Plain text: nothing to escape, and names go through `plain`.
_text = Environment(loader=_loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 -- no markup


def render_summary(summary: Mapping[str, Any], form: str) -> str:
    """The summary in one of `FORMATS`."""
    if form == "json":
        return json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    environment, name = (_html, "summary.html.j2") if form == "html" else (_text, "summary.txt.j2")
    words = _Words(str(summary["locale"]))
    return environment.get_template(name).render(
        summary=summary,
        is_agency=summary["kind"] == AGENCY,
        language=str(summary["locale"]).partition("_")[0],
        name=_shown if form == "html" else plain,
        sentence=printable if form == "html" else _unmarked,
        usd=words.usd,
        whole=words.whole,
        day=words.day,
        change=words.change,
        share=words.share,
        used=words.used,
        percent=_percent,
    )


def title_of(summary: Mapping[str, Any]) -> str:
    """The subject of the mail."""
    words = _Words(str(summary["locale"]))
    used = words.usd(summary["usage"]["list_nanos"])
    changed = words.change(summary["usage"]["list_nanos"], summary["week_before"]["list_nanos"])
    whose = "all tenants" if summary["kind"] == AGENCY else plain(summary["name"])
    return f"{whose} in {summary['week']}: {used} at list price" + (f" ({changed})" if changed else "")


def plain(text: str) -> str:
    """A name as plain text in which nothing is markup, a mention or a link."""
    return _unmarked(_shown(text))


def _unmarked(text: str) -> str:
    return printable(text).translate(_UNMARKED)


def _shown(text: str) -> str:
    found = printable(text)
    return found if len(found) <= _NAME_CHARS_MAX else f"{found[: _NAME_CHARS_MAX - 1]}…"


def _percent(part: int, whole: int) -> int:
    """Of a bar, 0 to 100."""
    return min(100, max(0, part * 100 // whole)) if whole > 0 else 0


class _Words:
    """Numbers and dates in a locale."""

    def __init__(self, locale: str) -> None:
        self._locale = locale

    def usd(self, nanos: int) -> str:
        return format_currency(Decimal(nanos).scaleb(-9), "USD", locale=self._locale)

    def whole(self, count: int) -> str:
        return format_decimal(count, locale=self._locale)

    def day(self, text: str) -> str:
        return format_date(date.fromisoformat(text), "long", locale=self._locale)

    def share(self, part: int, whole: int) -> str:
        return format_percent(Decimal(part) / whole if whole else 0, locale=self._locale)

    def used(self, part: int, whole: int) -> str:
        """Of a budget: whole percents, as `budget show` and the pages have them."""
        return format_percent(Decimal(part * 100 // whole if whole else 0) / 100, locale=self._locale)

    def change(self, now: int, before: int) -> str:
        """Against the week before, with its sign; "" where there was nothing."""
        if before <= 0:
            return ""
        share = Decimal(now - before) / before
        told = format_percent(abs(share), locale=self._locale)
        if told == format_percent(0, locale=self._locale):
            return f"±{told}"
        return f"{'+' if share > 0 else '−'}{told}"
