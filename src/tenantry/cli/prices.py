"""prices list | show | set | import | history | rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.cli.context import USAGE, confirm, fail, opened_site
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.control.pricing import (
    completed,
    price_changes,
    price_list,
    price_table,
    prices_of,
    rates_shown,
    read_price_file,
    set_price,
    terms_at,
)
from tenantry.domain.price_terms import (
    TOKEN_CLASSES,
    BadPriceTable,
    Terms,
    as_document,
    start_of,
)
from tenantry.ledger.usage import attempts_since, unpriced_models
from tenantry.regular_files import read_regular
from tenantry.storage.prices import NO_RULE, SAME_FAMILY

app = typer.Typer(
    help="What models cost, in dollars per million tokens, from which day on.",
    no_args_is_help=True,
)

Model = Annotated[str, typer.Argument(help="The id of a model.")]
# No price file is larger; the one that ships has 8 KB.
_FILE_BYTES_MAX = 1_000_000
_ON_INVOICES = "What is on an invoice already is on the next one, as corrections of its month."
_HEADS = dict(zip(TOKEN_CLASSES, ("input", "5m write", "1h write", "read", "output"), strict=True))


@app.command("list")
def list_prices(as_json: AsJson = False) -> None:
    """What each model costs today, and the models without a price that were used."""
    with opened_site() as site:
        found = price_list(site)
    if as_json:
        print_json(found.as_json())
        return
    columns = ["model", *_HEADS.values(), "fast", "origin"]
    print_table(columns, [list(one.as_json().values()) for one in found.models], right=columns[1:7])
    say(f"Version {found.version}. Dollars per million tokens; `prices show MODEL` has long prompts and days.")
    for one in found.without_price:
        say(f"{one.model}: {one.attempts} attempts without a price. {one.why}")


@app.command()
def show(model: Model, as_json: AsJson = False) -> None:
    """Every price of a model, with the days for which it counts."""
    with opened_site() as site:
        found = prices_of(site, model)
    if as_json:
        print_json(found.as_json())
        return
    periods = found.periods
    rows: list[list[Any]] = []
    for period in periods:
        days = f"{period['from'] or 'ever'} to {period['until'] or 'now'}"
        rows.append([days, "", *(period[name] for name in TOKEN_CLASSES), period.get("fast_multiplier", "")])
        for tier in period.get("tiers", []):
            rows.append(["", f"> {tier['prompt_tokens_above']:,}", *(tier[name] for name in TOKEN_CLASSES), ""])
    columns = ["days", "prompt", *_HEADS.values(), "fast x"]
    print_table(columns, rows, right=columns[1:])


def _price_option(name: str, words: str) -> Any:
    return typer.Option(f"--{name}", metavar="USD", help=words)


_DEFAULT = "Default: in proportion to the input's (a new model: 1.25, 2, 0.1)."
FromDay = Annotated[str | None, typer.Option("--from", metavar="DAY", help="From 0:00 UTC; default: today.")]


@app.command("set")
def set_price_command(
    model: Model,
    input_: Annotated[str | None, _price_option("input", "Per million tokens of uncached input, such as 2.50.")] = None,
    output: Annotated[str | None, _price_option("output", "Per million tokens of output.")] = None,
    cache_write_5m: Annotated[str | None, _price_option("cache-write-5m", _DEFAULT)] = None,
    cache_write_1h: Annotated[str | None, _price_option("cache-write-1h", _DEFAULT)] = None,
    cache_read: Annotated[str | None, _price_option("cache-read", _DEFAULT)] = None,
    fast: Annotated[
        str | None, typer.Option(metavar="FACTOR", help="Of fast mode, such as 2; none: not offered.")
    ] = None,
    from_day: FromDay = None,
    source: Annotated[str, typer.Option(metavar="TEXT", help="Where the price is from, for the record.")] = "",
    yes: Yes = False,
) -> None:
    """A model's price from a day on. Gateways follow within a second; what was booked stays as it is."""
    given = {
        "input": input_,
        "cache_write_5m": cache_write_5m,
        "cache_write_1h": cache_write_1h,
        "cache_read": cache_read,
        "output": output,
    }
    with opened_site() as site:
        day = _day(from_day)
        before = terms_at(price_table(site), model, start_of(day))
        terms = _completed(model, given, fast, before)
        if before == terms:
            say(f"{model} costs that already.")
            return
        _ask_about_the_past(model, day, yes)
        set_price(site, model, day, terms, source)
        table = price_table(site)
        waiting = {one["model"]: one["attempts"] for one in unpriced_models(site.engine)}.get(model, 0)
        booked = attempts_since(site.engine, model, int(start_of(day).timestamp()) * 1_000_000)
    shown = ", ".join(f"{head} {price}" for head, price in zip(_HEADS.values(), rates_shown(terms), strict=True))
    say(f"{model} costs {shown} from {day.isoformat()}; version {table.version}.")
    if waiting:
        say(
            f"{waiting} attempts were booked without a price: "
            f"`tenantry ledger recompute --price-version {table.version} --book` books what they cost. {_ON_INVOICES}"
        )
    elif booked:
        say(
            f"{booked} attempts since then were booked as prices were: "
            f"`tenantry ledger recompute --price-version {table.version}` shows what this changes, and with --book "
            f"books it. {_ON_INVOICES}"
        )


@app.command("import")
def import_prices(
    file: Annotated[Path, typer.Argument(help="A price file in the form of the one that ships.")],
    from_day: FromDay = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Set every price of a file that is another one now; all of them, or none when one cannot be read."""
    wanted = _read_file(file)
    with opened_site() as site:
        table, day = price_table(site), _day(from_day)
        changes = [(model, terms, terms_at(table, model, start_of(day))) for model, terms in wanted.items()]
        changes = [one for one in changes if one[1] != one[2]]
        if as_json:
            print_json(
                [
                    {"model": model, "before": _document(before), "after": as_document(terms)}
                    for model, terms, before in changes
                ]
            )
        elif changes:
            columns = ["model", "what", *_HEADS.values()]
            rows = [
                [model, what, *(rates_shown(one) if one is not None else ["-"] * len(TOKEN_CLASSES))]
                for model, terms, before in changes
                for what, one in (("now", before), ("then", terms))
            ]
            print_table(columns, rows, right=columns[2:])
        if not changes:
            say(f"{file}: every price in it is what it is already.", err=as_json)
            return
        confirm(f"Set {len(changes)} prices from {day.isoformat()}?", yes)
        with site.directory.transaction() as directory:
            for model, terms, before in changes:
                directory.set_price(model, day, terms, f"import of {file.name}", before)
        version = price_table(site).version
    say(f"Set {len(changes)} prices from {day.isoformat()}; version {version}.", err=as_json)


@app.command()
def history(
    model: Annotated[str | None, typer.Argument(help="Only this model's.")] = None, as_json: AsJson = False
) -> None:
    """What was set here, by whom and when."""
    with opened_site() as site:
        found = [
            {"from" if key == "from_day" else key: one for key, one in change.as_json().items()}
            for change in price_changes(site, model)
        ]
    if as_json:
        print_json(found)
        return
    if not found:
        say("No price was set here: all are those that ship.")
        return
    rows = [
        [
            one["version"],
            one["model"] or "(rule)",
            one["from"] or "",
            _brief(one["terms"]),
            one["source"],
            one["by"],
            one["at"],
        ]
        for one in found
    ]
    print_table(["version", "model", "from", "input/output", "source", "by", "at"], rows)


@app.command()
def rule(
    name: Annotated[str, typer.Argument(metavar="same-family|none", help="What a model without a price is taken at.")],
) -> None:
    """Take models without a price at that of the newest of their family, told as provisional; or do not."""
    with opened_site() as site:
        table = price_table(site)
        before = SAME_FAMILY if table.assumes_relatives else NO_RULE
        if name not in (SAME_FAMILY, NO_RULE):
            raise fail(f"there is no rule {name!r}; there are: {SAME_FAMILY}, {NO_RULE}", USAGE)
        if name == before:
            say(f"The rule is {name} already.")
            return
        site.directory.set_price_rule(name, before)
    if name == SAME_FAMILY:
        say("A model without a price is taken at that of the newest of its family; its rows' price version says so.")
    else:
        say("A model without a price is booked without one again, and counts at the dearest price in budgets.")


def _document(terms: Terms | None) -> dict[str, Any] | None:
    return as_document(terms) if terms is not None else None


def _brief(terms: Any) -> str:
    return terms if isinstance(terms, str) else f"{terms['input']}/{terms['output']}"


def _completed(model: str, given: Mapping[str, str | None], fast: str | None, before: Terms | None) -> Terms:
    """The price that was asked for, or exit 2."""
    if all(text is None for text in given.values()) and fast is None:
        raise fail("say what to set, such as --input 2.50 --output 12.50", USAGE)
    try:
        return completed(model, given, fast, before, lambda name: f"--{name.replace('_', '-')}")
    except BadPriceTable as error:
        raise fail(str(error), USAGE) from None


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise fail(f"--from must be a day such as 2026-12-01, not {text[:40]!r}", USAGE) from None


def _ask_about_the_past(model: str, day: date, yes: bool) -> None:
    if day < datetime.now(UTC).date():
        confirm(
            f"{day.isoformat()} is past: what was booked since stays as it is until `ledger recompute --book`. "
            f"Set the price of {model}?",
            yes,
        )


def _read_file(file: Path) -> dict[str, Terms]:
    try:
        data = read_regular(file, _FILE_BYTES_MAX)
    except OSError as error:
        raise fail(f"{file} cannot be read: {error.strerror}", USAGE) from None
    if len(data) > _FILE_BYTES_MAX:
        raise fail(f"{file} is too large for a price file", USAGE)
    try:
        return read_price_file(json.loads(data))
    except (BadPriceTable, ValueError, RecursionError) as error:
        words = error if isinstance(error, BadPriceTable) else "this is not a price file: it is no JSON"
        raise fail(f"{file}: {words}", USAGE) from None
