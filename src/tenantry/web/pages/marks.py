"""How figures look on pages: money, counts, times, bars. What comes from outside is escaped by `Markup.format`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """An estimate: to the cent, to a hundredth of one where it is little, and to two figures where that is nothing."""
    if abs(nanos) >= _CENTS_FROM_NANOS or not nanos:
        return Markup('<data value="{}">{}</data>').format(nanos, cents(nanos))
    part = _NANOS_PER_PART
    while part > 1 and abs(nanos) < 10 * part:
        part //= 10
    parts = (2 * abs(nanos) + part) // (2 * part)
    return Markup('<data value="{}">{}</data>').format(nanos, format_usd((-1 if nanos < 0 else 1) * parts * part))


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


def left_now(requests: int | None, input_tokens: int | None, output_tokens: int | None) -> Markup:
    """What the buckets hold, of those that there are."""
    buckets = ((requests, "requests"), (input_tokens, "input tokens"), (output_tokens, "output tokens"))
    told = [Markup("{} {}").format(count(left), name) for left, name in buckets if left is not None]
    return Markup(", ").join(told) if told else Markup("no limit by the minute")


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
_SHARE_WIDTH: Final = 160
_SPARK_HEIGHT: Final = 24
_SPARK_WIDTH: Final = 5
_SPARK_GAP: Final = 1


@dataclass(frozen=True, slots=True)
class MonthBars:
    """Two sums of a month, side by side. `ahead`: the same at its end, of a month that is not over."""

    label: str
    values: tuple[int, int]
    words: str
    ahead: tuple[int, int] | None


def bars(values: Sequence[int], titles: Sequence[str], label: str, hrefs: Sequence[str] = ()) -> Markup:
    """A chart of bars, each with its own words; a table beside it says the same."""
    step, most = _BAR_WIDTH + _BAR_GAP, max([*values, 1])
    parts: list[Markup] = []
    for place, (value, title) in enumerate(zip(values, titles, strict=True)):
        shape = _marked(title, [_bar(place * step, value, most)], place * step, step)
        if hrefs:
            shape = Markup('<a href="{}" tabindex="-1">{}</a>').format(hrefs[place], shape)
        parts.append(shape)
    return _charted(parts, len(values) * step - _BAR_GAP, label, "group" if hrefs else "img")


def month_bars(months: Sequence[MonthBars], label: str) -> Markup:
    """The same of two sums a month; what a running month is to become stands behind it, outlined."""
    step = 2 * _BAR_WIDTH + 2 * _BAR_GAP
    most = max([1, *(value for one in months for value in (*one.values, *(one.ahead or ())))])
    parts: list[Markup] = []
    for place, one in enumerate(months):
        at = place * step
        ahead = [_bar(at + n * _BAR_WIDTH, value, most, "ahead") for n, value in enumerate(one.ahead or ())]
        now = [_bar(at + n * _BAR_WIDTH, value, most, ("first", "second")[n]) for n, value in enumerate(one.values)]
        parts.append(_marked(one.words, [*ahead, *now], at, step))
    return _charted(parts, len(months) * step - 2 * _BAR_GAP, label, "img")


def _bar(x: int, value: int, most: int, kind: str = "") -> Markup:
    height = max(value * (_CHART_HEIGHT - 2) // most, 2) if value > 0 else 1
    return Markup('<rect class="bar{}" x="{}" y="{}" width="{}" height="{}" rx="1"/>').format(
        f" {kind}" if kind and value > 0 else "" if value > 0 else " none",
        x,
        _CHART_HEIGHT - height,
        _BAR_WIDTH,
        height,
    )


def _marked(words: str, shapes: Sequence[Markup], x: int, width: int) -> Markup:
    """Shapes with their words, over the whole height: one hits also what is small."""
    return Markup(
        '<g class="mark"><title>{}</title><rect class="hit" x="{}" y="0" width="{}" height="{}"/>{}</g>'
    ).format(words, x, width, _CHART_HEIGHT, Markup("").join(shapes))


def _charted(parts: Sequence[Markup], width: int, label: str, role: str) -> Markup:
    """`readout` is where charts.js says the words of what one points at."""
    return Markup(
        '<div class="charted"><svg class="chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="{}" '
        'aria-label="{}">{}</svg><p class="readout" aria-hidden="true"></p></div>'
    ).format(max(1, width), _CHART_HEIGHT, role, label, Markup("").join(parts))


def share_bar(nanos: int, ahead: int, most: int) -> Markup:
    """A sum in a line of a table, from the middle to the right, or to the left where it is below zero."""
    half = _SHARE_WIDTH // 2

    def part(value: int, kind: str) -> Markup:
        width = max(1, abs(value) * half // max(1, most)) if value else 0
        return Markup('<rect class="{}" x="{}" y="2" width="{}" height="12"/>').format(
            kind, half if value >= 0 else half - width, width
        )

    return Markup(
        '<svg class="share" viewBox="0 0 {} 16" width="{}" height="16" preserveAspectRatio="none" aria-hidden="true">'
        '{}{}<rect class="zero" x="{}" y="0" width="1" height="16"/></svg>'
    ).format(
        _SHARE_WIDTH,
        _SHARE_WIDTH,
        part(ahead, "ahead") if ahead != nanos else "",
        part(nanos, "bar" if nanos >= 0 else "loss"),
        half,
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


# As people say them; the command line has short ones.
LIMIT_TITLES: Final = {
    "sessions_max": "Requests at once",
    "requests_per_minute": "Requests a minute",
    "request_burst": "Burst of requests",
    "input_tokens_per_minute": "Input tokens a minute",
    "output_tokens_per_minute": "Output tokens a minute",
    "max_tokens_cap": "Largest max_tokens",
    "max_tokens_policy": "Above the largest max_tokens",
    "models": "Models",
    "speeds": "Speeds",
    "inference_geos": "Places of inference",
    "service_tiers": "Service tiers",
    "server_tools": "Server tools",
    "queue_depth_max": "Requests that may wait",
    "queue_wait_ms_max": "Longest wait, milliseconds",
    "weight": "Share of a busy upstream",
    "context_tokens_warn": "Prompt tokens, warned above",
    "context_tokens_max": "Prompt tokens, refused above",
    "tool_depth_alert": "Tool results in a row, alert at",
    "auto_cache_system": "Cache system prompts for it",
}


def limit_title(name: str) -> str:
    return LIMIT_TITLES[name]


MARKS: Final[dict[str, Any]] = {
    "limit_title": limit_title,
    "usd": usd,
    "about": about,
    "dollars": dollars,
    "count": count,
    "left_now": left_now,
    "plural": plural,
    "span": span,
    "plain": plain,
    "bars": bars,
    "month_bars": month_bars,
    "share_bar": share_bar,
    "spark": spark,
    "meter": meter,
}
