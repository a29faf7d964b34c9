"""Upstream credentials: who is served with which, checked, added, replaced. None is ever shown again."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.credential_check import Verdict, check_credential
from tenantry.control.live_everywhere import health_everywhere
from tenantry.control.views import CredentialView, credential_views
from tenantry.domain.roles import Permission, Principal
from tenantry.ledger.live import dead_credentials
from tenantry.storage.directory import DirectoryError, NotInDirectory
from tenantry.storage.vault import SecretUnreadable
from tenantry.web.pages.showing import show
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting, require_recent
from tenantry.web.tokens import site_of


def list_credentials(request: Request, principal: Principal) -> Response:
    return show(
        request,
        principal,
        "credentials",
        credentials=_views(request),
        may_change=principal.may(Permission.CREDENTIALS_CHANGE),
    )


def _views(request: Request) -> list[CredentialView]:
    site = site_of(request)
    dead = dead_credentials(health_everywhere(site.engine, site.settings.journal_dir))
    return credential_views(site.directory.list_credentials(), site.directory.list_tenants(), dead)


def check(request: Request, principal: Principal) -> Response:
    name, directory = str(request.path_params["name"]), acting(request, principal)
    try:
        credential = directory.open_credential(name)
        done = check_credential(credential)
        if done.verdict is Verdict.WORKS:
            directory.credential_works(name)
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None
    except (DirectoryError, SecretUnreadable) as error:
        raise HTTPException(409, str(error)) from None
    if done.verdict is Verdict.WORKS:
        words = f"{name} works at {credential.upstream.name}: {done.found}, {done.milliseconds} ms."
    else:
        words = f"{name}: {done.verdict} at {credential.upstream.name}: {done.found}"
    return see_other("/credentials", words)


def ask_new(request: Request, principal: Principal) -> Response:
    require_recent(request)
    return _form(request, principal, {"name": "", "upstream": "anthropic", "workspace": "", "shared": ""}, {})


def _form(request: Request, principal: Principal, typed: Mapping[str, str], problems: Mapping[str, str]) -> Response:
    return show(
        request,
        principal,
        "credential_new",
        422 if problems else 200,
        typed=typed,
        problems=problems,
        upstreams=[one.name for one in site_of(request).directory.list_upstreams()],
    )


def add(request: Request, principal: Principal) -> Response:
    form = posted(request)
    typed = {name: form.get(name) for name in ("name", "upstream", "workspace", "shared")}
    secret = form.get("secret")
    problems: dict[str, str] = {}
    if not typed["name"]:
        problems["name"] = "A name by which you know it."
    if not secret:
        problems["secret"] = "The key, which begins with sk-ant-."  # noqa: S105 -- words
    if not problems:
        try:
            acting(request, principal).add_credential(
                typed["name"],
                secret,
                typed["upstream"],
                shared=bool(typed["shared"]),
                workspace_id=typed["workspace"] or None,
            )
        except DirectoryError as error:
            problems["form"] = str(error)
    if problems:
        return _form(request, principal, typed, problems)
    return see_other("/credentials", f"Stored as {typed['name']}. Check it: that costs nothing.")


def ask_replace(request: Request, principal: Principal) -> Response:
    require_recent(request)
    return _replacing(request, principal, {})


def _replacing(request: Request, principal: Principal, problems: Mapping[str, str]) -> Response:
    name = str(request.path_params["name"])
    found = next((one for one in _views(request) if one.name == name), None)
    if found is None:
        raise HTTPException(404, f"there is no credential {name!r}")
    return show(request, principal, "credential_replace", 422 if problems else 200, credential=found, problems=problems)


def replace(request: Request, principal: Principal) -> Response:
    name, secret = str(request.path_params["name"]), posted(request).get("secret")
    if not secret:
        return _replacing(request, principal, {"secret": "The new key."})
    try:
        acting(request, principal).replace_secret(name, secret)
    except DirectoryError as error:
        return _replacing(request, principal, {"form": str(error)})
    return see_other("/credentials", f"{name} has a new secret; gateways use it within a second. Check it.")
