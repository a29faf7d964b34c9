"""ledger verify | show | recompute | quarantine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import SQLAlchemyError

from tenantry.cli.context import FAILED, USAGE, confirm, fail, if_interrupted, opened
from tenantry.cli.months import month_option
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.progress import told_share
from tenantry.cli.remote.api import Api
from tenantry.cli.remote.tasks import followed
from tenantry.control.ledger_work import quarantined_views, recomputed, scope_of, verification_view
from tenantry.control.pricing import price_table
from tenantry.control.refused_views import NOBODYS_KEY, refused_view, whose_words
from tenantry.control.site import Site, slugs_of_tenants
from tenantry.domain.attempts import BASIS_BOUND
from tenantry.domain.money import format_usd
from tenantry.domain.price_terms import BadPriceTable
from tenantry.domain.prices import PriceTable
from tenantry.ledger.adjustments import BookedMeanwhile
from tenantry.ledger.quarantine import resolve
from tenantry.ledger.refused import find_refused
from tenantry.ledger.story import find_story
from tenantry.ledger.usage import BadMonth
from tenantry.ledger.verification import verify
from tenantry.regular_files import read_regular
from tenantry.storage.prices import load_prices

app = typer.Typer(help="Prove, read and correct the ledger. No row of it is ever edited.", no_args_is_help=True)

# The column that keeps it.
# As for `prices import`.
_PRICES_BYTES_MAX = 1_000_000
_VERSION_CHARS_MAX = 32


@app.command("verify")
def verify_command(as_json: AsJson = False) -> None:
    """Follow every chain of rows to its end and compare the sums; exit 1 when anything differs."""
    with opened() as at:
        if isinstance(at, Api):
            with told_share(sys.stderr, "checked") as came:
                found = followed(at, "ledger", "verification", came=came)
        else:
            found = _verified(at)
    if as_json:
        print_json(found)
    else:
        for fault in found["faults"]:
            where = f"{fault['run']} row {fault['seq']}" if fault["seq"] is not None else fault["run"]
            attempt = f" ({fault['attempt_id']})" if fault["attempt_id"] else ""
            say(f"{fault['what']}: {where}{attempt}: {fault['message']}")
        if found["fault_count"] > len(found["faults"]):
            say(f"and {found['fault_count'] - len(found['faults'])} more")
        result = "every row is as it was booked" if found["ok"] else f"{found['fault_count']} faults"
        say(f"{found['rows']} rows in {found['runs']} runs: {result}. Head {found['head']}")
    if not found["ok"]:
        raise typer.Exit(FAILED)


def _verified(site: Site) -> dict[str, Any]:
    try:
        with if_interrupted(lambda: "not every row was checked"), told_share(sys.stderr, "checked") as came:
            return verification_view(verify(site.engine, came))
    except SQLAlchemyError as error:
        raise fail(f"the ledger cannot be read: {str(error).splitlines()[0]}") from None


@app.command()
def show(
    wanted: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="A request id, attempt id or upstream request id.")
    ],
    as_json: AsJson = False,
) -> None:
    """One request's story: every attempt, what it used and cost, its corrections; or why it was refused."""
    with opened() as at:
        story, refused = _story(at, wanted)
    if refused is not None:
        _print_refused(refused, as_json)
        return
    if not story:
        raise fail(
            f"the ledger has no request {wanted!r}, nor is it among the newest that were refused; "
            "both are named within a second after their end"
        )
    if as_json:
        print_json(story)
        return
    for chapter in story:
        _print_chapter(chapter)
    priced = [chapter["cost_nanos"] for chapter in story if chapter["cost_nanos"] is not None]
    say(f"total {format_usd(sum(priced))}")


def _story(at: Site | Api, wanted: str) -> tuple[Sequence[dict[str, Any]], dict[str, Any] | None]:
    """The chapters of a request; of one that has none, why it was refused, where that is kept."""
    if isinstance(at, Api):
        found = at.find("requests", wanted)
        return ((), at.find("refusals", wanted)) if found is None else (found["chapters"], None)
    story = find_story(at.engine, wanted)
    for slug in {chapter["tenant"] for chapter in story}:
        at.directory.audit("read.ledger", wanted[:128], {"tenant": slug})
    refused = find_refused(at.engine, wanted) if not story else None
    if refused is None:
        return story, None
    slugs = slugs_of_tenants(at)
    at.directory.audit("read.refusals", wanted[:128], {"tenant": slugs.get(refused.tenant_id)})
    return story, refused_view(refused, slugs).as_json()


def _print_refused(one: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(one)
        return
    say(f"{one['at']}  request {one['request_id']} was refused: nothing went upstream, and it costs nothing")
    key = f", key {one['key_id']}" if one["key_id"] else ""
    say(f"  tenant  {one['tenant'] or _nobody(one['status'])}{key}")
    say(f"  why     {one['reason'] or one['error']} ({one['status']} {one['error']})")
    if one["model"]:
        say(f"  model   {one['model']}")


def _nobody(status: int) -> str:
    words = whose_words(status)
    return "nobody (no key of this site)" if words == NOBODYS_KEY else words


def _print_chapter(chapter: dict[str, Any]) -> None:
    if chapter["adjusts"]:
        say(f"{chapter['ended_at']}  adjustment {chapter['attempt_id']} of {chapter['adjusts']}")
        say(f"  {chapter['cost_usd']} at prices {chapter['price_version']} ({chapter['error']})\n")
        return
    say(f"{chapter['begun_at']}  attempt {chapter['attempt_id']} of request {chapter['request_id']}")
    used = ", ".join(f"{name} {count}" for name, count in chapter["usage"].items() if count)
    first = f", first byte {chapter['first_byte_at']}" if chapter["first_byte_at"] else ""
    told = chapter["upstream_request_id"] or "no id"
    waited = chapter["queue_wait_ms"]
    lines = {
        "tenant": f"{chapter['tenant']}, key {chapter['key_id']} {chapter['key_label'] or ''}".rstrip(),
        "upstream": f"{chapter['upstream']}, credential {chapter['credential']}, {told}",
        **({"waited": f"{waited} ms for its turn"} if waited is not None else {}),
        "model": f"{chapter['model_requested']} -> {chapter['model_served'] or 'none served'}",
        "ended": f"{chapter['ended_at']} after {chapter['ms']} ms{first}",
        "outcome": " ".join(
            str(chapter[name]) for name in ("outcome", "status", "stop_reason", "error") if chapter[name]
        ),
        "usage": used or "none",
        "cost": f"{chapter['cost_usd'] or 'no price'} at prices {chapter['price_version'] or 'none'}{_basis(chapter)}",
    }
    for name, text in lines.items():
        say(f"  {name:<9} {text}")
    say("")


def _basis(chapter: dict[str, Any]) -> str:
    """What makes the cost less than certain."""
    flaws = f"; usage: {chapter['flaws']}" if chapter["flaws"] else ""
    return (", at what had been held for it" if chapter["basis"] == BASIS_BOUND else "") + flaws


@app.command("quarantine")
def quarantine_command(
    retry: Annotated[bool, typer.Option("--retry", help="Book the lines that can be booked now.")] = False,
    settle: Annotated[
        bool,
        typer.Option("--settle", help="Book the others at what was held for them; let go what is no attempt's."),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Lines of journals that could not be booked; exit 1 while there are any."""
    how = "settle" if settle else "retry"
    if settle:
        confirm("Book lines in quarantine at what was held for them?", yes)
    with opened() as at:
        resolved: dict[str, Any] | None = None
        if retry or settle:
            resolved = _resolved_there(at, how) if isinstance(at, Api) else _resolved_here(at, how)
        if isinstance(at, Api):
            lines = at.items("ledger", "quarantine")
        else:
            lines = [one.as_json() for one in quarantined_views(at)]
    if as_json:
        print_json({"lines": lines, "resolved": resolved})
    else:
        if resolved is not None:
            say(f"Booked {resolved['booked']}, let go {resolved['dropped']}, left {resolved['left']}.")
        _print_quarantine(lines)
    if lines:
        raise typer.Exit(FAILED)


def _resolved_there(api: Api, how: str) -> dict[str, Any]:
    return api.write("POST", "ledger", "quarantine", body={"how": how})


def _resolved_here(site: Site, how: str) -> dict[str, Any]:
    now_us = time.time_ns() // 1000
    done = asdict(resolve(site.engine, load_prices(site.engine), now_us, at_bound=how == "settle"))
    site.directory.audit("ledger.quarantine", how, done)
    return done


def _print_quarantine(lines: list[dict[str, Any]]) -> None:
    if not lines:
        say("Every line of the journals was booked.")
        return
    columns = ["line", "found", "tenant", "attempt", "counts", "why", "text"]
    rows: list[list[Any]] = [
        [
            line["line_id"],
            line["found_at"],
            line["tenant"] or "",
            line["attempt_id"] or "",
            format_usd(line["nanos"]),
            line["reason"],
            line["line"][:60],
        ]
        for line in lines
    ]
    print_table(columns, rows, right=["counts"])
    say("--retry books those that can be booked now (after an upgrade, say); --settle books the others at their bound.")


@app.command("recompute")
def recompute_command(
    price_version: Annotated[str, typer.Option(help="The version of the prices to use.")],
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A price file; default: what `prices list` shows.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="SLUG", help="Only this tenant's.")] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Only attempts that ended in it.")] = None,
    book: Annotated[bool, typer.Option("--book", help="Book the differences as adjustments.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """What other prices would change; with --book, adjustments that carry the differences."""
    with opened() as at:
        document = _read_prices(prices) if prices is not None else None
        ask = _asking(at, document, tenant, month) if isinstance(at, Api) else _counting(at, document, tenant, month)
        _require_version(price_version, ask.version, prices)
        found = ask.recompute(False)
        changed = sum(one["attempts"] for one in found["changes"])
        if not as_json:
            _print_recomputed(found)
        if book and changed:
            confirm(f"Book {changed} adjustments?", yes)
            found = ask.recompute(True)
        if as_json:
            print_json(found)
        elif book:
            say(f"Booked {found['booked']} adjustments. Those of months that are billed are on the next invoice.")
        elif changed:
            say("Nothing was booked; --book books the differences.")


@dataclass(frozen=True, slots=True)
class _Recomputing:
    """`version` of the prices to use; `recompute` says what they change, and given True books it."""

    version: str
    recompute: Callable[[bool], dict[str, Any]]


def _counting(site: Site, document: bytes | None, tenant: str | None, month: str | None) -> _Recomputing:
    table = price_table(site) if document is None else PriceTable.load(document)
    try:
        scope = scope_of(site, tenant, month)
    except BadMonth as error:
        raise fail(str(error), USAGE) from None

    def count(book: bool) -> dict[str, Any]:
        try:
            return recomputed(site, table, scope, book=book).as_json()
        except BookedMeanwhile as error:
            raise fail(str(error)) from None

    return _Recomputing(table.version, count)


def _asking(api: Api, document: bytes | None, tenant: str | None, month: str | None) -> _Recomputing:
    if month is not None:
        month_option(month)
    version = api.get("prices")["version"] if document is None else PriceTable.load(document).version
    body = {"prices": json.loads(document) if document is not None else None, "tenant": tenant, "month": month}

    def ask(book: bool) -> dict[str, Any]:
        return api.write("POST", "ledger", "recomputation", body=body | {"price_version": version, "book": book})

    return _Recomputing(version, ask)


def _require_version(wanted: str, found: str, file: Path | None) -> None:
    if found != wanted:
        where = str(file) if file is not None else "what `prices list` shows (another one: --prices FILE)"
        raise fail(f"there are no prices {wanted!r}: {where} has version {found!r}", USAGE)
    if len(wanted) > _VERSION_CHARS_MAX:
        raise fail(f"a price version has at most {_VERSION_CHARS_MAX} characters", USAGE)


def _read_prices(file: Path) -> bytes:
    """A price file that can be read, or exit 2."""
    try:
        data = _read_file(file)
        PriceTable.load(data)
    except (OSError, BadPriceTable) as error:
        raise fail(f"{file}: {getattr(error, 'strerror', None) or error}", USAGE) from None
    return data


def _read_file(file: Path) -> bytes:
    """Raises: OSError, BadPriceTable."""
    data = read_regular(file, _PRICES_BYTES_MAX)
    if len(data) > _PRICES_BYTES_MAX:
        raise BadPriceTable("too large for a price file")
    return data


def _print_recomputed(found: dict[str, Any]) -> None:
    version, changes = found["price_version"], found["changes"]
    if not changes:
        say(f"Prices {version} change nothing.")
        return
    columns = ["tenant", "model", "attempts", "booked", f"at {version}", "difference", "still unpriced"]
    rows: list[list[Any]] = [
        [
            one["tenant"],
            one["model"],
            one["attempts"],
            format_usd(one["before_nanos"]),
            format_usd(one["after_nanos"]),
            format_usd(one["difference_nanos"]),
            one["unpriced"] or "",
        ]
        for one in changes
    ]
    attempts = sum(one["attempts"] for one in changes)
    rows.append(["total", "", attempts, "", "", format_usd(found["difference_nanos"]), ""])
    print_table(columns, rows, right=columns[2:])
