"""Slots of a tenant: added, listed, limited, removed."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from tenantry.control.views import SlotAllowanceView, SlotView, View, slot_allowance_view, slot_view
from tenantry.domain.limits import find_limit
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.web.answers import Refused
from tenantry.web.api.changes import KeyLimits, Name, limits_in
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of


@operation("GET", "/slots", Permission.TENANTS_READ)
def list_all_slots(call: Call, query: Paged) -> Page[SlotView]:
    """List the slots of every tenant that the token may see, by tenant and name."""
    return _page(call, query, None)


@operation("GET", "/tenants/{slug}/slots", Permission.TENANTS_READ)
def list_slots(call: Call, slug: str, query: Paged) -> Page[SlotView]:
    """List a tenant's slots with their endpoints, working keys and limits."""
    return _page(call, query, slug)


def _page(call: Call, query: Paged, slug: str | None) -> Page[SlotView]:
    found = [
        slot_view(call.site.settings, row)
        for row in call.site.directory.list_slots(slug)
        if call.principal.may(Permission.TENANTS_READ, row.slug)
    ]
    return page_of(call, query, found, lambda one: (one.tenant, one.slot))


@operation("GET", "/tenants/{slug}/slot-allowance", Permission.TENANTS_READ)
def show_slot_allowance(call: Call, slug: str) -> SlotAllowanceView:
    """Show how many slots a tenant may have, and has."""
    return slot_allowance_view(call.site.directory, slug)


@operation("GET", "/tenants/{slug}/slots/{slot}", Permission.TENANTS_READ)
def show_slot(call: Call, slug: str, slot: str) -> SlotView:
    """Show one slot."""
    for row in call.site.directory.list_slots(slug):
        if row.name == slot:
            return slot_view(call.site.settings, row)
    raise Refused(404, f"{slug} has no slot {slot[:64]!r}")


class NewSlot(Struct):
    """`key`: issue its first key, too."""

    name: Name
    limits: KeyLimits | UnsetType = UNSET
    key: bool = True


@value
class NewSlotView(View):
    """`key` is shown only now; null where none was wanted."""

    tenant: str
    slot: str
    endpoint: str
    key_id: str | None
    key: str | None


@operation(
    "POST",
    "/tenants/{slug}/slots",
    Permission.KEYS_CHANGE,
    status=201,
    located="/tenants/{tenant}/slots/{slot}",
)
def add_slot(call: Call, slug: str, body: NewSlot) -> NewSlotView:
    """Add a slot with its first key; with limits of its own within the tenant's."""
    directory = call.site.directory
    made = slot_view(call.site.settings, directory.add_slot(slug, body.name, limits_in(body.limits)))
    key = directory.issue_key(slug, body.name, slot=body.name) if body.key else None
    return NewSlotView(slug, made.slot, made.endpoint, key and key.key_id, key and key.text)


class SlotPatch(Struct):
    """`inherit`: limits that go back to the tenant's."""

    limits: KeyLimits | UnsetType = UNSET
    inherit: Annotated[list[str], Meta(max_length=100)] = []


@operation("PATCH", "/tenants/{slug}/slots/{slot}", Permission.KEYS_CHANGE, represents=show_slot)
def set_slot(call: Call, slug: str, slot: str, body: SlotPatch) -> SlotView:
    """Change limits that all keys of a slot share; gateways follow within a second."""
    limits, inherit = limits_in(body.limits), [find_limit(one) for one in body.inherit]
    both = [name for name in inherit if name in limits]
    if both:
        raise Refused(422, f"{both[0]} is set and inherited at once: choose one")
    return slot_view(call.site.settings, call.site.directory.set_slot(slug, slot, limits, inherit))


@value
class RemovedSlotView(View):
    """`keys_revoked`: how many."""

    tenant: str
    slot: str
    keys_revoked: int


@operation("DELETE", "/tenants/{slug}/slots/{slot}", Permission.KEYS_CHANGE, represents=show_slot)
def remove_slot(call: Call, slug: str, slot: str) -> RemovedSlotView:
    """Take a slot away and revoke its keys, from within a second on."""
    return RemovedSlotView(slug, slot, call.site.directory.remove_slot(slug, slot))


OPERATIONS: Final = (
    list_all_slots,
    list_slots,
    show_slot_allowance,
    add_slot,
    show_slot,
    set_slot,
    remove_slot,
)
