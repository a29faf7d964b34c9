"""A new client, from a name to its first answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.provisioning import CredentialChoice, Terms, provision
from tenantry.control.refusals import ProvisionFailed
from tenantry.domain.keys import BadName, slugify
from tenantry.domain.money import BadAmount, read_amount
from tenantry.domain.periods import MONTH
from tenantry.domain.roles import Permission, Principal
from tenantry.web.pages.showing import first_time, new_mark, require_whole_site, show
from tenantry.web.pages.snippets import snippets
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting, require_recent
from tenantry.web.tokens import site_of

_FIELDS: Final = ("name", "slug", "tier", "credential", "upstream", "shared", "contact", "month")
NEW_CREDENTIAL: Final = "new"
GUIDES_FOLDER: Final = "clients"


def ask_provision(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    require_recent(request)
    return _form(request, principal, {**dict.fromkeys(_FIELDS, ""), "tier": "standard"}, {})


def _form(request: Request, principal: Principal, typed: Mapping[str, str], problems: Mapping[str, str]) -> Response:
    directory = site_of(request).directory
    credentials = directory.list_credentials()
    return show(
        request,
        principal,
        "provision",
        422 if problems else 200,
        typed=typed,
        problems=problems,
        tiers=[one.name for one in directory.list_tiers()],
        credentials=[one.name for one in credentials],
        shared={one.name for one in credentials if one.shared},
        upstreams=[one.name for one in directory.list_upstreams()],
        new=NEW_CREDENTIAL,
        may_store=principal.may(Permission.CREDENTIALS_CHANGE),
        once=new_mark(),
    )


def do_provision(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    form = posted(request)
    typed = {name: form.get(name) for name in _FIELDS}
    secret = form.get("secret")
    problems = _problems_of(typed, secret)
    nanos = 0
    try:
        nanos = read_amount(typed["month"].lstrip("$")) if typed["month"] else 0
    except BadAmount as error:
        problems["month"] = str(error)
    is_new = typed["credential"] == NEW_CREDENTIAL
    if is_new and not principal.may(Permission.CREDENTIALS_CHANGE):
        problems["credential"] = "Choose one that is stored."
    if problems:
        return _form(request, principal, typed, problems)
    if not first_time(request, form.get("once")):
        words = "That form had been sent already. A key is shown once; issue another on the client's page."
        return see_other("/tenants", words)
    site = replace(site_of(request), directory=acting(request, principal))
    choice = (
        CredentialChoice(secret=secret, shared=bool(typed["shared"]), upstream=typed["upstream"])
        if is_new
        else CredentialChoice(name=typed["credential"], shared=bool(typed["shared"]))
    )
    terms = Terms(typed["contact"] or None, {MONTH: nanos} if nanos else {})
    folder = site.settings.data_dir / GUIDES_FOLDER
    try:
        made = provision(site, typed["name"], typed["tier"], choice, folder, typed["slug"] or None, terms=terms)
    except ProvisionFailed as error:
        return _form(request, principal, typed, {"form": str(error)})
    return show(
        request,
        principal,
        "key_shown",
        tenant=site.directory.get_tenant(made.slug),
        title=f"{typed['name']} can call",
        words="",
        key=made.key,
        endpoint=made.endpoint,
        snippets=snippets(made.endpoint, made.key, made.check.model),
        check=made.check,
    )


def _problems_of(typed: Mapping[str, str], secret: str) -> dict[str, str]:
    problems: dict[str, str] = {}
    if not typed["name"] or not typed["name"].isprintable():
        problems["name"] = "The client's name, such as Acme GmbH."
    elif not typed["slug"]:
        try:
            slugify(typed["name"])
        except BadName as error:
            problems["slug"] = f"{error}. Choose a public id yourself."
    if not typed["credential"]:
        problems["credential"] = "Say what the client is served with."
    if typed["credential"] == NEW_CREDENTIAL and not secret:
        problems["secret"] = "The client's Anthropic key, which begins with sk-ant-."  # noqa: S105 -- words
    return problems
