"""Slots of a client: added, with limits of their own and a first key, and removed. The client's page lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.views import slot_allowance_view
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import KEY_LIMITS, LIMITS, BadLimit, read_limit
from tenantry.domain.roles import Principal
from tenantry.storage.directory import AlreadyThere, DirectoryError, NotInDirectory
from tenantry.storage.records import SlotRecord
from tenantry.web.pages.keys import show_key
from tenantry.web.pages.showing import first_time, new_mark, show, tenant_of
from tenantry.web.pages.terms import as_typed
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of


def ask_new(request: Request, principal: Principal) -> Response:
    return _form(request, principal, None, {})


def _form(
    request: Request, principal: Principal, typed: Mapping[str, str] | None, problems: Mapping[str, str]
) -> Response:
    tenant, site = tenant_of(request), site_of(request)
    stands = tenant.limits.as_json()
    return show(
        request,
        principal,
        "slot_new",
        422 if problems else 200,
        tenant=tenant,
        allowance=slot_allowance_view(site.directory, tenant.slug),
        limits={name: LIMITS[name] for name in KEY_LIMITS},
        of_tenant={name: as_typed(stands[name]) for name in KEY_LIMITS},
        typed=typed or {"key": "yes"},
        problems=problems,
        once=new_mark(),
    )


def add(request: Request, principal: Principal) -> Response:
    tenant, form = tenant_of(request), posted(request)
    typed = {name: form.get(name) for name in ("name", "key", *KEY_LIMITS)}
    limits, problems = _read_new(typed)
    if problems:
        return _form(request, principal, typed, problems)
    slug, name = tenant.slug, typed["name"]
    if not first_time(request, form.get("once")):
        return see_other(f"/tenants/{slug}#slots", "That form had been sent already: a key was shown then, if at all.")
    try:
        with acting(request, principal).transaction() as directory:
            directory.add_slot(slug, name, limits)
            key = directory.issue_key(slug, name, slot=name) if typed["key"] else None
    except AlreadyThere:
        return _form(request, principal, typed, {"name": f"It has a slot {name} already."})
    except DirectoryError as error:
        return _form(request, principal, typed, {"form": str(error)})
    if key is None:
        return see_other(f"/tenants/{slug}#slots", f"Slot {name} is there. It has no key yet.")
    return show_key(request, principal, key, f"The first key of slot {name} of {slug}", "", slot=name)


def _read_new(typed: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Those that were typed, and what is wrong with them and the name, by field."""
    limits: dict[str, Any] = {}
    problems: dict[str, str] = {}
    if not is_slug(typed["name"]):
        problems["name"] = "A name of a-z, 0-9 and inner hyphens, such as writer."
    for name in KEY_LIMITS:
        try:
            if typed[name]:
                limits[name] = read_limit(name, typed[name])
        except BadLimit as error:
            problems[name] = str(error)
    return limits, problems


def ask_remove(request: Request, principal: Principal) -> Response:
    tenant, slot = tenant_of(request), _slot_of(request)
    keys = "its key is" if slot.keys == 1 else f"its {slot.keys} keys are"
    words = f"Whatever uses slot {slot.name} of {tenant.slug} is refused from within a second on, and {keys} revoked."
    return show(
        request,
        principal,
        "confirm",
        title=f"Remove slot {slot.name}?",
        words=f"{words} It cannot be taken back. What was used stays known as the slot's.",
        action=f"/tenants/{tenant.slug}/slots/{slot.name}/remove",
        label="Remove",
        back=f"/tenants/{tenant.slug}#slots",
    )


def remove(request: Request, principal: Principal) -> Response:
    tenant, slot = tenant_of(request), _slot_of(request)
    try:
        revoked = acting(request, principal).remove_slot(tenant.slug, slot.name)
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None
    return see_other(f"/tenants/{tenant.slug}#slots", f"Slot {slot.name} is removed; keys revoked: {revoked}.")


def _slot_of(request: Request) -> SlotRecord:
    """The slot that the path names, of the tenant that it names. Raises: HTTPException 404."""
    slug, name = str(request.path_params["slug"]), str(request.path_params["slot"])
    for one in site_of(request).directory.list_slots(slug):
        if one.name == name:
            return one
    raise HTTPException(404, f"{slug} has no such slot")
