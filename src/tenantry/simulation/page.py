"""A run as one HTML file: nothing in it is fetched from anywhere, and it follows the reader's light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tenantry.domain.money import format_usd
from tenantry.simulation.advice import Advice
from tenantry.simulation.figures import Figures, TenantFigures
from tenantry.simulation.plot import most_used, told_days
from tenantry.simulation.scenario import Scenario

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#667;--line:#ccd2da;--back:#fff;
--bar:#3b6ea8;--bad:#b3402e;--wait:#a87a1f}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#99a;--line:#3a404a;--back:#15181c;
--bar:#7fb0e6;--bad:#ef8673;--wait:#e0b659}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);
max-width:64rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right}
th:first-child,td:first-child{text-align:left}
.scroll{overflow-x:auto}figure{margin:1.5rem 0}figcaption,.soft{color:var(--soft)}
svg{width:100%;height:auto}.asked{fill:var(--bar)}.refused{fill:var(--bad)}
.wait{fill:none;stroke:var(--wait);stroke-width:1.5}
"""
_WIDTH, _HEIGHT = 720, 90
# More are in the table alone.
PICTURES_MAX = 20


def render_page(scenario: Scenario, figures: Figures, advice: Sequence[Advice]) -> str:
    """The whole document."""
    first = figures.first
    binds = (
        f"First in the way: <strong>{escape(first.limit)}</strong> of {escape(first.whose)},"
        f" {first.first_at / 3600:.1f} hours in."
        if first is not None
        else "No limit was in anybody's way."
    )
    start = f"{scenario.start:%Y-%m-%d %H:%M} ({escape(str(scenario.zone))})"
    helps = "".join(f"<li>{escape(str(one))}{'' if one.helps else ' (does not help)'}</li>" for one in advice)
    tenants = sorted(figures.tenants.values(), key=lambda one: (-one.refused, -one.wait(0.99), -one.asked))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Simulation</title>'
        f"<style>{_STYLE}</style></head><body><h1>Simulation</h1>"
        f'<p class="soft">{told_days(scenario.days)} from {start},'
        f" seed {scenario.seed}: {figures.requests:,} requests. Simulated: nothing was sent anywhere.</p>"
        f"<p>{binds}</p>{f'<h2>What would help</h2><ul>{helps}</ul>' if helps else ''}"
        f"<h2>Tenants</h2>{_tenant_table(tenants)}{''.join(_picture(one) for one in tenants[:PICTURES_MAX])}"
        f"<h2>Limits, by their peaks</h2>{_limit_table(figures)}</body></html>\n"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _tenant_table(tenants: Sequence[TenantFigures]) -> str:
    rows = [
        (
            one.slug,
            one.tier,
            f"{one.asked:,}",
            f"{one.served:,}",
            f"{one.refused:,}",
            f"{one.wait(0.5):.1f} s",
            f"{one.wait(0.99):.1f} s",
            format_usd(one.cost_nanos),
            ", ".join(f"{reason} {count:,}" for reason, count in one.refusals.most_common()),
        )
        for one in tenants
    ]
    return _table(("tenant", "tier", "asked", "served", "refused", "wait p50", "wait p99", "cost", "refused for"), rows)


def _limit_table(figures: Figures) -> str:
    rows = [
        (
            f"{one.limit} of {one.whose}",
            f"{one.allowed:,}",
            f"{100 * one.total / max(1, one.samples):.0f} %",
            f"{100 * one.peak:.0f} %",
            f"{100 * one.full / max(1, one.samples):.1f} %",
        )
        for one in most_used(figures, 40)
    ]
    return _table(("limit", "allowed", "mean", "peak", "time at 95 % and more"), rows)


def _picture(one: TenantFigures) -> str:
    slots, most = len(one.asked_in), max(1, *one.asked_in)
    step = _WIDTH / slots
    shapes: list[str] = []
    for at in range(slots):
        asked, refused = one.asked_in[at] / most * _HEIGHT, one.refused_in[at] / most * _HEIGHT
        shapes.append(_bar("asked", at * step, asked, step))
        if refused:
            shapes.append(_bar("refused", at * step, refused, step))
    longest = max(one.wait_in)
    if longest > 0.05:
        points = " ".join(
            f"{(at + 0.5) * step:.1f},{_HEIGHT - wait / longest * _HEIGHT:.1f}" for at, wait in enumerate(one.wait_in)
        )
        shapes.append(f'<polyline class="wait" points="{points}"/>')
    label = f"{one.slug}: up to {most:,} requests a bar; longest wait {longest:.1f} s"
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(shapes)}</svg>'
        f"<figcaption>{escape(label)} (asked, refused, and the longest wait as a line)</figcaption></figure>"
    )


def _bar(kind: str, left: float, height: float, step: float) -> str:
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{_HEIGHT - height:.1f}" width="{step * 0.85:.1f}"'
        f' height="{height:.1f}"/>'
    )
