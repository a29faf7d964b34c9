"""keys issue | rotate | list | revoke, and below it admin, people and master."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from tenantry.cli import admin_keys, master_key, people
from tenantry.cli.context import confirm, fail, opened
from tenantry.cli.limit_options import bad_value, limit_options, shown
from tenantry.cli.options import AsJson, Slug, Yes
from tenantry.cli.output import print_json, print_table, say, stamp
from tenantry.cli.remote.api import Api
from tenantry.control.views import key_view
from tenantry.domain.durations import BadDuration, read_duration
from tenantry.domain.limits import KEY_LIMITS, LIMITS

app = typer.Typer(
    help="Issue, rotate, list and revoke gateway keys; admin tokens; people; the master key.", no_args_is_help=True
)
app.add_typer(admin_keys.app, name="admin")
app.add_typer(people.app, name="people")
app.add_typer(master_key.app, name="master")

KeyId = Annotated[str, typer.Argument(help="The key's id, `key_...`; `keys list` shows it.")]


@app.command()
@limit_options(KEY_LIMITS)
def issue(
    slug: Slug,
    limits: dict[str, Any],
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it stops.")] = None,
    slot: Annotated[
        str, typer.Option(metavar="SLOT", help="For this slot of the tenant alone; it has the slot's limits.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """A new gateway key for a tenant, with limits of its own within the tenant's; it is shown once."""
    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    with opened() as at:
        if isinstance(at, Api):
            body = {"label": label, "expires_days": expires_days, "limits": limits, "slot": slot}
            made = at.write("POST", "tenants", slug, "keys", body=body)
        else:
            key = at.directory.issue_key(slug, label, expires_at, limits, slot=slot)
            made = {"key_id": key.key_id, "key": key.text, "expires_at": stamp(expires_at) or None}
    if as_json:
        shown_now = {"tenant": slug, **{name: made[name] for name in ("key_id", "key", "expires_at")}}
        print_json(shown_now | ({"slot": slot} if slot else {}))
        return
    say(f"{made['key']}\n(shown only now; its id is {made['key_id']})")


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
    with opened() as at:
        if isinstance(at, Api):
            slug = _tenant_of(at, key_id)
            made = at.write("POST", "tenants", slug, "keys", key_id, "rotate", body={"grace": grace})
        else:
            key = at.directory.rotate_key(key_id, stops_at)
            old = next(row for row in at.directory.list_keys() if row.key_id == key_id)
            made = {"tenant": old.slug, "key_id": key.key_id, "key": key.text, "replaces": key_id}
            made["old_stops_at"] = stamp(old.expires_at)
    if as_json:
        print_json({name: made[name] for name in ("tenant", "key_id", "key", "replaces", "old_stops_at")})
        return
    say(f"{made['key']}\n(shown only now; its id is {made['key_id']})\n{key_id} stops at {made['old_stops_at']}.")


@app.command("list")
def list_keys(
    slug: Annotated[str | None, typer.Argument(help="Only this tenant's.")] = None, as_json: AsJson = False
) -> None:
    """Keys by id, with their last four characters, their limits, and when and by whom they were last used."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("keys") if slug is None else at.items("tenants", slug, "keys")
        else:
            rows = [key_view(row).as_json() for row in at.directory.list_keys(slug)]
    if as_json:
        print_json(rows)
        return
    columns = ["key_id", "tenant", "slot", "key", "label", "status", "expires_at", "replaced_by", "limits"]
    columns += ["last_used_at", "last_used_address", "last_used_agent"]
    print_table(columns, [[_cell(row, column) for column in columns] for row in rows])


@app.command()
def revoke(key_id: KeyId, yes: Yes = False) -> None:
    """Stop a key for good, from within a second on."""
    question = f"Clients that use {key_id} will be refused at once. Revoke it?"
    with opened() as at:
        if isinstance(at, Api):
            slug = _tenant_of(at, key_id)
            confirm(question, yes)
            at.write("POST", "tenants", slug, "keys", key_id, "revoke")
        else:
            at.directory.require_key(key_id)
            confirm(question, yes)
            at.directory.revoke_key(key_id)
    say(f"{key_id} is revoked.")


def _tenant_of(api: Api, key_id: str) -> str:
    """Whose key it is; or exit 1."""
    found = api.items("keys", key_id=key_id)
    if not found:
        raise fail(f"there is no key {key_id!r}; `tenantry keys list` names them by id (`key_...`)")
    return found[0]["tenant"]


def _cell(row: dict[str, Any], column: str) -> str:
    if column == "limits":
        return " ".join(f"{LIMITS[name].option}={shown(one)}" for name, one in row["limits"].items())
    return "" if row[column] is None else row[column]
