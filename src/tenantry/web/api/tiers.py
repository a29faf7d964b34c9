"""Tiers and upstreams."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from tenantry.control.views import TierView, UpstreamView, tier_views, upstream_view
from tenantry.domain.roles import Permission
from tenantry.storage.directory import AlreadyThere
from tenantry.web.answers import Refused
from tenantry.web.api.changes import LimitsChange, limits_in
from tenantry.web.api.operations import Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of


@operation("GET", "/tiers", Permission.PLANS_READ)
def list_tiers(call: Call, query: Paged) -> Page[TierView]:
    """List tiers, with every limit and how many tenants are in each."""
    found = tier_views(call.site.directory.list_tiers(), call.site.directory.list_tenants())
    return page_of(call, query, sorted(found, key=lambda one: one.name), lambda one: one.name)


@operation("GET", "/tiers/{name}", Permission.PLANS_READ)
def show_tier(call: Call, name: str) -> TierView:
    """Show one tier."""
    (found,) = tier_views([call.site.directory.get_tier(name)], call.site.directory.list_tenants())
    return found


class NewTier(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    limits: LimitsChange | UnsetType = UNSET


@operation("POST", "/tiers", Permission.LIMITS_CHANGE, of_site=True, status=201, located="/tiers/{name}")
def create_tier(call: Call, body: NewTier) -> TierView:
    """Make a tier; a limit that is not said is as by default."""
    if any(one.name == body.name for one in call.site.directory.list_tiers()):
        raise AlreadyThere(f"there is a tier {body.name!r} already: PATCH changes it")
    call.site.directory.set_tier(body.name, limits_in(body.limits))
    return show_tier.act(call, body.name)


@operation("PATCH", "/tiers/{name}", Permission.LIMITS_CHANGE, of_site=True, represents=show_tier)
def set_tier(call: Call, name: str, body: LimitsChange) -> TierView:
    """Change limits of a tier, for every tenant in it; gateways follow within a second."""
    call.site.directory.get_tier(name)
    call.site.directory.set_tier(name, limits_in(body))
    return show_tier.act(call, name)


@operation("GET", "/upstreams", Permission.SITE_READ)
def list_upstreams(call: Call, query: Paged) -> Page[UpstreamView]:
    """List upstreams, as tenantry.toml declares them."""
    credentials = call.site.directory.list_credentials()
    found = [upstream_view(one, credentials) for one in call.site.directory.list_upstreams()]
    return page_of(call, query, sorted(found, key=lambda one: one.name), lambda one: one.name)


@operation("GET", "/upstreams/{name}", Permission.SITE_READ)
def show_upstream(call: Call, name: str) -> UpstreamView:
    """Show one upstream: address, time limits, capacity, and the credentials that belong to it."""
    found = {one.name: one for one in call.site.directory.list_upstreams()}
    if name not in found:
        raise Refused(404, f"there is no upstream {name!r}; there are: {', '.join(found)}")
    return upstream_view(found[name], call.site.directory.list_credentials())


OPERATIONS: Final = (list_tiers, create_tier, show_tier, set_tier, list_upstreams, show_upstream)
