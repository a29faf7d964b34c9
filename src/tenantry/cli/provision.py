"""provision: from a name to a working client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.bulk import provision_from
from tenantry.cli.context import USAGE, fail, opened_site
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, say
from tenantry.cli.secrets import read_secret
from tenantry.control.provisioning import CredentialChoice, Provisioned, Terms, provision
from tenantry.control.site import UPSTREAM
from tenantry.domain.money import BadAmount, read_amount
from tenantry.domain.periods import MONTH


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
        raise provision_from(source, keys_out or source.with_suffix(".keys.csv"), Path("clients"), as_json)
    if name is None or keys_out is not None:
        raise fail("say the client's name, or --from FILE (with which --keys-out goes)", USAGE)
    terms = Terms(contact, _budgets(month), model)
    choice = _choice(credential_env, credential_stdin, credential, shared, upstream)
    with opened_site() as site:
        made = provision(
            site, name, tier, choice, Path("clients"), slug, lambda step: say(f"  {step}", err=True), terms
        )
    if as_json:
        print_json(_as_json(made))
        return
    say(f"Endpoint  {made.endpoint}")
    say(f"Key       {made.key}")
    say("          (shown only now)")
    say(f"Guide     {made.guide}")
    if made.check.simulated:
        say("SIMULATION: this client's upstream is the sandbox; its answers are made up.")


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


def _as_json(made: Provisioned) -> dict[str, object]:
    return {
        "tenant": made.slug,
        "tenant_id": made.tenant_id,
        "endpoint": made.endpoint,
        "key": made.key,
        "key_id": made.key_id,
        "guide": str(made.guide),
        "live_check": {"model": made.check.model, "ms": made.check.milliseconds, "simulated": made.check.simulated},
    }
