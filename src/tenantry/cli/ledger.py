"""ledger verify | show | recompute | quarantine."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import SQLAlchemyError

from tenantry.cli.context import FAILED, USAGE, confirm, fail, if_interrupted, opened_site
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, print_table, say, stamp
from tenantry.cli.progress import told_share
from tenantry.control.refused_views import RefusedView, refused_view
from tenantry.control.site import Site
from tenantry.domain.attempts import BASIS_BOUND
from tenantry.domain.money import format_usd
from tenantry.domain.price_terms import BadPriceTable
from tenantry.domain.prices import PriceTable
from tenantry.ledger.adjustments import BookedMeanwhile, Recomputed, Scope, book_adjustments, recompute
from tenantry.ledger.quarantine import Quarantined, Resolved, list_quarantined, resolve
from tenantry.ledger.refused import find_refused
from tenantry.ledger.story import find_story
from tenantry.ledger.usage import BadMonth, month_bounds_us
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
    with opened_site() as site:
        try:
            with if_interrupted(lambda: "not every row was checked"), told_share(sys.stderr, "checked") as came:
                found = verify(site.engine, came)
        except SQLAlchemyError as error:
            raise fail(f"the ledger cannot be read: {str(error).splitlines()[0]}") from None
    if as_json:
        print_json(asdict(found) | {"ok": not found.fault_count})
    else:
        for fault in found.faults:
            where = f"{fault.run} row {fault.seq}" if fault.seq is not None else fault.run
            say(f"{fault.what}: {where}{f' ({fault.attempt_id})' if fault.attempt_id else ''}: {fault.message}")
        if found.fault_count > len(found.faults):
            say(f"and {found.fault_count - len(found.faults)} more")
        result = f"{found.fault_count} faults" if found.fault_count else "every row is as it was booked"
        say(f"{found.rows} rows in {found.runs} runs: {result}. Head {found.head}")
    if found.fault_count:
        raise typer.Exit(FAILED)


@app.command()
def show(
    wanted: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="A request id, attempt id or upstream request id.")
    ],
    as_json: AsJson = False,
) -> None:
    """One request's story: every attempt, what it used and cost, its corrections; or why it was refused."""
    with opened_site() as site:
        story = find_story(site.engine, wanted)
        refused = find_refused(site.engine, wanted) if not story else None
        for slug in {chapter["tenant"] for chapter in story}:
            site.directory.audit("read.ledger", wanted[:128], {"tenant": slug})
        slugs = {one.tenant_id: one.slug for one in site.directory.list_tenants()} if refused is not None else {}
        if refused is not None:
            site.directory.audit("read.refusals", wanted[:128], {"tenant": slugs.get(refused.tenant_id)})
    if refused is not None:
        _print_refused(refused_view(refused, slugs), as_json)
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


def _print_refused(one: RefusedView, as_json: bool) -> None:
    if as_json:
        print_json(one.as_json())
        return
    say(f"{one.at}  request {one.request_id} was refused: nothing went upstream, and it costs nothing")
    say(f"  tenant  {one.tenant or 'nobody (no key of this site)'}{f', key {one.key_id}' if one.key_id else ''}")
    say(f"  why     {one.reason or one.error} ({one.status} {one.error})")
    if one.model:
        say(f"  model   {one.model}")


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
    with opened_site() as site:
        resolved: Resolved | None = None
        if retry or settle:
            if settle:
                confirm("Book lines in quarantine at what was held for them?", yes)
            resolved = resolve(site.engine, load_prices(site.engine), time.time_ns() // 1000, at_bound=settle)
            site.directory.audit("ledger.quarantine", "settle" if settle else "retry", asdict(resolved))
        lines = list_quarantined(site.engine)
        slugs = _slugs(site)
    if as_json:
        shown = [asdict(line) | {"found_at": stamp(line.found_at)} for line in lines]
        print_json({"lines": shown, "resolved": asdict(resolved) if resolved is not None else None})
    else:
        if resolved is not None:
            say(f"Booked {resolved.booked}, let go {resolved.dropped}, left {resolved.left}.")
        _print_quarantine(lines, slugs)
    if lines:
        raise typer.Exit(FAILED)


def _print_quarantine(lines: list[Quarantined], slugs: dict[str, str]) -> None:
    if not lines:
        say("Every line of the journals was booked.")
        return
    columns = ["line", "found", "tenant", "attempt", "counts", "why", "text"]
    rows: list[list[Any]] = [
        [
            line.line_id,
            stamp(line.found_at),
            slugs.get(line.tenant_id or "", line.tenant_id or ""),
            line.attempt_id or "",
            format_usd(line.nanos),
            line.reason,
            line.line[:60],
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
    with opened_site() as site:
        table = _prices(site, prices, price_version)
        scope = _scope(site, tenant, month)
        found = recompute(site.engine, table, scope)
        changed = sum(one.attempts for one in found)
        if not as_json:
            _print_recomputed(site, found, table.version)
        booked = 0
        if book and changed:
            confirm(f"Book {changed} adjustments?", yes)
            booked = _book(site, table, scope)
        if as_json:
            print_json(_as_json(site, found, table.version, booked))
        elif book:
            say(f"Booked {booked} adjustments. Those of months that are billed are on the next invoice.")
        elif changed:
            say("Nothing was booked; --book books the differences.")


def _prices(site: Site, file: Path | None, version: str) -> PriceTable:
    try:
        table = load_prices(site.engine) if file is None else PriceTable.load(_read_file(file))
    except (OSError, BadPriceTable) as error:
        raise fail(f"{file or 'the prices'}: {getattr(error, 'strerror', None) or error}", USAGE) from None
    if table.version != version:
        where = str(file) if file is not None else "what `prices list` shows (another one: --prices FILE)"
        raise fail(f"there are no prices {version!r}: {where} has version {table.version!r}", USAGE)
    if len(version) > _VERSION_CHARS_MAX:
        raise fail(f"a price version has at most {_VERSION_CHARS_MAX} characters", USAGE)
    return table


def _read_file(file: Path) -> bytes:
    """Raises: OSError, BadPriceTable."""
    data = read_regular(file, _PRICES_BYTES_MAX)
    if len(data) > _PRICES_BYTES_MAX:
        raise BadPriceTable("too large for a price file")
    return data


def _scope(site: Site, slug: str | None, month: str | None) -> Scope:
    tenant_id = site.directory.get_tenant(slug).tenant_id if slug is not None else None
    if month is None:
        return Scope(tenant_id)
    try:
        return Scope(tenant_id, *month_bounds_us(month, site.settings.zone))
    except BadMonth as error:
        raise fail(str(error), USAGE) from None


def _book(site: Site, table: PriceTable, scope: Scope) -> int:
    try:
        booked = book_adjustments(site.engine, table, scope)
    except BookedMeanwhile as error:
        raise fail(str(error)) from None
    # Gateways that run count it from now on.
    site.directory.announce(
        "ledger.adjusted", scope.tenant_id or "all", {"price_version": table.version, "rows": booked}
    )
    return booked


def _slugs(site: Site) -> dict[str, str]:
    return {row.tenant_id: row.slug for row in site.directory.list_tenants()}


def _as_json(site: Site, found: list[Recomputed], version: str, booked: int) -> dict[str, Any]:
    slugs = _slugs(site)
    return {
        "price_version": version,
        "changes": [
            asdict(one)
            | {
                "tenant": slugs.get(one.tenant_id, one.tenant_id),
                "difference_nanos": one.after_nanos - one.before_nanos,
            }
            for one in found
        ],
        "difference_nanos": sum(one.after_nanos - one.before_nanos for one in found),
        "booked": booked,
    }


def _print_recomputed(site: Site, found: list[Recomputed], version: str) -> None:
    if not found:
        say(f"Prices {version} change nothing.")
        return
    slugs = _slugs(site)
    columns = ["tenant", "model", "attempts", "booked", f"at {version}", "difference", "still unpriced"]
    rows: list[list[Any]] = [
        [
            slugs.get(one.tenant_id, one.tenant_id),
            one.model,
            one.attempts,
            format_usd(one.before_nanos),
            format_usd(one.after_nanos),
            format_usd(one.after_nanos - one.before_nanos),
            one.unpriced or "",
        ]
        for one in found
    ]
    total = sum(one.after_nanos - one.before_nanos for one in found)
    rows.append(["total", "", sum(one.attempts for one in found), "", "", format_usd(total), ""])
    print_table(columns, rows, right=columns[2:])
