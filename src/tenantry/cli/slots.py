"""slots add | list | set | remove."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenantry.cli.context import USAGE, confirm, fail, opened
from tenantry.cli.limit_options import limit_options, read_inherited, shown
from tenantry.cli.options import AsJson, Slug, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.site import slot_endpoint_of
from tenantry.control.views import slot_allowance_view, slot_view
from tenantry.domain.limits import KEY_LIMITS, LIMITS

app = typer.Typer(
    help="Slots: endpoints of a tenant, each with keys and a lane of its own, as many as its plan has.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="SLOT", help="The slot's name, such as writer.")]


@app.command()
@limit_options(KEY_LIMITS)
def add(
    slug: Slug,
    name: Name,
    limits: dict[str, Any],
    with_key: Annotated[bool, typer.Option("--key/--no-key", help="Issue its first key, too.")] = True,
    as_json: AsJson = False,
) -> None:
    """A new slot with its first key, which is shown once; with limits of its own within the tenant's."""
    with opened() as at:
        if isinstance(at, Api):
            made = at.write("POST", "tenants", slug, "slots", body={"name": name, "limits": limits, "key": with_key})
        else:
            with at.directory.transaction() as directory:
                directory.add_slot(slug, name, limits)
                key = directory.issue_key(slug, name, slot=name) if with_key else None
            made = {"tenant": slug, "slot": name, "endpoint": slot_endpoint_of(at.settings, slug, name)}
            made |= {"key_id": key.key_id, "key": key.text} if key is not None else {}
    if as_json:
        print_json({member: one for member, one in made.items() if one is not None})
        return
    say(f"Slot {name} of {slug} is at {made['endpoint']}")
    if not with_key:
        say(f"It has no key yet: `tenantry keys issue {slug} --slot {name}`.")
    else:
        say(f"{made['key']}\n(shown only now; its id is {made['key_id']}, and it works for this slot alone)")


@app.command("list")
def list_slots(
    slug: Annotated[str | None, typer.Argument(help="Only this tenant's.")] = None, as_json: AsJson = False
) -> None:
    """Slots with their endpoints, working keys and limits; and how many the plan of the tenant has."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("slots") if slug is None else at.items("tenants", slug, "slots")
        else:
            rows = [slot_view(at.settings, row).as_json() for row in at.directory.list_slots(slug)]
        slugs = [slug] if slug is not None else list(dict.fromkeys(str(row["tenant"]) for row in rows))
        allowances = [
            at.get("tenants", one, "slot-allowance")
            if isinstance(at, Api)
            else slot_allowance_view(at.directory, one).as_json()
            for one in slugs
        ]
    words = [one.pop("words") for one in allowances]
    if as_json:
        print_json({"slots": rows, "tenants": allowances})
        return
    columns = ["tenant", "slot", "endpoint", "keys", "limits"]
    print_table(columns, [[_cell(row, column) for column in columns] for row in rows], right=("keys",))
    for may_have, one in zip(words, allowances, strict=True):
        say(f"{may_have}, and has {one['slots']}.{_surplus(one['beyond'])}")


def _surplus(count: int) -> str:
    if not count:
        return ""
    return f" {count} beyond them: all go on working, and none can be added; remove some or agree on more."


@app.command("set")
@limit_options(KEY_LIMITS)
def set_slot(
    slug: Slug,
    name: Name,
    limits: dict[str, Any],
    inherit: Annotated[
        list[str] | None, typer.Option(metavar="LIMIT", help="Go back to the tenant's for this limit; repeatable.")
    ] = None,
) -> None:
    """Limits of a slot that all of its keys share, within its tenant's; gateways follow within a second."""
    back = read_inherited(inherit or [], limits)
    if not limits and not back:
        raise fail("say what to change, such as --sessions 2; `--help` has every option", USAGE)
    with opened() as at:
        if isinstance(at, Api):
            at.write("PATCH", "tenants", slug, "slots", name, body={"limits": limits, "inherit": back})
        else:
            at.directory.set_slot(slug, name, limits, back)
    say(f"Slot {name} of {slug} is changed; `tenantry slots list {slug}` shows what holds now.")


@app.command()
def remove(slug: Slug, name: Name, yes: Yes = False) -> None:
    """Take a slot away and revoke its keys, from within a second on. What was used stays known as the slot's."""
    question = f"Clients that use slot {name} of {slug} will be refused at once. Remove it?"
    with opened() as at:
        if isinstance(at, Api):
            at.get("tenants", slug, "slots", name)
            confirm(question, yes)
            revoked = at.write("DELETE", "tenants", slug, "slots", name)["keys_revoked"]
        else:
            at.directory.get_tenant(slug)
            confirm(question, yes)
            revoked = at.directory.remove_slot(slug, name)
    say(f"Slot {name} of {slug} is removed; keys revoked: {revoked}.")


def _cell(row: dict[str, Any], column: str) -> object:
    if column == "limits":
        return " ".join(f"{LIMITS[name].option}={shown(one)}" for name, one in row["limits"].items())
    return row[column]
