"""tenants list | show | set | disable | enable | delete | export | schema."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from tenantry.cli import guides, portal
from tenantry.cli.context import USAGE, confirm, fail, opened
from tenantry.cli.limit_options import limit_options, read_inherited, shown
from tenantry.cli.options import AsJson, Slug, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.control.site import Site
from tenantry.control.views import tenant_view
from tenantry.domain.directory import TenantStatus
from tenantry.domain.limits import LIMITS, NO_LIMIT
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.tenants import DISCONNECTS, TenantChange

# What one command alone needs is loaded by it: `disable` stops an emergency, and starts as fast as it can.
app = typer.Typer(help="List, show, change, disable, enable and delete tenants.", no_args_is_help=True)


@app.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """All tenants."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("tenants")
        else:
            rows = [tenant_view(at.settings, row).as_json() for row in at.directory.list_tenants()]
    if as_json:
        print_json(rows)
        return
    columns = ["slug", "name", "status", "tier", "sessions_max", "requests_per_minute", "credential"]
    titles = ["slug", "name", "status", "tier", "sessions", "rpm", "credential"]
    cells = [
        [*(row[column] for column in columns[:5]), shown(row["requests_per_minute"]), row["credential"] or ""]
        for row in rows
    ]
    print_table(titles, cells, right=["sessions", "rpm"])


@app.command()
def show(slug: Slug, as_json: AsJson = False) -> None:
    """One tenant: what it may use, what it uses now, why it was refused, its keys."""
    from tenantry.control.tenant_detail import everything, put_together

    with opened() as at:
        if isinstance(at, Api):
            detail, now = at.get("tenants", slug), at.get("tenants", slug, "live")
            values = put_together(detail, now, at.items("tenants", slug, "keys"))
        else:
            at.directory.get_tenant(slug)
            at.directory.audit("read.tenant", slug, {})
            values = everything(at, slug)
    if as_json:
        print_json(values)
    else:
        _print(values)


@app.command("set")
@limit_options(LIMITS)
def set_tenant(
    slug: Slug,
    limits: dict[str, Any],
    tier: Annotated[str | None, typer.Option(help="Another tier.")] = None,
    inherit: Annotated[
        list[str] | None, typer.Option(metavar="LIMIT", help="Go back to the tier's for this limit; repeatable.")
    ] = None,
    user_profile: Annotated[
        str | None, typer.Option(metavar="ID", help="Sent as anthropic-user-profile-id; none takes it away.")
    ] = None,
    contact: Annotated[str | None, typer.Option(help="Whom to reach at the client; none takes it away.")] = None,
    disconnect: Annotated[
        str | None,
        typer.Option(metavar="|".join(DISCONNECTS), help="When a client leaves: read its answer to the end, or stop."),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A host name of the client's own; repeatable: these are all it has then. none: no name.",
        ),
    ] = None,
) -> None:
    """Another tier, or limits of its own above or below the tier's; gateways follow within a second."""
    change = TenantChange(
        tier=tier,
        limits=limits,
        inherit=read_inherited(inherit or [], limits),
        user_profile_id=_text(user_profile),
        contact=_text(contact),
        disconnect=disconnect,
        hosts=_hosts(host),
    )
    if disconnect is not None and disconnect not in DISCONNECTS:
        raise fail(f"--disconnect must be {' or '.join(DISCONNECTS)}, not {disconnect!r}", USAGE)
    if change == TenantChange(limits={}, inherit=[]):
        raise fail("say what to change, such as --rpm 120; `--help` has every option", USAGE)
    with opened() as at:
        if isinstance(at, Api):
            at.write("PATCH", "tenants", slug, body=_patch(change))
        else:
            _require_usable(at, change.hosts or ())
            at.directory.set_tenant(slug, change)
    say(f"{slug} is changed; `tenantry tenants show {slug}` shows what holds now.")


def _patch(change: TenantChange) -> dict[str, Any]:
    """The body that says this change: what is not said stays."""
    said = {
        "tier": change.tier,
        "limits": change.limits or None,
        "inherit": change.inherit or None,
        "user_profile_id": change.user_profile_id,
        "contact": change.contact,
        "disconnect": change.disconnect,
        "hosts": change.hosts,
    }
    return {name: one for name, one in said.items() if one is not None}


def _require_usable(site: Site, hosts: Sequence[str]) -> None:
    if not hosts:
        return
    from tenantry.control.host_names import why_not_usable

    for name in hosts:
        problem = why_not_usable(site.settings, name)
        if problem is not None:
            raise fail(f"--host: {problem}", USAGE)


def _hosts(written: list[str] | None) -> list[str] | None:
    if not written or written == [NO_LIMIT]:
        return [] if written else None
    from tenantry.control.host_names import read_host
    from tenantry.domain.hosts import BadHost

    try:
        return list(dict.fromkeys(read_host(one) for one in written))
    except BadHost as error:
        raise fail(f"--host {error}", USAGE) from None


def _text(value: str | None) -> str | None:
    return "" if value == NO_LIMIT else value


@app.command()
def disable(slug: Slug, yes: Yes = False) -> None:
    """Refuse every request of a tenant with 403, from within a second on."""
    question = f"Every request of {slug} will be refused. Disable it?"
    with opened() as at:
        if isinstance(at, Api):
            at.get("tenants", slug)
            confirm(question, yes)
            at.write("POST", "tenants", slug, "disable")
        else:
            at.directory.get_tenant(slug)
            confirm(question, yes)
            at.directory.set_tenant_status(slug, TenantStatus.DISABLED)
    say(f"{slug} is disabled. `tenantry tenants enable {slug}` brings it back with the same keys.")


@app.command()
def enable(slug: Slug) -> None:
    """Serve a disabled tenant again; nothing changes at the client."""
    with opened() as at:
        if isinstance(at, Api):
            at.write("POST", "tenants", slug, "enable")
        else:
            at.directory.set_tenant_status(slug, TenantStatus.ACTIVE)
    say(f"{slug} is active.")


@app.command()
def delete(
    slug: Slug,
    yes: Yes = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the closing statement goes.")] = Path("statements"),
) -> None:
    """Delete a tenant with its keys, budgets and alerts. The ledger keeps its rows; a closing statement is written."""
    with opened() as at:
        is_remote = isinstance(at, Api)
        keys = len(at.items("tenants", slug, "keys") if is_remote else at.directory.list_keys(slug))
        confirm(f"{slug} and its {keys} keys are gone for good then; its rows in the ledger stay. Delete it?", yes)
        try:
            statement = _deleted_there(at, slug, out) if is_remote else _deleted_here(at, slug, out)
        except OSError as error:
            raise fail(f"{out}: {error.strerror}; nothing was deleted") from None
    say(f"{slug} is deleted. What it used: {statement}")


def _deleted_here(site: Site, slug: str, out: Path) -> Path:
    from tenantry.control.offboarding import delete_tenant

    return delete_tenant(site, slug, out)


def _deleted_there(api: Api, slug: str, out: Path) -> Path:
    """The statement is kept there, too, should it not come to be written here."""
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    done = api.write("DELETE", "tenants", slug)
    path = out / Path(done["file"]).name
    with path.open("x", encoding="utf-8") as file:
        file.write(done["statement"])
    return path


@app.command()
def export(
    out: Annotated[Path | None, typer.Option(help="Write it here; default: standard output.")] = None,
) -> None:
    """All tenants as a file for `plan` and `apply`. There is no secret in it."""
    with opened() as at:
        text = at.bytes_of("declaration").decode() if isinstance(at, Api) else _exported(at)
    if out is None:
        say(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise fail(f"{out}: {error.strerror}; nothing was written") from None
    say(f"Wrote {out}. `tenantry plan {out}` compares it with the gateway.")


def _exported(site: Site) -> str:
    from tenantry.control.declared.exporting import export_tenants
    from tenantry.control.declared.state import read_standing

    site.directory.audit("read.export", "*", {"tenant": None})
    return export_tenants(read_standing(site.directory), site.settings.zone, now_utc())


@app.command()
def schema() -> None:
    """The JSON schema of such a file, for editors."""
    from tenantry.control.declared.schema import json_schema

    print_json(json_schema())


_SHOWN_ABOVE = ("sessions_max", "requests_per_minute", "limits", "uses", "announced", "refusals", "keys")


def _print(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name not in _SHOWN_ABOVE:
            text = " ".join(cast("list[str]", value)) if isinstance(value, list) else value
            say(f"{name:17}{text if text is not None else ''}")
    say("\nmay use")
    rows = [[LIMITS[name].option, shown(one["value"]), one["from"]] for name, one in values["limits"].items()]
    print_table(["limit", "value", "from"], rows)
    say("\nuses now")
    if values["uses"] is None:
        say("no gateway runs")
    else:
        print_table(
            ["what", "now"], [[name, "no limit" if value is None else value] for name, value in values["uses"].items()]
        )
    if values["announced"]:
        say("\nits upstream announces, and no capacity is declared")
        rows = [[model, limit, per] for model, limits in values["announced"].items() for limit, per in limits.items()]
        print_table(["model", "limit", "number"], rows, right=["number"])
    say("\nwas refused")
    if values["refusals"]:
        print_table(["reason", "times", "last"], [list(one.values()) for one in values["refusals"]], right=["times"])
    else:
        say("never")
    say("\nkeys")
    print_table(["key_id", "key", "status", "label"], [_key_cells(key) for key in values["keys"]])


def _key_cells(key: dict[str, Any]) -> list[Any]:
    return [key["key_id"], key["key"], key["status"], key["label"]]


guides.register(app)
app.add_typer(portal.app, name="portal")
