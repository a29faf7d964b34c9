"""provision: from a name to a working client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.cli.bulk import provision_from
from tenantry.cli.context import USAGE, fail, opened
from tenantry.cli.guides import GUIDE_FOLDER
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, say
from tenantry.cli.remote.api import Api
from tenantry.cli.remote.server import NAMED
from tenantry.cli.secrets import read_secret
from tenantry.control.client_guide import write_guide_texts
from tenantry.control.provisioning import CredentialChoice, Provisioned, Terms, provision
from tenantry.control.site import UPSTREAM
from tenantry.domain.money import BadAmount, read_amount
from tenantry.domain.periods import MONTH

# What JSON tells, in this order.
_MADE = ("tenant", "tenant_id", "endpoint", "key", "key_id", "guide", "live_check")
_FROM_FILE = (
    "--from goes on where it was by what is on this machine: run it on the machine of control, without --server, or "
    "provision the clients one by one"
)


def register(app: typer.Typer) -> None:
    app.command("provision")(provision_command)


def provision_command(
    name: Annotated[str | None, typer.Argument(help="The client's name, such as 'Acme GmbH'.")] = None,
    tier: Annotated[str, typer.Option(help="A tier; `tiers list` names them.")] = "standard",
    slug: Annotated[str | None, typer.Option(help="Public id; default: made from the name.")] = None,
    credential_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="Take the Anthropic key from this environment variable.")
    ] = None,
    credential_stdin: Annotated[
        bool, typer.Option("--credential-stdin", help="Read the Anthropic key from standard input.")
    ] = False,
    credential: Annotated[
        str | None, typer.Option(metavar="NAME", help="Use a stored credential; `sandbox` for the simulation.")
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Declare that several tenants may use this credential.")
    ] = False,
    upstream: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"The upstream that a new key belongs to; default {UPSTREAM}.")
    ] = None,
    contact: Annotated[str | None, typer.Option(help="Whom to write to at the client.")] = None,
    month: Annotated[str | None, typer.Option(metavar="USD", help="What it may cost a month; a hard budget.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="What the live check asks; default: the cheapest of Claude's.")
    ] = None,
    as_json: AsJson = False,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Many clients at once, from a CSV file.")
    ] = None,
    keys_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --from: where their keys go; default <FILE>.keys.csv.")
    ] = None,
) -> None:
    """Make a tenant with credential, key, live check and client guide; on any failure nothing is left."""
    if source is not None:
        given = (name, slug, credential_env, credential_stdin, credential, shared, upstream, contact, month, model)
        if any(given) or tier != "standard":
            raise fail("--from takes everything about a client from the file; leave the others out", USAGE)
        if NAMED.get() is not None:
            raise fail(_FROM_FILE, USAGE)
        raise provision_from(source, keys_out or source.with_suffix(".keys.csv"), GUIDE_FOLDER, as_json)
    if name is None or keys_out is not None:
        raise fail("say the client's name, or --from FILE (with which --keys-out goes)", USAGE)
    terms = Terms(contact, _budgets(month), model)
    choice = _choice(credential_env, credential_stdin, credential, shared, upstream)
    with opened() as at:
        if isinstance(at, Api):
            made = _made_there(at, name, tier, choice, slug, terms, month)
        else:
            made = _as_json(provision(at, name, tier, choice, GUIDE_FOLDER, slug, _tell_step, terms))
    if as_json:
        print_json(made)
        return
    say(f"Endpoint  {made['endpoint']}")
    say(f"Key       {made['key']}")
    say("          (shown only now)")
    say(f"Guide     {made['guide']}")
    if made["live_check"]["simulated"]:
        say("SIMULATION: this client's upstream is the sandbox; its answers are made up.")


def _tell_step(step: str) -> None:
    say(f"  {step}", err=True)


def _made_there(
    api: Api, name: str, tier: str, choice: CredentialChoice, slug: str | None, terms: Terms, month: str | None
) -> dict[str, Any]:
    """By a control elsewhere; the guide is written here. That it could not be keeps nobody from the key."""
    try:
        GUIDE_FOLDER.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = GUIDE_FOLDER.absolute()
        raise fail(f"the guide cannot be written to {where} ({error.strerror}): go to a folder of your own") from None
    body = {"name": name, "tier": tier, "slug": slug, "shared": choice.shared, "contact": terms.contact}
    body |= {"credential": choice.name, "credential_secret": choice.secret, "month_usd": month, "model": terms.model}
    body |= {"upstream": choice.upstream} if choice.secret is not None else {}
    made = api.write("POST", "provisions", body=body)
    for step in made["steps"]:
        _tell_step(step)
    place = ("tenants", made["tenant"], "guide")
    markdown, page = (api.bytes_of(*place, format=one).decode() for one in ("markdown", "html"))
    try:
        guide = str(write_guide_texts(markdown, page, made["tenant"], GUIDE_FOLDER))
    except OSError as error:
        say(f"tenantry: the guide cannot be written to {GUIDE_FOLDER.absolute()}: {error.strerror}", err=True)
        guide = ""
    return {name: guide if name == "guide" else made[name] for name in _MADE}


def _choice(
    variable: str | None, stdin: bool, name: str | None, shared: bool, upstream: str | None
) -> CredentialChoice:
    if [variable is not None, stdin, name is not None].count(True) != 1:
        raise fail(
            "say where the client's Anthropic key comes from, with exactly one of --credential-env VAR, "
            "--credential-stdin, --credential NAME (`--credential sandbox` uses the simulation)",
            USAGE,
        )
    if name is not None:
        if upstream is not None:
            raise fail("a stored credential has its upstream; `credentials move` gives it another", USAGE)
        return CredentialChoice(name=name, shared=shared)
    return CredentialChoice(secret=read_secret(variable), shared=shared, upstream=upstream or UPSTREAM)


def _budgets(month: str | None) -> dict[str, int]:
    try:
        return {} if month is None else {MONTH: read_amount(month)}
    except BadAmount as error:
        raise fail(f"--month: {error}", USAGE) from None


def _as_json(made: Provisioned) -> dict[str, Any]:
    return {
        "tenant": made.slug,
        "tenant_id": made.tenant_id,
        "endpoint": made.endpoint,
        "key": made.key,
        "key_id": made.key_id,
        "guide": str(made.guide),
        "live_check": {"model": made.check.model, "ms": made.check.milliseconds, "simulated": made.check.simulated},
    }
