"""slots add | list | set | remove."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenantry.cli.context import USAGE, confirm, fail, opened_site
from tenantry.cli.limit_options import limit_options, read_inherited, shown
from tenantry.cli.options import AsJson, Slug, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.control.site import slot_endpoint_of
from tenantry.control.views import slot_view
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
    with opened_site() as site:
        with site.directory.transaction() as directory:
            directory.add_slot(slug, name, limits)
            key = directory.issue_key(slug, name, slot=name) if with_key else None
        endpoint = slot_endpoint_of(site.settings, slug, name)
    if as_json:
        made = {"tenant": slug, "slot": name, "endpoint": endpoint}
        print_json(made | ({"key_id": key.key_id, "key": key.text} if key is not None else {}))
        return
    say(f"Slot {name} of {slug} is at {endpoint}")
    if key is None:
        say(f"It has no key yet: `tenantry keys issue {slug} --slot {name}`.")
    else:
        say(f"{key.text}\n(shown only now; its id is {key.key_id}, and it works for this slot alone)")


@app.command("list")
def list_slots(
    slug: Annotated[str | None, typer.Argument(help="Only this tenant's.")] = None, as_json: AsJson = False
) -> None:
    """Slots with their endpoints, working keys and limits; and how many the plan of the tenant has."""
    with opened_site() as site:
        rows = [slot_view(site.settings, row).as_json() for row in site.directory.list_slots(slug)]
        slugs = [slug] if slug is not None else list(dict.fromkeys(str(row["tenant"]) for row in rows))
        allowances = {one: site.directory.slot_allowance(one) for one in slugs}
    counts = {one: sum(row["tenant"] == one for row in rows) for one in slugs}
    if as_json:
        print_json(
            {
                "slots": rows,
                "tenants": [
                    {
                        "tenant": one,
                        "plan": allowance.plan,
                        "slots_max": allowance.slots_max,
                        "slots": counts[one],
                        "beyond": allowance.beyond(counts[one]),
                    }
                    for one, allowance in allowances.items()
                ],
            }
        )
        return
    columns = ["tenant", "slot", "endpoint", "keys", "limits"]
    print_table(columns, [[_cell(row, column) for column in columns] for row in rows], right=("keys",))
    for one, allowance in allowances.items():
        say(f"{allowance.words(one)}, and has {counts[one]}.{_surplus(allowance.beyond(counts[one]))}")


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
    with opened_site() as site:
        site.directory.set_slot(slug, name, limits, back)
    say(f"Slot {name} of {slug} is changed; `tenantry slots list {slug}` shows what holds now.")


@app.command()
def remove(slug: Slug, name: Name, yes: Yes = False) -> None:
    """Take a slot away and revoke its keys, from within a second on. What was used stays known as the slot's."""
    with opened_site() as site:
        site.directory.get_tenant(slug)
        confirm(f"Clients that use slot {name} of {slug} will be refused at once. Remove it?", yes)
        revoked = site.directory.remove_slot(slug, name)
    say(f"Slot {name} of {slug} is removed; keys revoked: {revoked}.")


def _cell(row: dict[str, Any], column: str) -> object:
    if column == "limits":
        return " ".join(f"{LIMITS[name].option}={shown(one)}" for name, one in row["limits"].items())
    return row[column]
