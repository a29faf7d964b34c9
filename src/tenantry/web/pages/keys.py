"""Keys of a client: issued, rotated, revoked. A new key is shown once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.client_guide import guide_facts
from tenantry.control.site import slot_endpoint_of
from tenantry.domain.durations import BadDuration, read_duration
from tenantry.domain.printable import stamp
from tenantry.domain.roles import Principal
from tenantry.storage.directory import DirectoryError, IssuedKey
from tenantry.storage.records import KeyRecord, TenantRecord
from tenantry.web.pages.showing import first_time, new_mark, query, show, tenant_of
from tenantry.web.pages.snippets import snippets
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

EXPIRY_DAYS_MAX: Final = 3650
LABEL_CHARS_MAX: Final = 128
GRACES: Final = ("24h", "7d", "1h", "0")


def ask_new(request: Request, principal: Principal) -> Response:
    return _form(request, principal, {"slot": query(request, "slot")["slot"]}, {})


def issue(request: Request, principal: Principal) -> Response:
    tenant, form = tenant_of(request), posted(request)
    typed = {name: form.get(name) for name in ("label", "expires_days", "slot")}
    problems, expires_at = _read_new(typed)
    if problems:
        return _form(request, principal, typed, problems)
    if not first_time(request, form.get("once")):
        return _shown_already(tenant)
    try:
        key = acting(request, principal).issue_key(tenant.slug, typed["label"], expires_at, slot=typed["slot"])
    except DirectoryError as error:
        return _form(request, principal, typed, {"form": str(error)})
    title = f"The new key{_for(typed['label'])} of {tenant.slug}"
    return show_key(request, principal, key, title, "", slot=typed["slot"])


def _read_new(typed: Mapping[str, str]) -> tuple[dict[str, str], datetime | None]:
    problems: dict[str, str] = {}
    days = typed["expires_days"]
    if len(typed["label"]) > LABEL_CHARS_MAX or not typed["label"].isprintable():
        problems["label"] = f"One line of {LABEL_CHARS_MAX} characters at most."
    if not days:
        return problems, None
    if not (days.isascii() and days.isdigit() and 1 <= int(days[:9]) <= EXPIRY_DAYS_MAX):
        return problems | {"expires_days": f"A number of days from 1 to {EXPIRY_DAYS_MAX}, or nothing."}, None
    return problems, datetime.now(UTC) + timedelta(days=int(days))


def _form(request: Request, principal: Principal, typed: Mapping[str, str], problems: Mapping[str, str]) -> Response:
    tenant = tenant_of(request)
    return show(
        request,
        principal,
        "key_new",
        422 if problems else 200,
        tenant=tenant,
        slots=[one.name for one in site_of(request).directory.list_slots(tenant.slug)],
        typed=typed,
        problems=problems,
        once=new_mark(),
    )


def ask_rotate(request: Request, principal: Principal) -> Response:
    return _rotation(request, principal, GRACES[0], {})


def _rotation(request: Request, principal: Principal, grace: str, problems: Mapping[str, str]) -> Response:
    return show(
        request,
        principal,
        "key_rotate",
        422 if problems else 200,
        tenant=tenant_of(request),
        key=_key_of(request),
        grace=grace,
        problems=problems,
        once=new_mark(),
    )


def rotate(request: Request, principal: Principal) -> Response:
    tenant, key, form = tenant_of(request), _key_of(request), posted(request)
    grace = form.get("grace")
    try:
        stops_at = datetime.now(UTC) + read_duration(grace)
    except BadDuration as error:
        return _rotation(request, principal, grace, {"grace": str(error)})
    if not first_time(request, form.get("once")):
        return _shown_already(tenant)
    directory = acting(request, principal)
    try:
        new = directory.rotate_key(key.key_id, stops_at)
    except DirectoryError as error:
        return _rotation(request, principal, grace, {"form": str(error)})
    old = next(one for one in directory.list_keys(tenant.slug) if one.key_id == key.key_id)
    words = f"The old one goes on until {stamp(old.expires_at)}, then it stops by itself."
    title = f"The key{_for(key.label)} of {tenant.slug} that replaces"
    return show_key(request, principal, new, title, words, slot=key.slot)


def ask_revoke(request: Request, principal: Principal) -> Response:
    tenant, key = tenant_of(request), _key_of(request)
    named = key.label or key.key_id
    return show(
        request,
        principal,
        "confirm",
        title=f"Revoke {named}?",
        words=f"Whatever uses the key that ends in {key.hint} is refused from within a second on, and streams that "
        "run end within seconds. It cannot be taken back. To change it without a break, rotate it instead.",
        action=f"/tenants/{tenant.slug}/keys/{key.key_id}/revoke",
        label="Revoke",
        back=f"/tenants/{tenant.slug}#keys",
    )


def revoke(request: Request, principal: Principal) -> Response:
    tenant, key = tenant_of(request), _key_of(request)
    try:
        acting(request, principal).revoke_key(key.key_id)
    except DirectoryError as error:
        raise HTTPException(409, str(error)) from None
    return see_other(f"/tenants/{tenant.slug}#keys", f"{key.label or key.key_id} is revoked.")


def _key_of(request: Request) -> KeyRecord:
    """The key that the path names, of the tenant that it names. Raises: HTTPException 404."""
    slug, key_id = str(request.path_params["slug"]), str(request.path_params["key_id"])
    for one in site_of(request).directory.list_keys(slug):
        if one.key_id == key_id:
            return one
    raise HTTPException(404, f"{slug} has no such key")


def _for(label: str) -> str:
    return f" “{label}”" if label else ""


def _shown_already(tenant: TenantRecord) -> Response:
    words = (
        "That form had been sent already: its key was shown then, and is not shown again. Issue another if it is lost."
    )
    return see_other(f"/tenants/{tenant.slug}#keys", words)


def show_key(
    request: Request, principal: Principal, key: IssuedKey, title: str, words: str, *, slot: str = ""
) -> Response:
    """A new key, this once, at the endpoint of its slot if it has one."""
    tenant, site = tenant_of(request), site_of(request)
    facts = guide_facts(site, tenant.slug)
    endpoint = slot_endpoint_of(site.settings, tenant.slug, slot) if slot else facts.endpoint
    return show(
        request,
        principal,
        "key_shown",
        tenant=tenant,
        title=title,
        words=words,
        key=key.text,
        endpoint=endpoint,
        snippets=snippets(endpoint, key.text, facts.model),
        check=None,
    )
