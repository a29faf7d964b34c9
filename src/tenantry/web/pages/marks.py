"""How figures look on pages: money, counts, times, bars. What comes from outside is escaped by `Markup.format`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from tenantry.domain.money import NANOS_PER_USD, format_usd
from tenantry.domain.printable import printable

_NANOS_PER_CENT: Final = NANOS_PER_USD // 100
_NANOS_PER_PART: Final = _NANOS_PER_CENT // 100
# From here on cents say enough; below, a request's cost would be nothing.
_CENTS_FROM_NANOS: Final = NANOS_PER_USD
_THOUSANDS: Final = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**4, "k"))
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400


def usd(nanos: int | None) -> Markup:
    """Dollars: to the cent where they are many, exact where they are few. The exact sum is always there to be read."""
    if nanos is None:
        return Markup('<span class="muted">no price</span>')
    return Markup('<data class="usd" value="{}" title="{}">{}</data>').format(nanos, format_usd(nanos), dollars(nanos))


def dollars(nanos: int) -> str:
    """The same where it is text alone."""
    return cents(nanos) if abs(nanos) >= _CENTS_FROM_NANOS else format_usd(nanos)


def cents(nanos: int) -> str:
    """To the cent, half up, as `margin` prints."""
    count = (2 * nanos + _NANOS_PER_CENT) // (2 * _NANOS_PER_CENT)
    whole, rest = divmod(abs(count), 100)
    return f"{'-' if count < 0 else ''}${whole:,}.{rest:02d}"


def about(nanos: int) -> Markup:
    """An estimate: to the cent, or to a hundredth of one where it is little."""
    if abs(nanos) >= _CENTS_FROM_NANOS or not nanos:
        return Markup('<data value="{}">{}</data>').format(nanos, cents(nanos))
    parts = (2 * abs(nanos) + _NANOS_PER_PART) // (2 * _NANOS_PER_PART)
    return Markup('<data value="{}">{}</data>').format(
        nanos, format_usd((-1 if nanos < 0 else 1) * parts * _NANOS_PER_PART)
    )


def count(number: int | None) -> Markup:
    """A whole number, short where it is long."""
    if number is None:
        return Markup('<span class="muted">no limit</span>')
    shown = f"{number:,}"
    for from_, letter in _THOUSANDS:
        if abs(number) >= from_:
            unit = from_ if letter != "k" else 1000
            shown = f"{number / unit:,.1f}".removesuffix(".0") + letter
            break
    return Markup('<data value="{}" title="{}">{}</data>').format(number, f"{number:,}", shown)


def plural(number: int, one: str, more: str | None = None) -> str:
    """`1 request`, `2 requests`."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def span(us: int | None) -> str:
    """How long, from microseconds."""
    if us is None:
        return ""
    if us < 1000:
        return f"{us} µs"
    if us < 1_000_000:
        return f"{us / 1000:.1f} ms" if us < 10_000 else f"{us // 1000} ms"
    return f"{us / 1_000_000:.1f} s"


class Clock:
    """Times in the agency's zone."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone

    def at(self, moment: datetime | int | None, form: str = "%Y-%m-%d %H:%M:%S") -> Markup:
        """A moment, also as unix microseconds; a time without a zone is UTC."""
        if moment is None:
            return Markup("")
        known = _known(moment)
        local = known.astimezone(self.zone)
        return Markup('<time datetime="{}">{}</time>').format(
            known.strftime("%Y-%m-%dT%H:%M:%SZ"), local.strftime(form)
        )

    def ago(self, moment: datetime | int | None) -> Markup:
        """How long ago; the moment itself is there to be read."""
        if moment is None:
            return Markup('<span class="muted">never</span>')
        known = _known(moment)
        seconds = max(0, int((datetime.now(UTC) - known).total_seconds()))
        words = (
            "just now"
            if seconds < _MINUTE
            else f"{seconds // _MINUTE} min ago"
            if seconds < _HOUR
            else f"{seconds // _HOUR} h ago"
            if seconds < 2 * _DAY
            else f"{seconds // _DAY} days ago"
        )
        stamp = known.strftime("%Y-%m-%dT%H:%M:%SZ")
        exact = known.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S %Z")
        return Markup('<time datetime="{}" title="{}">{}</time>').format(stamp, exact, words)

    def hour(self, us: int) -> str:
        return _known(us).astimezone(self.zone).strftime("%H:%M")


def _known(moment: datetime | int) -> datetime:
    if isinstance(moment, int):
        return datetime.fromtimestamp(moment / 1_000_000, UTC)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def plain(text: object) -> str:
    """Text from outside without what would move or reorder what is around it."""
    return printable("" if text is None else str(text))


# Pictures: SVG with attributes alone, for the policy of our pages knows no inline style.

_BAR_WIDTH: Final = 10
_BAR_GAP: Final = 3
_CHART_HEIGHT: Final = 120
_SPARK_HEIGHT: Final = 24
_SPARK_WIDTH: Final = 5
_SPARK_GAP: Final = 1


def bars(values: Sequence[int], titles: Sequence[str], label: str, hrefs: Sequence[str] = ()) -> Markup:
    """A chart of bars, each with its own words; a table beside it says the same."""
    step, most = _BAR_WIDTH + _BAR_GAP, max([*values, 1])
    parts: list[Markup] = []
    for place, (value, title) in enumerate(zip(values, titles, strict=True)):
        height = value * (_CHART_HEIGHT - 2) // most if value > 0 else 0
        height = max(height, 2) if value > 0 else 1
        shape = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="1"><title>{}</title></rect>').format(
            "bar" if value > 0 else "bar none", place * step, _CHART_HEIGHT - height, _BAR_WIDTH, height, title
        )
        if hrefs:
            shape = Markup('<a href="{}" tabindex="-1">{}</a>').format(hrefs[place], shape)
        parts.append(shape)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="{}" aria-label="{}">{}</svg>'
    ).format(
        max(1, len(values) * step - _BAR_GAP), _CHART_HEIGHT, "group" if hrefs else "img", label, Markup("").join(parts)
    )


def spark(values: Sequence[int], label: str) -> Markup:
    """The last days in a line of a table."""
    step, most = _SPARK_WIDTH + _SPARK_GAP, max([*values, 1])
    parts = [
        Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
            "bar" if value > 0 else "bar none",
            place * step,
            _SPARK_HEIGHT - max(1, value * _SPARK_HEIGHT // most if value > 0 else 1),
            _SPARK_WIDTH,
            max(1, value * _SPARK_HEIGHT // most if value > 0 else 1),
        )
        for place, value in enumerate(values)
    ]
    return Markup('<svg class="spark" width="{}" height="{}" role="img" aria-label="{}">{}</svg>').format(
        len(values) * step - _SPARK_GAP, _SPARK_HEIGHT, label, Markup("").join(parts)
    )


def meter(percent: int, label: str) -> Markup:
    """How much of something has been used."""
    level = "full" if percent >= 100 else "high" if percent >= 90 else "fine"
    return Markup('<progress class="meter {}" max="100" value="{}" aria-label="{}"></progress>').format(
        level, min(100, max(0, percent)), label
    )


MARKS: Final[dict[str, Any]] = {
    "usd": usd,
    "about": about,
    "dollars": dollars,
    "count": count,
    "plural": plural,
    "span": span,
    "plain": plain,
    "bars": bars,
    "spark": spark,
    "meter": meter,
}
