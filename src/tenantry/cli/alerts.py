"""alerts list | test | thresholds, alerts targets list | add | remove."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from tenantry.cli.context import USAGE, confirm, fail, opened
from tenantry.cli.options import AsJson, Slug, Yes
from tenantry.cli.output import print_json, print_table, say
from tenantry.cli.remote.api import Api
from tenantry.cli.secrets import read_secret
from tenantry.control.site import Site
from tenantry.control.views import alert_target_view, alert_view
from tenantry.domain.alerts import BadThresholds, read_thresholds, with_classic
from tenantry.ledger.outbox import Outbox
from tenantry.storage.directory.alert_targets import APPRISE, WEBHOOK

app = typer.Typer(help="What was raised, where it goes, and at which percents.", no_args_is_help=True)
targets = typer.Typer(
    help="Where alerts go. A target's URL is a secret and is never shown again.", no_args_is_help=True
)
app.add_typer(targets, name="targets")

DEFAULT = "default"
OnlyTenant = Annotated[str | None, typer.Option("--tenant", metavar="SLUG", help="Only this tenant's.")]


@app.command("list")
def list_alerts(
    tenant: OnlyTenant = None,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="How many, newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Alerts that were raised, newest first, and how far their deliveries are."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("alerts", tenant=tenant, most=most)
        else:
            tenant_id = at.directory.get_tenant(tenant).tenant_id if tenant is not None else None
            rows = [alert_view(row).as_json() for row in Outbox(at.engine).list_alerts(tenant_id, most)]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["alert", "raised_at", "kind", "tenant", "message", "delivered"],
        [
            [row["alert_id"], row["raised_at"], row["kind"], row["tenant"] or "", row["message"], _progress(row)]
            for row in rows
        ],
    )


@app.command("test")
def send_test(
    target: Annotated[str | None, typer.Argument(help="Only this one; default: every target.")] = None,
) -> None:
    """Send a test message now, to one target or to all; exit 1 when one does not take it."""
    with opened() as at:
        names = [target] if target is not None else _names(at)
        if not names:
            raise fail("there is no target; `tenantry alerts targets add` makes one")
        failures = 0
        for name in names:
            error = at.write("POST", "alert-targets", name, "test")["error"] if isinstance(at, Api) else _try(at, name)
            failures += error is not None
            say(f"{name}: {error or 'taken'}")
    if failures:
        raise fail(f"{failures} of {len(names)} did not take the test message")


def _names(at: Site | Api) -> list[str]:
    if isinstance(at, Api):
        return [row["name"] for row in at.items("alert-targets")]
    return [row.name for row in at.directory.list_alert_targets()]


def _try(site: Site, name: str) -> str | None:
    from tenantry.control.alerting import send, trial_message

    target, now_us = site.directory.open_alert_target(name), time.time_ns() // 1000
    return send(target, trial_message(now_us), now_us)


@app.command()
def thresholds(
    slug: Slug,
    percents: Annotated[
        str | None, typer.Argument(help="Such as 70,90,100; `none`; `default`. Left out: show them.")
    ] = None,
) -> None:
    """The percents of its budget at which a tenant raises an alert, each once in a period."""
    wanted: tuple[int, ...] | None = None
    if percents is not None and percents.strip() != DEFAULT:
        try:
            wanted = read_thresholds(percents)
        except BadThresholds as error:
            raise fail(str(error), USAGE) from None
    with opened() as at:
        if isinstance(at, Api):
            path = ("tenants", slug, "thresholds")
            told = at.get(*path) if percents is None else at.write("PUT", *path, body={"percents": wanted})
            found, is_default = told["percents"], told["is_default"]
        else:
            if percents is not None:
                at.directory.set_thresholds(slug, wanted)
            own = at.directory.get_thresholds(slug)
            found = own if own is not None else with_classic(at.settings.usage_alert_threshold_percent)
            is_default = own is None
    words = ", ".join(f"{percent} %" for percent in found) or "no thresholds"
    say(f"{slug}: {words}" + (" (default)" if is_default else ""))


@targets.command("list")
def list_targets(tenant: OnlyTenant = None, as_json: AsJson = False) -> None:
    """Targets by name, with a hint of their URL."""
    with opened() as at:
        if isinstance(at, Api):
            rows = at.items("alert-targets", tenant=tenant)
        else:
            rows = [alert_target_view(row).as_json() for row in at.directory.list_alert_targets(tenant)]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["name", "kind", "url", "tenant", "kinds", "created_at"],
        [
            [row["name"], row["kind"], row["url"], row["tenant"] or "", ",".join(row["kinds"]), row["created_at"]]
            for row in rows
        ],
    )


@targets.command("add")
def add_target(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    apprise_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="An Apprise URL, from this environment variable.")
    ] = None,
    apprise_stdin: Annotated[
        bool, typer.Option("--apprise-stdin", help="An Apprise URL, from standard input.")
    ] = False,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="A URL that takes signed JSON; https, but on loopback.")
    ] = None,
    webhook_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="The same, from this environment variable.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="SLUG", help="Send it this tenant's alerts and no other: for its own contact.")
    ] = None,
    kinds: Annotated[str, typer.Option(help="Only these kinds, with commas; default: all.")] = "",
) -> None:
    """Add a target: any service that Apprise knows (Slack, e-mail, Teams...), or a signed webhook."""
    sources = [apprise_env is not None, apprise_stdin, webhook is not None, webhook_env is not None]
    if sources.count(True) != 1:
        raise fail(
            "say where alerts go, with exactly one of --apprise-env VAR, --apprise-stdin, --webhook URL, "
            "--webhook-env VAR",
            USAGE,
        )
    kind = APPRISE if apprise_env is not None or apprise_stdin else WEBHOOK
    url = webhook if webhook is not None else read_secret(apprise_env or webhook_env)
    from tenantry.control.apprise_urls import is_apprise_url

    if kind == APPRISE and not is_apprise_url(url):
        raise fail("Apprise does not know such a URL, or it is not whole", USAGE)
    wanted = [one.strip() for one in kinds.split(",") if one.strip()]
    with opened() as at:
        if isinstance(at, Api):
            body = {"name": name, "kind": kind, "url": url, "tenant": tenant, "kinds": wanted}
            secret = at.write("POST", "alert-targets", body=body)["signing_secret"]
        else:
            if any(row.name == name for row in at.directory.list_alert_targets()):
                raise fail(f"there is a target {name!r} already; remove it first, or choose another name")
            secret = at.directory.set_alert_target(name, kind, url, tenant, wanted)
    say(f"Added {name}. Try it: tenantry alerts test {name}")
    if secret is not None:
        say(f"Signing secret (shown only now): {secret}")


@targets.command("remove")
def remove_target(name: Annotated[str, typer.Argument(help="The target's name.")], yes: Yes = False) -> None:
    """Stop sending alerts there; what still waits for it is dropped."""
    question = f"No alert will go to {name} any more. Remove it?"
    with opened() as at:
        if isinstance(at, Api):
            if name in _names(at):  # control says in its words that it is not there
                confirm(question, yes)
            at.write("DELETE", "alert-targets", name)
        else:
            at.directory.require_alert_target(name)
            confirm(question, yes)
            at.directory.remove_alert_target(name)
    say(f"{name} is removed.")


def _progress(row: dict[str, Any]) -> str:
    counts = {word: count for word, count in row["deliveries"].items() if count}
    return ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in counts.items()) or "no target"
