"""plans list | show | set | assign | remove | examples."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.billing.margin import Margin
from tenantry.cli.context import USAGE, fail, opened_site
from tenantry.cli.margin import cents
from tenantry.cli.options import AsJson, Slug
from tenantry.cli.output import print_json, print_table, say
from tenantry.control.declared.fields import PLAN_FIELDS, BadField
from tenantry.control.plan_views import PlanView, plan_view, plan_views, simulate_plan
from tenantry.domain.money import format_usd
from tenantry.domain.plans import BILL, BLOCK, EXAMPLE_PLANS, THROTTLE, Terms
from tenantry.regular_files import read_regular
from tenantry.storage.directory.plans import SLOTS_MAX, Agreed

app = typer.Typer(
    help="What tenants pay: plans, their terms from which day on, and who is on which.", no_args_is_help=True
)

PlanName = Annotated[str, typer.Argument(metavar="PLAN", help="The plan's name.")]
FromDay = Annotated[
    str | None, typer.Option("--from", metavar="DAY", help="From this day of the agency on; default: as the plan says.")
]
# A table of own prices for every model there is has some KB.
_FILE_BYTES_MAX = 1_000_000
NO_PLAN = "none"
# Ten years.
_MONTHS_MAX = 120


@app.command("list")
def list_plans(as_json: AsJson = False) -> None:
    """All plans, with what they cost today and who is on them."""
    with opened_site() as site:
        shown = [_as_json(one) for one in plan_views(site.directory)]
    if as_json:
        print_json(shown)
        return
    columns = ["plan", "fee", "included", "overage", "markup", "slots", "tenants"]
    rows: list[list[object]] = []
    for one in shown:
        terms = one["terms"]
        included = "fair use" if terms.get("fair_use") else _included(terms)
        slots = terms["slots"] if terms["slots"] is not None else ""
        markup = f"{terms['markup_percent']}%"
        fee, overage = format_usd(terms["fee_nanos"]), terms.get("overage", "bill")
        rows.append([one["plan"], fee, included, overage, markup, slots, len(one["tenants"])])
    print_table(columns, rows, right=("fee", "included", "markup", "slots", "tenants"))


def _included(terms: dict[str, Any]) -> str:
    tokens = terms.get("included_tokens")
    return f"{tokens:,} tokens" if tokens else format_usd(terms["included_nanos"])


@app.command()
def show(name: PlanName, as_json: AsJson = False) -> None:
    """Every version of a plan's terms, and the tenants on it."""
    with opened_site() as site:
        versions = site.directory.list_plan_versions(name)
        found = _as_json(plan_view(site.directory, name))
    if as_json:
        print_json(found)
        return
    for version in versions:
        day = version.from_day.isoformat() if version.from_day else "the beginning"
        say(f"{name} from {day}, set by {version.actor}")
        print_table(["term", "value"], [[key, _shown(key, value)] for key, value in version.terms.told().items()])
    on_it = [f"{one['slug']} since {one['since']}" for one in found["tenants"]]
    say(f"On it: {', '.join(on_it) or 'nobody'}.")


def _shown(name: str, value: Any) -> str:
    if name.endswith("_nanos"):
        return format_usd(value)
    return json.dumps(value) if isinstance(value, dict) else "" if value is None else str(value).lower()


def _option(field: str, name: str, metavar: str) -> Any:
    return typer.Option(
        f"--{name}", metavar=metavar, help=f"{PLAN_FIELDS[field].help[0].upper()}{PLAN_FIELDS[field].help[1:]}."
    )


@app.command("set")
def set_plan(
    name: PlanName,
    fee: Annotated[str | None, _option("fee_usd", "fee", "USD")] = None,
    slots: Annotated[int | None, _option("slots", "slots", "N")] = None,
    extra_slot: Annotated[str | None, _option("extra_slot_usd", "extra-slot", "USD")] = None,
    setup: Annotated[str | None, _option("setup_usd", "setup", "USD")] = None,
    minimum: Annotated[str | None, _option("minimum_usd", "minimum", "USD")] = None,
    included: Annotated[str | None, _option("included_usd", "included", "USD")] = None,
    included_tokens: Annotated[int | None, _option("included_tokens", "included-tokens", "N")] = None,
    fair_use: Annotated[
        bool | None, typer.Option("--fair-use/--no-fair-use", help=PLAN_FIELDS["fair_use"].help)
    ] = None,
    overage: Annotated[str | None, _option("overage", "overage", "bill|block|throttle")] = None,
    throttle_tier: Annotated[str | None, _option("throttle_tier", "throttle-tier", "TIER")] = None,
    markup: Annotated[str | None, _option("markup_percent", "markup", "PERCENT")] = None,
    prices: Annotated[Path | None, _option("prices", "prices", "FILE")] = None,
    surcharges: Annotated[
        bool | None, typer.Option("--surcharges/--no-surcharges", help=PLAN_FIELDS["surcharges"].help)
    ] = None,
    bill_estimates: Annotated[
        bool | None, typer.Option("--bill-estimates/--no-bill-estimates", help=PLAN_FIELDS["bill_estimates"].help)
    ] = None,
    discount: Annotated[str | None, _option("discount_percent", "discount", "PERCENT")] = None,
    discount_on: Annotated[str | None, _option("discount_on", "discount-on", "fee|all")] = None,
    discount_until: Annotated[str | None, _option("discount_until", "discount-until", "DAY")] = None,
    trial_days: Annotated[int | None, _option("trial_days", "trial-days", "N")] = None,
    byok: Annotated[bool | None, typer.Option("--byok/--no-byok", help=PLAN_FIELDS["byok"].help)] = None,
    service_fee: Annotated[str | None, _option("service_fee_percent", "service-fee", "PERCENT")] = None,
    changes: Annotated[str | None, _option("changes", "changes", "prorated|next_month")] = None,
    from_day: FromDay = None,
) -> None:
    """Make a plan, or change its terms from a day on; what is not said stays. What counted before stays as it was."""
    given = {
        "fee_usd": fee,
        "slots": slots,
        "extra_slot_usd": extra_slot,
        "setup_usd": setup,
        "minimum_usd": minimum,
        "included_usd": included,
        "included_tokens": included_tokens,
        "fair_use": fair_use,
        "overage": overage,
        "throttle_tier": throttle_tier,
        "markup_percent": markup,
        "prices": _read_prices(prices),
        "surcharges": surcharges,
        "bill_estimates": bill_estimates,
        "discount_percent": discount,
        "discount_on": discount_on,
        "discount_until": discount_until,
        "trial_days": trial_days,
        "byok": byok,
        "service_fee_percent": service_fee,
        "changes": changes,
    }
    values = {key: _read(key, raw) for key, raw in given.items() if raw is not None}
    with opened_site() as site:
        before = site.directory.list_plans().get(name)
        if before is not None and not values:
            raise fail("say what to change, such as --fee 79; `--help` has every term", USAGE)
        terms = replace(before or Terms(), **{key.replace("_usd", "_nanos"): value for key, value in values.items()})
        if terms == before and from_day is None:
            say(f"{name} has these terms already.")
            return
        day = site.directory.set_plan(name, terms, _day(from_day))
    told = ", ".join(
        f"{key.replace('_usd', '')} {raw}" for key, raw in given.items() if raw is not None and key != "prices"
    )
    say(f"{name}{': ' if told else ''}{told} from {day.isoformat() if day else 'the beginning'}.")
    if terms.fair_use and terms.overage != BILL:
        say("Fair use has no number: nothing is refused. `tenantry budget set TENANT --month AMOUNT` sets one.")
    elif terms.overage == BLOCK:
        say("Beyond the included requests are refused until the month ends, and nothing is billed.")
    elif terms.overage == THROTTLE:
        say(f"Beyond the included tier {terms.throttle_tier} is left until the month ends, and nothing is billed.")


def _read(name: str, raw: object) -> Any:
    try:
        return PLAN_FIELDS[name].read(raw)
    except BadField as error:
        option = name.replace("_usd", "").replace("_percent", "").replace("_", "-")
        raise fail(f"--{option} {error}", USAGE) from None


def _read_prices(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        data = read_regular(path, _FILE_BYTES_MAX)
        if len(data) > _FILE_BYTES_MAX:
            raise ValueError("too large for a price file")
        found: Any = json.loads(data.decode("utf-8-sig"))
        if found is None:
            raise ValueError("there are no prices in it")
        PLAN_FIELDS["prices"].read(found)
    except RecursionError:
        raise fail(f"{path}: nested too deeply for a price file", USAGE) from None
    except (OSError, ValueError, BadField) as error:
        raise fail(f"{path}: {getattr(error, 'strerror', None) or error}", USAGE) from None
    return found


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError:
        raise fail(f"--from must be a day such as 2026-12-01, not {str(text)[:40]!r}", USAGE) from None


@app.command()
def assign(
    slug: Slug,
    name: Annotated[str, typer.Argument(metavar="PLAN", help=f"The plan's name, or {NO_PLAN}.")],
    from_day: FromDay = None,
    slots: Annotated[
        int | None, typer.Option(min=1, max=SLOTS_MAX, metavar="N", help="Slots agreed on; default: the plan's.")
    ] = None,
) -> None:
    """Put a tenant on a plan from a day on, or take it off. Without a day: pro-rated from today, or from next month."""
    plan = None if name == NO_PLAN else name
    with opened_site() as site:
        day = site.directory.assign_plan(slug, Agreed(plan, _day(from_day), slots))
        count, terms = len(site.directory.list_slots(slug)), site.directory.list_plans().get(name)
    if day is None:
        say(f"{slug} is on {name} already.")
    else:
        say(f"{slug} is on {name} from {day.isoformat()}{f' with {slots} slots' if slots else ''}.")
    most = slots or (terms.slots if terms is not None else None)
    if most is not None and count > most:
        say(
            f"It uses {count} slots, {count - most} more than the {most} it has then. All go on working, and none can "
            f"be added: `tenantry slots remove {slug} NAME`, or agree on more with `--slots {count}`."
        )


@app.command()
def simulate(
    slug: Slug,
    plan: Annotated[str, typer.Option(metavar="PLAN", help="The plan to try.")],
    months: Annotated[int, typer.Option(min=1, max=_MONTHS_MAX, metavar="N", help="So many whole months back.")] = 3,
    as_json: AsJson = False,
) -> None:
    """What the last months would have brought on another plan, from the ledger; nothing is changed."""
    with opened_site() as site:
        found = simulate_plan(site, slug, plan, months)
    if as_json:
        print_json([{"month": name, "was": was.as_json(), "would_be": then.as_json()} for name, was, then in found])
        return
    columns = ["month", "cost", "bill was", f"on {plan}", "margin was", "would be"]
    whole = ("total", sum((was for _, was, _ in found), Margin()), sum((then for *_, then in found), Margin()))
    rows = [
        [
            name,
            *map(cents, (was.cost_nanos, was.revenue_nanos, then.revenue_nanos, was.margin_nanos, then.margin_nanos)),
        ]
        for name, was, then in [*found, whole]
    ]
    print_table(columns, rows, right=columns[1:])


@app.command()
def remove(name: PlanName) -> None:
    """Take a plan away that no tenant is on. What it cost stays known for the invoices of its time."""
    with opened_site() as site:
        site.directory.remove_plan(name)
    say(f"{name} is no plan any more.")


@app.command()
def examples(
    add: Annotated[bool, typer.Option("--add", help="Make those that are not there.")] = False, as_json: AsJson = False
) -> None:
    """Two plans to begin with: Pro with 5 slots and Team with 10, as hosted flat-rate proxies sell them."""
    if as_json:
        print_json({name: terms.told() for name, terms in EXAMPLE_PLANS.items()})
    else:
        rows = [
            [name, format_usd(terms.fee_nanos), format_usd(terms.included_nanos), terms.slots]
            for name, terms in EXAMPLE_PLANS.items()
        ]
        print_table(["plan", "fee", "included", "slots"], rows, right=("fee", "included", "slots"))
    if not add:
        say("`tenantry plans examples --add` makes them.", err=as_json)
        return
    with opened_site() as site:
        there = site.directory.list_plans()
        for name, terms in EXAMPLE_PLANS.items():
            if name in there:
                say(f"{name} is there already, and stays as it is.", err=as_json)
            else:
                site.directory.set_plan(name, terms)
                say(f"{name} is there.", err=as_json)


def _as_json(plan: PlanView) -> dict[str, Any]:
    found = plan.as_json()
    versions = [{"from" if key == "from_day" else key: one[key] for key in one} for one in found["versions"]]
    return found | {"versions": versions}
