"""prices list | show | set | import | history | rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.cli.context import USAGE, confirm, fail, opened
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.pricing import (
    completed,
    price_changes,
    price_differences,
    price_list,
    price_table,
    prices_of,
    read_price_file,
    set_price,
    set_prices,
    terms_at,
)
from tenantry.control.site import Site
from tenantry.domain.price_terms import (
    TOKEN_CLASSES,
    BadPriceTable,
    Terms,
    as_document,
    read_terms,
    start_of,
)
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
    with opened() as at:
        found = at.get("prices") if isinstance(at, Api) else price_list(at).as_json()
    if as_json:
        print_json(found)
        return
    columns = ["model", *_HEADS.values(), "fast", "origin"]
    print_table(columns, [list(one.values()) for one in found["models"]], right=columns[1:7])
    say(f"Version {found['version']}. Dollars per million tokens; `prices show MODEL` has long prompts and days.")
    for one in found["without_price"]:
        say(f"{one['model']}: {one['attempts']} attempts without a price. {one['why']}")


@app.command()
def show(model: Model, as_json: AsJson = False) -> None:
    """Every price of a model, with the days for which it counts."""
    with opened() as at:
        found = at.get("prices", model) if isinstance(at, Api) else prices_of(at, model).as_json()
    if as_json:
        print_json(found)
        return
    rows: list[list[Any]] = []
    for period in found["periods"]:
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
    with opened() as at:
        day = _day(from_day)
        before = _terms_there(at, model, day) if isinstance(at, Api) else _terms_here(at, model, day)
        terms = _completed(model, given, fast, before)
        if before == terms:
            say(f"{model} costs that already.")
            return
        _ask_about_the_past(model, day, yes)
        if isinstance(at, Api):
            body = given | {"fast": fast, "from_day": day.isoformat(), "source": source}
            done = at.write("PATCH", "prices", model, body=body)
        else:
            done = set_price(at, model, day, terms, source).as_json()
    shown = ", ".join(f"{head} {done['terms'][name]}" for name, head in _HEADS.items())
    version = done["version"]
    say(f"{model} costs {shown} from {day.isoformat()}; version {version}.")
    if done["unpriced"]:
        say(
            f"{done['unpriced']} attempts were booked without a price: "
            f"`tenantry ledger recompute --price-version {version} --book` books what they cost. {_ON_INVOICES}"
        )
    elif done["booked"]:
        say(
            f"{done['booked']} attempts since then were booked as prices were: "
            f"`tenantry ledger recompute --price-version {version}` shows what this changes, and with --book "
            f"books it. {_ON_INVOICES}"
        )


def _terms_here(site: Site, model: str, day: date) -> Terms | None:
    return terms_at(price_table(site), model, start_of(day))


def _terms_there(api: Api, model: str, day: date) -> Terms | None:
    """The same of a control elsewhere, which tells each price with its days."""
    found = api.find("prices", model)
    periods: list[dict[str, Any]] = found["periods"] if found is not None else []
    for period in periods:
        if period["until"] is None or day < date.fromisoformat(period["until"]):
            return read_terms(model, {name: one for name, one in period.items() if name not in ("from", "until")})
    return None


@app.command("import")
def import_prices(
    file: Annotated[Path, typer.Argument(help="A price file in the form of the one that ships.")],
    from_day: FromDay = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Set every price of a file that is another one now; all of them, or none when one cannot be read."""
    wanted = _read_file(file)
    with opened() as at:
        day, source = _day(from_day), f"import of {file.name}"
        models = {model: as_document(terms) for model, terms in wanted.items()}
        body = {"models": models, "from_day": day.isoformat(), "source": source}
        if isinstance(at, Api):
            changes = at.write("POST", "prices", body=body | {"preview": True})["changes"]
        else:
            changes = [one.as_json() for one in price_differences(at, wanted, day)]
        _print_changes(changes, as_json)
        if not changes:
            say(f"{file}: every price in it is what it is already.", err=as_json)
            return
        confirm(f"Set {len(changes)} prices from {day.isoformat()}?", yes)
        if isinstance(at, Api):
            version = at.write("POST", "prices", body=body)["version"]
        else:
            set_prices(at, wanted, day, source)
            version = price_table(at).version
    say(f"Set {len(changes)} prices from {day.isoformat()}; version {version}.", err=as_json)


def _print_changes(changes: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(changes)
    elif changes:
        columns = ["model", "what", *_HEADS.values()]
        rows: list[list[str]] = []
        for one in changes:
            for what, then in (("now", "before"), ("then", "after")):
                prices: dict[str, str] = one[then] or {}
                rows.append([one["model"], what, *(prices.get(name, "-") for name in TOKEN_CLASSES)])
        print_table(columns, rows, right=columns[2:])


@app.command()
def history(
    model: Annotated[str | None, typer.Argument(help="Only this model's.")] = None, as_json: AsJson = False
) -> None:
    """What was set here, by whom and when."""
    with opened() as at:
        if isinstance(at, Api):
            changes = at.items("price-changes", model=model)
        else:
            changes = [one.as_json() for one in price_changes(at, model)]
    found = [{"from" if key == "from_day" else key: one for key, one in change.items()} for change in changes]
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
    if name not in (SAME_FAMILY, NO_RULE):
        raise fail(f"there is no rule {name!r}; there are: {SAME_FAMILY}, {NO_RULE}", USAGE)
    with opened() as at:
        before = (at.get("prices") if isinstance(at, Api) else price_list(at).as_json())["rule"]
        if name == before:
            say(f"The rule is {name} already.")
            return
        if isinstance(at, Api):
            at.write("PUT", "price-rule", body={"rule": name})
        else:
            at.directory.set_price_rule(name, before)
    if name == SAME_FAMILY:
        say("A model without a price is taken at that of the newest of its family; its rows' price version says so.")
    else:
        say("A model without a price is booked without one again, and counts at the dearest price in budgets.")


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
