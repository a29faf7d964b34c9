"""budget show | set | raise."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from tenantry.cli.context import USAGE, fail, opened
from tenantry.cli.options import AsJson, Slug
from tenantry.cli.output import print_json, print_table, say, stamp
from tenantry.cli.remote.api import Api
from tenantry.control.budgeting import BadUntil, budgets_of, read_budget, read_until
from tenantry.domain.allowances import PLAN
from tenantry.domain.money import BadAmount, format_usd
from tenantry.domain.plans import BLOCK
from tenantry.storage.caps import BUDGET_PERIODS
from tenantry.storage.directory.budgets import check_budgets

app = typer.Typer(help="Show, set and raise what a tenant may cost.", no_args_is_help=True)


@app.command()
def show(slug: Slug, as_json: AsJson = False) -> None:
    """Each budget of a tenant and of its keys: amount, raises, what is spent, set aside and left, when it resets."""
    with opened() as at:
        if isinstance(at, Api):
            found = at.get("tenants", slug, "budgets")
        else:
            at.directory.get_tenant(slug)
            at.directory.audit("read.budget", slug, {})
            found = budgets_of(at, slug).as_json()
    rows, zone = found["budgets"], ZoneInfo(found["time_zone"])
    if as_json:
        print_json(found)
        return
    if not rows:
        say(f"{slug} has no budget; `tenantry budget set {slug} --month AMOUNT` sets one")
        return
    say(f"{slug}, {found['mode']} ({found['time_zone']})")
    columns = ["of", "period", "amount", "raised by", "spent", "set aside", "left", "used", "resets"]
    print_table(columns, [_cells(row, zone) for row in rows], right=columns[2:8])
    for row in rows:
        if row["period"] == PLAN:
            then = "requests are refused" if row["overage"] == BLOCK else "a slower tier is left"
            say(f"plan {row['period_label']}: what it includes; beyond it {then} until it begins anew")
        for words in _set_aside(row):
            say(words)


@app.command("set")
def set_budget(
    slug: Slug,
    month: Annotated[str | None, typer.Option(metavar="USD", help="Dollars a month, such as 50; none removes.")] = None,
    week: Annotated[str | None, typer.Option(metavar="USD", help="Dollars an ISO week; none removes.")] = None,
    day: Annotated[str | None, typer.Option(metavar="USD", help="Dollars a day; none removes.")] = None,
    mode: Annotated[
        str | None, typer.Option(help="hard refuses what does not fit; soft only tells. For the whole tenant.")
    ] = None,
    key: Annotated[str, typer.Option(metavar="KEY_ID", help="For this key alone, on top of its tenant's budget.")] = "",
) -> None:
    """Set what a tenant, or one of its keys, may cost. What is not named stays; it acts within a second."""
    typed = {"month": month, "week": week, "day": day}
    amounts = {period: _amount(period, text) for period, text in typed.items() if text is not None}
    if not amounts and mode is None:
        raise fail("say what to set: --month, --week, --day or --mode", USAGE)
    with opened() as at:
        if isinstance(at, Api):
            check_budgets(amounts, mode)
            said = {f"{period}_usd": typed[period] if nanos is not None else None for period, nanos in amounts.items()}
            body = said | ({"mode": mode} if mode is not None else {}) | ({"key_id": key} if key else {})
            found = at.write("PATCH", "tenants", slug, "budgets", body=body)
        else:
            at.directory.set_budgets(slug, amounts, mode, key)
            found = budgets_of(at, slug).as_json()
    whose = f"{slug}, key {key}" if key else slug
    caps = [one for one in found["budgets"] if (one["key_id"] or "") == key and one["period"] != PLAN]
    now = ", ".join(f"{format_usd(one['base_nanos'])} a {one['period']}" for one in caps) or "no budget"
    say(f"{whose}: {now}" + (f" ({found['mode']})" if caps else ""))


@app.command("raise")
def raise_budget(
    slug: Slug,
    by: Annotated[str, typer.Option(metavar="USD", help="Dollars on top.")],
    until: Annotated[
        str, typer.Option(metavar="DATE", help="The last day, such as 2026-11-30; or a time with its offset.")
    ],
    period: Annotated[
        str, typer.Option(help="month, week or day; plan: on top of what its plan includes, where that blocks.")
    ] = "month",
) -> None:
    """Put more money on a tenant's budget for a while, from now on. It is in the audit log."""
    if period not in (*BUDGET_PERIODS, PLAN):
        raise fail(f"--period must be month, week, day or plan, not {period!r}", USAGE)
    nanos = _amount("by", by)
    if nanos is None:
        raise fail("--by is an amount of dollars, such as 20", USAGE)
    with opened() as at:
        if isinstance(at, Api):
            ends = _end_of(until, ZoneInfo(at.get("tenants", slug, "budgets")["time_zone"]))
            body = {"by_usd": by, "until": ends.isoformat(), "period": period}
            found = at.write("POST", "tenants", slug, "budgets", "raise", body=body)
        else:
            ends = _end_of(until, at.settings.zone)
            at.directory.raise_budget(slug, period, nanos, ends)
            found = budgets_of(at, slug).as_json()
    cap = next(one for one in found["budgets"] if one["key_id"] is None and one["period"] == period)
    total, base = cap["amount_usd"], format_usd(cap["base_nanos"])
    if period == PLAN:
        say(f"{slug}: {total} in plan {cap['period_label']} until {stamp(ends)}, then {base} again; not billed")
        return
    say(f"{slug}: {total} a {period} until {stamp(ends)}, then {base} again")


def _amount(option: str, text: str) -> int | None:
    try:
        return read_budget(text)
    except BadAmount as error:
        raise fail(f"--{option}: {error}", USAGE) from None


def _end_of(text: str, zone: ZoneInfo) -> datetime:
    try:
        return read_until(text, zone)
    except BadUntil as error:
        raise fail(f"--until {error}", USAGE) from None


def _set_aside(row: dict[str, Any]) -> Iterator[str]:
    """What a budget counts though nothing is booked for it, and what ends that."""
    whose = f"{'key ' + row['key_id'] if row['key_id'] else 'tenant'}, {row['period']}"
    if row["unpriced_nanos"]:
        yield (
            f"{whose}: {format_usd(row['unpriced_nanos'])} is set aside for attempts whose model has no price; "
            "`tenantry ledger recompute` with prices that know it books them"
        )
    if row["quarantined_nanos"]:
        yield (
            f"{whose}: {format_usd(row['quarantined_nanos'])} is set aside for attempts that could not be booked; "
            "`tenantry ledger quarantine` says why"
        )


def _cells(row: dict[str, Any], zone: ZoneInfo) -> list[str]:
    resets = datetime.fromisoformat(row["resets_at"]).astimezone(zone)
    raised = format_usd(row["raised_nanos"]) if row["raised_nanos"] else ""
    if raised and row["raises"]:
        raised += " until " + ", ".join(one["until"] for one in row["raises"])
    return [
        f"key {row['key_id']}" if row["key_id"] else "tenant",
        f"{row['period']} {row['period_label']}",
        row["amount_usd"],
        raised,
        row["spent_usd"],
        format_usd(aside) if (aside := row["counted_nanos"] - row["spent_nanos"]) else "",
        row["left_usd"],
        f"{row['used_percent']} %",
        resets.strftime("%Y-%m-%d %H:%M %Z"),
    ]
