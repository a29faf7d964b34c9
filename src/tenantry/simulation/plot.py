"""A run as lines of text: a row of bars for each tenant, and one for each limit."""

from __future__ import annotations

from collections.abc import Sequence

from tenantry.domain.directory import UNLIMITED
from tenantry.simulation.figures import Figures, Use

_BARS = "▁▂▃▄▅▆▇█"
# More tenants than this are told in the table alone.
PLOTTED_MAX = 12
_USE_WIDTH = 30


def bars(values: Sequence[float], most: float) -> str:
    """One character for each value; blank for none."""
    if most <= 0:
        return " " * len(values)
    return "".join(
        " " if value <= 0 else _BARS[min(len(_BARS) - 1, int(value / most * len(_BARS)))] for value in values
    )


def told_days(days: float) -> str:
    return "1 day" if days == 1 else f"{days:g} days"


def plot(figures: Figures) -> list[str]:
    """Requests, waits and refusals over the run, for the tenants that had any; then the limits that were used most."""
    lines: list[str] = []
    tenants = sorted(figures.tenants.values(), key=lambda one: (-one.refused, -one.wait(0.99), -one.asked))
    for one in tenants[:PLOTTED_MAX]:
        lines.append(f"{one.slug}: asked {one.asked:,}, refused {one.refused:,}, longest wait {one.wait(1.0):.1f} s")
        lines.append("  " + bars(one.asked_in, max(one.asked_in)) + " asked")
        if one.refused:
            lines.append("  " + bars(one.refused_in, max(one.refused_in)) + " refused")
        if one.wait(1.0) > 0.05:
            lines.append("  " + bars(one.wait_in, max(one.wait_in)) + " wait")
    lines.append("")
    lines += [_use_line(one) for one in most_used(figures)]
    return lines


def most_used(figures: Figures, count: int = 8) -> list[Use]:
    """The limits whose peaks came nearest to them."""
    uses = [one for one in figures.uses.values() if one.peak > 0 and one.allowed < UNLIMITED.sessions_max]
    return sorted(uses, key=lambda one: (-one.peak, -one.total))[:count]


def _use_line(one: Use) -> str:
    filled = round(one.peak * _USE_WIDTH)
    share = 100 * one.total / max(1, one.samples)
    bar = "█" * filled + "░" * (_USE_WIDTH - filled)
    return f"{bar} {100 * one.peak:3.0f} % peak, {share:2.0f} % mean: {one.limit} {one.allowed:,} of {one.whose}"
