"""Gateway keys: issued, listed, limited, rotated, revoked."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from tenantry.control.views import KeyView, View, key_view
from tenantry.domain.printable import stamp
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.storage.records import KeyRecord
from tenantry.web.answers import Refused
from tenantry.web.api.changes import ExpiresDays, Grace, KeyLimits, Name, ends_after, limits_in, stops_after
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of


class KeysQuery(Paged):
    status: Literal["active", "expired", "revoked"] | None = None
    key_id: Name | None = None


@operation("GET", "/keys", Permission.TENANTS_READ)
def list_all_keys(call: Call, query: KeysQuery) -> Page[KeyView]:
    """List the keys of every tenant that the token may see, from old to new, tenant by tenant."""
    return _page(call, query, None)


@operation("GET", "/tenants/{slug}/keys", Permission.TENANTS_READ)
def list_keys(call: Call, slug: str, query: KeysQuery) -> Page[KeyView]:
    """List a tenant's keys: last characters, limits, and when and by whom they were last used."""
    return _page(call, query, slug)


def _page(call: Call, query: KeysQuery, slug: str | None) -> Page[KeyView]:
    found = [
        row
        for row in call.site.directory.list_keys(slug)
        if call.principal.may(Permission.TENANTS_READ, row.slug)
        and query.key_id in (None, row.key_id)
        and query.status in (None, key_view(row).status)
    ]
    page: Page[KeyRecord] = page_of(call, query, found, lambda one: (one.slug, one.created_at.isoformat(), one.key_id))
    return Page([key_view(one) for one in page.data], page.next)


@operation("GET", "/tenants/{slug}/keys/{key_id}", Permission.TENANTS_READ)
def show_key(call: Call, slug: str, key_id: str) -> KeyView:
    """Show one key. Its text was shown when it was made, and is kept nowhere."""
    return key_view(_key(call, slug, key_id))


class NewKey(Struct):
    label: Annotated[str, Meta(max_length=200)] = ""
    expires_days: ExpiresDays | None = None
    limits: KeyLimits | UnsetType = UNSET
    slot: Annotated[str, Meta(max_length=63, description="For this slot of the tenant alone.")] = ""


@value
class IssuedView(View):
    """`key` is shown only now. `replaces`: the id of one that stops at `old_stops_at`."""

    tenant: str
    key_id: str
    key: str
    expires_at: str | None
    replaces: str | None = None
    old_stops_at: str | None = None


@operation(
    "POST",
    "/tenants/{slug}/keys",
    Permission.KEYS_CHANGE,
    status=201,
    located="/tenants/{tenant}/keys/{key_id}",
)
def issue_key(call: Call, slug: str, body: NewKey) -> IssuedView:
    """Issue a gateway key, with limits of its own within its tenant's."""
    ends_at = ends_after(body.expires_days)
    made = call.site.directory.issue_key(slug, body.label, ends_at, limits_in(body.limits), slot=body.slot)
    return IssuedView(slug, made.key_id, made.text, stamp(ends_at) or None)


class KeyPatch(Struct):
    """`limits` are all that are the key's own then. `expires_days` null: it has no end."""

    limits: KeyLimits | UnsetType = UNSET
    expires_days: ExpiresDays | UnsetType | None = UNSET


@operation("PATCH", "/tenants/{slug}/keys/{key_id}", Permission.KEYS_CHANGE, represents=show_key)
def set_key(call: Call, slug: str, key_id: str, body: KeyPatch) -> KeyView:
    """Change a key's own limits, or when it stops."""
    row = _key(call, slug, key_id)
    limits = row.own if body.limits is UNSET else limits_in(body.limits)
    ends_at = row.expires_at if body.expires_days is UNSET else ends_after(body.expires_days)
    call.site.directory.set_key(key_id, ends_at, row.rotate_days, limits)
    return key_view(_key(call, slug, key_id))


class KeyRotation(Struct):
    grace: Grace = "24h"


@operation(
    "POST",
    "/tenants/{slug}/keys/{key_id}/rotate",
    Permission.KEYS_CHANGE,
    status=201,
    located="/tenants/{tenant}/keys/{key_id}",
    represents=show_key,
)
def rotate_key(call: Call, slug: str, key_id: str, body: KeyRotation) -> IssuedView:
    """Put a new key in the place of an old one; both work for the time of grace."""
    _key(call, slug, key_id)
    made = call.site.directory.rotate_key(key_id, stops_after(body.grace))
    old, new = _key(call, slug, key_id), _key(call, slug, made.key_id)
    ends_at = stamp(new.expires_at) or None
    return IssuedView(slug, made.key_id, made.text, ends_at, key_id, stamp(old.expires_at))


@operation("POST", "/tenants/{slug}/keys/{key_id}/revoke", Permission.KEYS_CHANGE, represents=show_key)
def revoke_key(call: Call, slug: str, key_id: str) -> KeyView:
    """Stop a key for good, from within a second on."""
    _key(call, slug, key_id)
    call.site.directory.revoke_key(key_id)
    return key_view(_key(call, slug, key_id))


def _key(call: Call, slug: str, key_id: str) -> KeyRecord:
    """The key, where it is this tenant's. Raises: NotInDirectory, Refused: 404."""
    for row in call.site.directory.list_keys(slug):
        if row.key_id == key_id:
            return row
    raise Refused(404, f"{slug} has no key {key_id!r}")


OPERATIONS: Final = (list_all_keys, list_keys, issue_key, show_key, set_key, rotate_key, revoke_key)
