"""simulate: a site that does not run, days of it in seconds; and a storm over the promises."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.cli.context import USAGE, fail, opened_site
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.progress import told_share
from tenantry.domain.money import format_usd
from tenantry.ledger.exports import replacing

if TYPE_CHECKING:
    from tenantry.simulation.advice import Advice
    from tenantry.simulation.figures import Figures
    from tenantry.simulation.scenario import Scenario
    from tenantry.simulation.storm import Report

# Ten thousand hours take some minutes.
HOURS_MAX = 100_000


def register(app: typer.Typer) -> None:
    app.command("simulate")(simulate)


def simulate(
    file: Annotated[
        Path | None, typer.Argument(help="A TOML of organizations, tenants and traffic (docs/simulate.md).")
    ] = None,
    days: Annotated[float | None, typer.Option(metavar="DAYS", help="Instead of the file's days.")] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="SEED", help="Instead of the file's; of a storm, 7 or chapter 7.13.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="A report with pictures into this file.")] = None,
    advice: Annotated[
        bool, typer.Option("--advice/--no-advice", help="Find out by more runs which change would help.")
    ] = True,
    storm: Annotated[
        bool, typer.Option("--storm", help="Check the promises under crashes, partitions and wrong clocks.")
    ] = False,
    hours: Annotated[int, typer.Option(metavar="HOURS", help="Of a storm.", min=1, max=HOURS_MAX)] = 240,
    from_site: Annotated[
        int | None,
        typer.Option(metavar="DAYS", min=1, max=366, help="Write a scenario of this site and its last days, instead."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Waits, refusals, use of limits and money of a site that does not run yet; or a storm over the promises.

    The decisions are the gateway's own; time, network and disk are simulated. Nothing is sent, and no site is needed.
    """
    if (file is not None) + storm + (from_site is not None) != 1:
        raise fail("say a scenario, such as `tenantry simulate plan.toml`; or --storm, or --from-site, alone", USAGE)
    if from_site is not None:
        _write_scenario(from_site)
        return
    # What lanes learn from simulated answers is no news for a log.
    logging.getLogger("tenantry.gateway").setLevel(logging.ERROR)
    if storm:
        _storm(seed or "1", hours, as_json)
        return
    assert file is not None  # noqa: S101 -- asked above
    _plan(_read(file, days, seed), html, advice, as_json)


def _write_scenario(days: int) -> None:
    from tenantry.control.scenario_file import scenario_file

    with opened_site() as site:
        text = scenario_file(site, days, datetime.now(UTC))
        site.directory.audit("read.usage", "all", {"days": days})
    if "[tenants." not in text:
        raise fail(f"no tenant of this site was answered anything in the last {days} days")
    say(text, nl=False)


def _read(file: Path, days: float | None, seed: str | None) -> Scenario:
    from tenantry.simulation.scenario import DAYS_MAX, BadScenario, read_scenario

    try:
        scenario = read_scenario(file.read_bytes())
    except OSError as error:
        raise fail(f"{file} cannot be read: {error.strerror or error}", USAGE) from None
    except BadScenario as error:
        raise fail("\n".join(f"{file}: {line}" for line in str(error).splitlines()), USAGE) from None
    if days is not None and not 0 < days <= DAYS_MAX:
        raise fail(f"--days is above 0 and at most {DAYS_MAX:g}, not {days:g}", USAGE)
    if seed is not None and not seed.isdigit():
        raise fail(f"--seed of a scenario is a whole number, not {seed[:20]!r}", USAGE)
    return replace(scenario, days=days or scenario.days, seed=int(seed) if seed else scenario.seed)


def _plan(scenario: Scenario, html: Path | None, wants_advice: bool, as_json: bool) -> None:
    from tenantry.domain.prices import load_default_prices
    from tenantry.simulation.advice import advise
    from tenantry.simulation.capacity import plan_capacity
    from tenantry.simulation.page import render_page

    prices = load_default_prices()
    with told_share(sys.stderr, "simulated") as came:
        figures = plan_capacity(scenario, prices, came)
    found: list[Advice] = []
    if wants_advice:
        with told_share(sys.stderr, "what would help") as came:
            found = advise(scenario, figures, prices, came)
    if html is not None:
        try:
            with replacing(html) as out:
                out.write(render_page(scenario, figures, found).encode())
        except OSError as error:
            raise fail(f"{html} cannot be written: {error.strerror or error}") from None
    if as_json:
        print_json({**figures.as_json(), "advice": [one.as_json() for one in found]})
        return
    _print(scenario, figures, found)
    if html is not None:
        say(f"Wrote {html}.")


def _print(scenario: Scenario, figures: Figures, advice: list[Advice]) -> None:
    from tenantry.simulation.plot import plot, told_days

    start = f"{scenario.start:%Y-%m-%d %H:%M} ({scenario.zone})"
    say(f"SIMULATED: {told_days(scenario.days)} from {start}, seed {scenario.seed}")
    columns = ["tenant", "tier", "asked", "refused", "p50 wait", "p99 wait", "cost"]
    rows = [
        [
            one.slug,
            one.tier,
            f"{one.asked:,}",
            f"{one.refused:,}",
            f"{one.wait(0.5):.1f} s",
            f"{one.wait(0.99):.1f} s",
            format_usd(one.cost_nanos),
        ]
        for one in figures.tenants.values()
    ]
    print_table(columns, rows, right=columns[2:])
    say()
    for line in plot(figures):
        say(line)
    say()
    for one in figures.tenants.values():
        if one.refusals:
            told = ", ".join(f"{count:,} {reason}" for reason, count in one.refusals.most_common())
            say(f"refused to {one.slug}: {told}")
    if figures.fleet is not None:
        _print_fleet(figures.fleet)
    first = figures.first
    if first is None:
        say("No limit was in anybody's way.")
        return
    say(f"First in the way: {first.limit} of {first.whose}, {first.first_at / 3600:.1f} hours in.")
    for one in advice:
        say(f"{'would help' if one.helps else 'would not help'}: {one}")


def _print_fleet(fleet: dict[str, Any]) -> None:
    say(
        f"{fleet['gateways']:,} gateways: {fleet['passed_on_percent']:g} % of requests are passed on to another one,"
        f" {fleet['requests_waited_for_the_store']:,} wait for the store"
        f" (99 % of them {fleet['store_wait_p99_seconds'] * 1000:.0f} ms at most)"
    )
    rates = {kind: rate for kind, rate in fleet["store_statements_per_second"].items() if rate >= 0.001}
    say("the store is asked a second: " + ", ".join(f"{rate:,.3f} {kind}" for kind, rate in rates.items()))


def _storm(seed: str, hours: int, as_json: bool) -> None:
    from tenantry.domain.prices import load_default_prices
    from tenantry.simulation.storm import run_storm

    if not all(part.isdigit() for part in seed.split(".")) or seed.count(".") > 1:
        raise fail(f"--seed of a storm is a number, or one and a chapter such as 7.13, not {seed[:20]!r}", USAGE)
    with told_share(sys.stderr, "storm") as came:
        report = run_storm(seed, hours, load_default_prices(), came=came)
    if as_json:
        print_json(report.as_json())
    else:
        _print_storm(report)
    if report.broken:
        raise typer.Exit(1)


def _print_storm(report: Report) -> None:
    say(f"seed {report.seed}: {report.hours:,} virtual hours, {report.requests:,} requests, {report.events:,} events")
    for title, counts in (("ended", report.outcomes), ("faults", report.faults)):
        say(f"{title}: " + ", ".join(f"{count:,} {name}" for name, count in counts.most_common()))
    if not report.broken:
        say("Every promise held after every event.")
        return
    say()
    for line in report.trace:
        say(line)
    say()
    say(f"BROKEN: {report.broken}")
    say(f"It repeats with: tenantry simulate --storm --seed {report.seed}")
