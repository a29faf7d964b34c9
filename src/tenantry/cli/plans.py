"""plans list | show | set | assign | remove | examples."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.cli.context import USAGE, fail, opened
from tenantry.cli.margin import cents
from tenantry.cli.options import AsJson, Slug
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.declared.fields import PLAN_FIELDS, BadField
from tenantry.control.plan_views import plan_view, plan_views, set_plan_terms, simulate_plan
from tenantry.control.site import Site
from tenantry.domain.money import NANOS_PER_USD, format_usd
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
    with opened() as at:
        plans = at.items("plans") if isinstance(at, Api) else [one.as_json() for one in plan_views(at.directory)]
    shown = [_as_shown(one) for one in plans]
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
    with opened() as at:
        found = _as_shown(at.get("plans", name) if isinstance(at, Api) else plan_view(at.directory, name).as_json())
    if as_json:
        print_json(found)
        return
    for version in found["versions"]:
        say(f"{name} from {version['from'] or 'the beginning'}, set by {version['by']}")
        print_table(["term", "value"], [[named(key), _shown(key, value)] for key, value in version["terms"].items()])
    on_it = [f"{one['slug']} since {one['since']}" for one in found["tenants"]]
    say(f"On it: {', '.join(on_it) or 'nobody'}.")


def named(term: str) -> str:
    """As pages and options say it; what programs read has the term itself."""
    return term.removesuffix("_nanos").replace("_", " ")


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
    day = _day(from_day)
    with opened() as at:
        before = at.find("plans", name) if isinstance(at, Api) else _find(at, name)
        if before is not None and not values:
            raise fail("say what to change, such as --fee 79; `--help` has every term", USAGE)
        if isinstance(at, Api):
            said = {key: raw for key, raw in given.items() if raw is not None}
            after = _set_there(at, name, said, day, is_new=before is None)
        else:
            after = set_plan_terms(at.directory, name, values, day).as_json()
    made = _newest(after)
    if before is not None and made["version"] == _newest(before)["version"]:
        say(f"{name} has these terms already.")
        return
    told = ", ".join(
        f"{key.replace('_usd', '')} {raw}" for key, raw in given.items() if raw is not None and key != "prices"
    )
    say(f"{name}{': ' if told else ''}{told} from {made['from_day'] or 'the beginning'}.")
    terms = made["terms"]
    if terms.get("fair_use") and terms.get("overage", BILL) != BILL:
        say("Fair use has no number: nothing is refused. `tenantry budget set TENANT --month AMOUNT` sets one.")
    elif terms.get("overage") == BLOCK:
        say("Beyond the included requests are refused until the month ends, and nothing is billed.")
    elif terms.get("overage") == THROTTLE:
        say(f"Beyond the included tier {terms['throttle_tier']} is left until the month ends, and nothing is billed.")


def _set_there(api: Api, name: str, terms: dict[str, Any], day: date | None, *, is_new: bool) -> dict[str, Any]:
    body = {"terms": terms, "from_day": day.isoformat() if day is not None else None}
    if is_new:
        return api.write("POST", "plans", body=body | {"name": name})
    return api.write("PATCH", "plans", name, body=body)


def _find(site: Site, name: str) -> dict[str, Any] | None:
    return next((one.as_json() for one in plan_views(site.directory) if one.plan == name), None)


def _newest(plan: dict[str, Any]) -> dict[str, Any]:
    return max(plan["versions"], key=lambda one: one["version"])


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
    plan, day = None if name == NO_PLAN else name, _day(from_day)
    terms: dict[str, Any] = {}
    with opened() as at:
        if isinstance(at, Api):
            body = {"plan": plan, "from_day": day.isoformat() if day is not None else None, "slots": slots}
            since = at.write("PUT", "tenants", slug, "plan", body=body)["from_day"]
            count = len(at.items("tenants", slug, "slots"))
            terms = at.get("plans", name)["terms"] if plan is not None else terms
        else:
            found = at.directory.assign_plan(slug, Agreed(plan, day, slots))
            since = found.isoformat() if found is not None else None
            count = len(at.directory.list_slots(slug))
            terms = plan_view(at.directory, name).terms if plan is not None else terms
    if since is None:
        say(f"{slug} is on {name} already.")
    else:
        say(f"{slug} is on {name} from {since}{f' with {slots} slots' if slots else ''}.")
    most = slots or terms.get("slots")
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
    with opened() as at:
        if isinstance(at, Api):
            found: list[dict[str, Any]] = at.get("tenants", slug, "plan-simulation", plan=plan, months=months)["months"]
        else:
            found = [
                {"month": name, "was": was.as_json(), "would_be": then.as_json()}
                for name, was, then in simulate_plan(at, slug, plan, months)
            ]
    if as_json:
        print_json(found)
        return
    columns = ["month", "cost", "bill was", f"on {plan}", "margin was", "would be"]
    shown = [("was", "cost"), ("was", "revenue"), ("would_be", "revenue"), ("was", "margin"), ("would_be", "margin")]
    amounts: list[list[int]] = [[one[when][f"{what}_nanos"] for when, what in shown] for one in found]
    rows = [[one["month"], *map(cents, some)] for one, some in zip(found, amounts, strict=True)]
    rows.append(["total", *(cents(sum(some)) for some in zip(*amounts, strict=True))])
    print_table(columns, rows, right=columns[1:])


@app.command()
def remove(name: PlanName) -> None:
    """Take a plan away that no tenant is on. What it cost stays known for the invoices of its time."""
    with opened() as at:
        if isinstance(at, Api):
            at.write("DELETE", "plans", name)
        else:
            at.directory.remove_plan(name)
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
    with opened() as at:
        there = {one["plan"] for one in at.items("plans")} if isinstance(at, Api) else at.directory.list_plans()
        for name, terms in EXAMPLE_PLANS.items():
            if name in there:
                say(f"{name} is there already, and stays as it is.", err=as_json)
                continue
            if isinstance(at, Api):
                _set_there(at, name, _as_written(terms), None, is_new=True)
            else:
                at.directory.set_plan(name, terms)
            say(f"{name} is there.", err=as_json)


def _as_written(terms: Terms) -> dict[str, Any]:
    """As the API takes them: dollars, and nothing that is as by default."""
    told = {key: raw for key, raw in terms.told().items() if raw is not None}
    return {
        key.replace("_nanos", "_usd"): f"{Decimal(raw) / NANOS_PER_USD:f}" if key.endswith("_nanos") else raw
        for key, raw in told.items()
    }


def _as_shown(plan: dict[str, Any]) -> dict[str, Any]:
    versions = [{"from" if key == "from_day" else key: one[key] for key in one} for one in plan["versions"]]
    return plan | {"versions": versions}
