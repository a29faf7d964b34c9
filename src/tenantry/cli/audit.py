"""audit: who changed or read what, from where, and when."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, cast
from zoneinfo import ZoneInfo

import typer

from tenantry.cli.context import USAGE, fail, opened
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, print_table, say, stamp
from tenantry.cli.remote.api import Api
from tenantry.control.site import Site
from tenantry.domain.spreadsheets import guarded
from tenantry.storage.columns import now_utc

_AGO = re.compile(r"([1-9][0-9]{0,4})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def register(app: typer.Typer) -> None:
    app.command("audit")(audit)


def audit(
    tenant: Annotated[str | None, typer.Option(metavar="SLUG", help="Only what is about this tenant.")] = None,
    since: Annotated[str | None, typer.Option(help="A day such as 2026-11-01, or 7d, 12h, 30m.")] = None,
    as_json: AsJson = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the whole chain instead. Exit 1 if it broke.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write FILE.csv or FILE.jsonl.")] = None,
) -> None:
    """The audit log, from old to new."""
    with opened() as at:
        if verify:
            if isinstance(at, Api):
                found = at.get("audit-verification")
                _verify(found["count"], found["problems"], as_json)
            else:
                _verify(*at.directory.verify_audit(), as_json)
            return
        entries = _entries_there(at, tenant, since) if isinstance(at, Api) else _entries(at, tenant, since)
        if out is not None:
            say(f"{_write(out, entries)} entries in {out}.")
        elif as_json:
            print_json(list(entries))
        else:
            print_table(
                ["at", "actor", "action", "object", "tenant", "what"],
                [
                    [_second(one["at"]), _who(one), one["action"], one["object"], one["tenant"] or "", _what(one)]
                    for one in entries
                ],
            )


def _entries(site: Site, tenant: str | None, since: str | None) -> Iterator[dict[str, Any]]:
    """Those asked for. Of a tenant that was never there, there are none to be listed.

    Raises:
        NotInDirectory: no such tenant, and none that has left.
    """
    begin = _read_since(since, site.settings.zone)
    if tenant is not None and next(site.directory.audit_entries(tenant), None) is None:
        site.directory.get_tenant(tenant)
    return (one.as_json() for one in site.directory.audit_entries(tenant, begin))


def _entries_there(api: Api, tenant: str | None, since: str | None) -> Iterator[dict[str, Any]]:
    """The same of a control elsewhere, which tells the newest first. Raises: ServerFailed."""
    begin = _read_since(since, ZoneInfo(api.get("site")["time_zone"])) if since is not None else None
    if tenant is not None and not api.items("audit", tenant=tenant, most=1):
        api.get("tenants", tenant)
    found = api.items("audit", tenant=tenant, since=begin.isoformat() if begin is not None else None)
    return reversed(found)


def _second(at: str) -> str:
    return stamp(datetime.fromisoformat(at))


def _verify(count: int, problems: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"entries": count, "problems": problems})
    elif not problems:
        say(f"{count} entries, each follows the one before; the newest is sealed under the master key.")
    for problem in problems if not as_json else []:
        say(f"tenantry: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _read_since(text: str | None, zone: ZoneInfo) -> datetime | None:
    """A day begins in the agency's time zone."""
    if text is None:
        return None
    found = _AGO.fullmatch(text)
    if found is not None:
        return now_utc() - timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})
    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is not None else at.replace(tzinfo=zone)
    except ValueError:
        raise fail(f"--since is a day such as 2026-11-01, or 7d, 12h, 30m, not {text!r}", USAGE) from None


def _who(entry: dict[str, Any]) -> str:
    """The actor of a command has its host already."""
    actor, origin = entry["actor"], entry["origin"]
    return actor if not origin or actor.endswith(f"@{origin}") else f"{actor} from {origin}"


def _what(entry: dict[str, Any]) -> str:
    before, after = entry["before"], entry["after"]
    if before is None and after is None:
        return _short(entry["detail"])
    if isinstance(before, dict) and isinstance(after, dict):
        return _changed(cast("dict[str, Any]", before), cast("dict[str, Any]", after))
    return f"{_short(before)} -> {_short(after)}"


def _changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {_short(before.get(name))} -> {_short(after.get(name))}" for name in names)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_short(one)}" for name, one in value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- any JSON
    return "none" if value is None else str(value)


def _write(path: Path, entries: Iterable[dict[str, Any]]) -> int:
    """The number of entries written. The file is readable by its owner only."""
    if path.suffix not in (".csv", ".jsonl"):
        raise fail(f"{path}: the name has to end in .csv or .jsonl", USAGE)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise fail(f"{path}: {error.strerror}") from None
    count = 0
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        for count, entry in enumerate(entries, 1):
            file.write(_csv_line(entry, count == 1) if path.suffix == ".csv" else _json_line(entry))
    return count


def _json_line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _csv_line(entry: dict[str, Any], is_first: bool) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    if is_first:
        writer.writerow(entry)
    writer.writerow([_cell(value) for value in entry.values()])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A quote before what a spreadsheet would run."""
    shown = value if isinstance(value, str | int) or value is None else json.dumps(value, ensure_ascii=False)
    return guarded(shown) if isinstance(shown, str) else shown
