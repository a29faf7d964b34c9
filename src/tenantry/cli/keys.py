"""keys issue | rotate | list | revoke."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from sqlalchemy import Row

from tenantry.cli.context import confirm, opened_site
from tenantry.cli.limit_options import bad_value, limit_options, shown
from tenantry.cli.output import print_json, print_table, stamp
from tenantry.cli.tenants import AsJson, Slug, Yes
from tenantry.domain.directory import KeyStatus
from tenantry.domain.durations import BadDuration, read_duration
from tenantry.domain.limits import KEY_LIMITS, LIMITS
from tenantry.domain.limits import as_json as limit_as_json
from tenantry.storage.columns import utc
from tenantry.storage.records import read_changes

app = typer.Typer(help="Issue, rotate, list and revoke gateway keys.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(help="The key's id, `key_...`; `keys list` shows it.")]


@app.command()
@limit_options(KEY_LIMITS)
def issue(
    slug: Slug,
    limits: dict[str, Any],
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it stops.")] = None,
    as_json: AsJson = False,
) -> None:
    """A new gateway key for a tenant, with limits of its own within the tenant's; it is shown once."""
    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    with opened_site() as site:
        key = site.directory.issue_key(slug, label, expires_at, limits)
    if as_json:
        print_json({"tenant": slug, "key_id": key.key_id, "key": key.text, "expires_at": stamp(expires_at) or None})
        return
    typer.echo(f"{key.text}\n(shown only now; its id is {key.key_id})")


@app.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[str, typer.Option(help="How long the old key goes on: 30m, 24h, 7d, or 0.")] = "24h",
    as_json: AsJson = False,
) -> None:
    """A new key in the place of an old one; both work for the time of grace, then the old one stops by itself."""
    try:
        stops_at = datetime.now(UTC) + read_duration(grace)
    except BadDuration as error:
        raise bad_value(error) from None
    with opened_site() as site:
        key = site.directory.rotate_key(key_id, stops_at)
        old = next(row for row in site.directory.list_keys() if row.key_id == key_id)
    if as_json:
        made = {"tenant": old.slug, "key_id": key.key_id, "key": key.text}
        print_json(made | {"replaces": key_id, "old_stops_at": stamp(old.expires_at)})
        return
    typer.echo(f"{key.text}\n(shown only now; its id is {key.key_id})\n{key_id} stops at {stamp(old.expires_at)}.")


@app.command("list")
def list_keys(
    slug: Annotated[str | None, typer.Argument(help="Only this tenant's.")] = None, as_json: AsJson = False
) -> None:
    """Keys by id, with their last four characters, their limits, and when and by whom they were last used."""
    with opened_site() as site:
        rows = [_values(row) for row in site.directory.list_keys(slug)]
    if as_json:
        print_json(rows)
        return
    columns = ["key_id", "tenant", "key", "label", "status", "expires_at", "replaced_by", "limits"]
    columns += ["last_used_at", "last_used_address", "last_used_agent"]
    print_table(columns, [[_cell(row, column) for column in columns] for row in rows])


@app.command()
def revoke(key_id: KeyId, yes: Yes = False) -> None:
    """Stop a key for good, from within a second on."""
    with opened_site() as site:
        confirm(f"Clients that use {key_id} will be refused at once. Revoke it?", yes)
        site.directory.revoke_key(key_id)
    typer.echo(f"{key_id} is revoked.")


def _values(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return {
        "key_id": row.key_id,
        "tenant": row.slug,
        "key": row.hint,
        "label": row.label,
        "status": _status(row),
        "created_at": stamp(row.created_at),
        "expires_at": stamp(row.expires_at),
        "replaced_by": row.replaced_by,
        "limits": {name: limit_as_json(value) for name, value in read_changes(row.limits).items()},
        "last_used_at": stamp(row.last_used_at),
        "last_used_address": row.last_used_address,
        "last_used_agent": row.last_used_agent,
    }


def _status(row: Row[*tuple[Any, ...]]) -> str:
    """What a client meets: a key whose time is over is not active, whatever its row says."""
    expires_at = utc(row.expires_at)
    is_over = expires_at is not None and expires_at <= datetime.now(UTC)
    return "expired" if row.status == KeyStatus.ACTIVE.value and is_over else row.status


def _cell(row: dict[str, Any], column: str) -> str:
    if column == "limits":
        return " ".join(f"{LIMITS[name].option}={shown(one)}" for name, one in row["limits"].items())
    return "" if row[column] is None else row[column]
