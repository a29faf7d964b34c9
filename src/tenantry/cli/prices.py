"""prices list | show | set | import | history | rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.cli.context import USAGE, confirm, fail, opened_site
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say, stamp
from tenantry.control.site import Site
from tenantry.domain.price_terms import (
    TOKEN_CLASSES,
    BadPriceTable,
    Terms,
    as_document,
    read_terms,
    relative_of,
    start_of,
    usd_per_million,
)
from tenantry.domain.prices import PriceTable
from tenantry.ledger.usage import attempts_since, unpriced_models
from tenantry.regular_files import read_regular
from tenantry.storage.prices import NO_RULE, SAME_FAMILY, list_price_changes, load_prices

app = typer.Typer(
    help="What models cost, in dollars per million tokens, from which day on.",
    no_args_is_help=True,
)

Model = Annotated[str, typer.Argument(help="The id of a model.")]
# As every published row has it (reference 5.3); what is read from the cache varies, and 0.1 is the dearest.
_SHARES = {"cache_write_5m": Fraction(5, 4), "cache_write_1h": Fraction(2), "cache_read": Fraction(1, 10)}
# Beyond this a typo, corrected in a second command, would leave prices that nobody has set.
_ROUNDING_SHARE_MAX = Fraction(1, 100)
# No price file is larger; the one that ships has 8 KB.
_FILE_BYTES_MAX = 1_000_000
_ON_INVOICES = "What is on an invoice already is on the next one, as corrections of its month."
_HEADS = dict(zip(TOKEN_CLASSES, ("input", "5m write", "1h write", "read", "output"), strict=True))


@app.command("list")
def list_prices(as_json: AsJson = False) -> None:
    """What each model costs today, and the models without a price that were used."""
    with opened_site() as site:
        table, now = _table(site), datetime.now(UTC)
        set_here = {record.model for record in list_price_changes(site.engine)}
        without = _without_price(table, unpriced_models(site.engine))
    rows = [
        {"model": model} | _shown_terms(terms) | {"origin": "set here" if model in set_here else "ships"}
        for model in table.models()
        if (terms := _terms(table, model, now)) is not None
    ]
    if as_json:
        rule = SAME_FAMILY if table.assumes_relatives else NO_RULE
        print_json({"version": table.version, "rule": rule, "models": rows, "without_price": without})
        return
    columns = ["model", *_HEADS.values(), "fast", "origin"]
    print_table(columns, [list(row.values()) for row in rows], right=columns[1:7])
    say(f"Version {table.version}. Dollars per million tokens; `prices show MODEL` has long prompts and days.")
    for one in without:
        say(f"{one['model']}: {one['attempts']} attempts without a price. {one['why']}")


@app.command()
def show(model: Model, as_json: AsJson = False) -> None:
    """Every price of a model, with the days for which it counts."""
    with opened_site() as site:
        table = _table(site)
    prices = table.of(model)
    if prices is None:
        raise fail(f"{model} has no price. {_why(table, model)}")
    periods: list[dict[str, Any]] = []
    since: datetime | None = None
    for until, terms in prices.periods:
        periods.append(
            {"from": since.date().isoformat() if since else None, "until": until.date().isoformat() if until else None}
            | as_document(terms)
        )
        since = until
    if as_json:
        print_json({"model": model, "version": table.version, "periods": periods})
        return
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
def set_price(
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
        table = _table(site)
        day = _day(from_day)
        before = _terms(table, model, start_of(day))
        terms = _read(model, _completed(model, given, fast, before))
        if before == terms:
            say(f"{model} costs that already.")
            return
        _ask_about_the_past(model, day, yes)
        site.directory.set_price(model, day, terms, source, before)
        table = _table(site)
        waiting = {one["model"]: one["attempts"] for one in unpriced_models(site.engine)}.get(model, 0)
        booked = attempts_since(site.engine, model, int(start_of(day).timestamp()) * 1_000_000)
    shown = ", ".join(f"{head} {price}" for head, price in zip(_HEADS.values(), _shown(terms), strict=True))
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
        table, day = _table(site), _day(from_day)
        changes = [(model, terms, _terms(table, model, start_of(day))) for model, terms in wanted.items()]
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
                [model, what, *(_shown(one) if one is not None else ["-"] * len(TOKEN_CLASSES))]
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
        version = _table(site).version
    say(f"Set {len(changes)} prices from {day.isoformat()}; version {version}.", err=as_json)


@app.command()
def history(
    model: Annotated[str | None, typer.Argument(help="Only this model's.")] = None, as_json: AsJson = False
) -> None:
    """What was set here, by whom and when."""
    with opened_site() as site:
        records = list_price_changes(site.engine, model)
        shipped = _table(site).version.partition("+")[0]
    found = [
        {
            "version": f"{shipped}+{record.change_id}",
            "model": record.model or None,
            "from": record.from_day or None,
            "terms": json.loads(record.terms) if record.model else record.terms,
            "source": record.source,
            "by": record.actor,
            "at": stamp(record.created_at),
        }
        for record in records
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
        table = _table(site)
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


def _table(site: Site) -> PriceTable:
    try:
        return load_prices(site.engine)
    except BadPriceTable as error:
        raise fail(f"the prices in the database cannot be read: {error}") from None


def _terms(table: PriceTable, model: str, at: datetime) -> Terms | None:
    prices = table.of(model)
    return prices.terms(at) if prices is not None else None


def _shown_terms(terms: Terms) -> dict[str, str]:
    fast = terms.fast_multiplier
    shown = dict(zip(TOKEN_CLASSES, _shown(terms), strict=True))
    return shown | {"fast": f"x{float(fast):g}" if fast is not None else ""}


def _shown(terms: Terms) -> list[str]:
    return [usd_per_million(rate) for rate in terms.rates]


def _document(terms: Terms | None) -> dict[str, Any] | None:
    return as_document(terms) if terms is not None else None


def _brief(terms: Any) -> str:
    return terms if isinstance(terms, str) else f"{terms['input']}/{terms['output']}"


def _without_price(table: PriceTable, used: list[dict[str, Any]]) -> list[dict[str, Any]]:
    counts = {one["model"]: one["attempts"] for one in used}
    names = [*counts, *(model for model in table.unpriced if model not in counts)]
    return [
        {"model": model, "attempts": counts.get(model, 0), "why": _why(table, model)}
        for model in names
        if table.of(model) is None
    ]


def _why(table: PriceTable, model: str) -> str:
    if table.assumes_relatives:
        relative = relative_of(model, table.models())
        if relative is not None:
            return f"It is taken at the price of {relative} for now (`prices rule`)."
    why = table.unpriced.get(model)
    told = f"{why[0].upper()}{why[1:]}. " if why else ""
    return f"{told}`tenantry prices set {model} --input USD --output USD` sets one."


def _completed(model: str, given: Mapping[str, str | None], fast: str | None, before: Terms | None) -> dict[str, Any]:
    """The document of the price that was asked for: what is not said stays, or follows from the input's."""
    if all(text is None for text in given.values()) and fast is None:
        raise fail("say what to set, such as --input 2.50 --output 12.50", USAGE)
    document: dict[str, Any] = as_document(before) if before is not None else {}
    document |= {name: text for name, text in given.items() if text is not None}
    for name in ("input", "output"):
        if name not in document:
            raise fail(f"{model} has no price yet: --{name} is needed", USAGE)
    if given["input"] is not None:
        base = _read(model, dict.fromkeys(TOKEN_CLASSES, given["input"])).rates[0]
        for name, share in _shares(before).items():
            if given[name] is None:
                document[name] = usd_per_million(_rounded(name, base * share))
        if before is not None and before.long_prompt is not None:
            raise fail(f"{model} has other prices for long prompts: set it with `prices import FILE`", USAGE)
    if fast is not None:
        document.pop("fast_multiplier", None)
        if fast != "none":
            document["fast_multiplier"] = fast
    return document


def _rounded(name: str, exact: Fraction) -> int:
    """Whole nano-dollars a token. What would be another price by rounding has to be said."""
    rate = round(exact)
    if abs(rate - exact) > exact * _ROUNDING_SHARE_MAX:
        option = name.replace("_", "-")
        raise fail(f"--{option} is needed: {float(exact):g} nano-dollars a token are no whole number", USAGE)
    return rate


def _shares(before: Terms | None) -> dict[str, Fraction]:
    """What the other classes of input cost beside the input: as before, or as is usual."""
    if before is None or not before.rates[0]:
        return _SHARES
    of_class: dict[str, int] = dict(zip(TOKEN_CLASSES, before.rates, strict=True))
    return {name: Fraction(of_class[name], before.rates[0]) for name in _SHARES}


def _read(model: str, document: Mapping[str, Any]) -> Terms:
    try:
        return read_terms(model, document)
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
        document = json.loads(data)
        models: dict[str, Any] = document["models"]
        found = {model: read_terms(model, row) for model, row in models.items()}
    except BadPriceTable as error:
        raise fail(f"{file}: {error}", USAGE) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise fail(
            f"{file} is not a price file: JSON with `models`, each with {', '.join(TOKEN_CLASSES)}", USAGE
        ) from None
    if not found:
        raise fail(f"{file} has no prices", USAGE)
    return found
