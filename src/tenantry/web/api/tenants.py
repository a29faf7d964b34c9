"""Tenants: listed, shown, made, changed, switched off and on, deleted; and what their clients are told."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from tenantry.control.client_guide import fair_use, guide_texts
from tenantry.control.host_names import read_host, why_not_usable
from tenantry.control.offboarding import delete_tenant
from tenantry.control.provisioning import CredentialChoice, Terms, provision
from tenantry.control.site import UPSTREAM, Site
from tenantry.control.tenant_detail import TenantDetail, TenantNow, tenant_detail, tenant_now
from tenantry.control.views import TenantView, View, tenant_view
from tenantry.domain.directory import TenantStatus
from tenantry.domain.limits import find_limit
from tenantry.domain.money import read_amount
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.storage.directory.tenants import NewTenant, TenantChange
from tenantry.web.answers import Refused
from tenantry.web.api.changes import LimitsChange, Name, Secret, Usd, limits_in
from tenantry.web.api.operations import Blob, Call, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of

Slug = Annotated[str, Meta(min_length=1, max_length=63, pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]


class TenantsQuery(Paged):
    status: Literal["active", "disabled"] | None = None
    tier: Name | None = None


@operation("GET", "/tenants", Permission.TENANTS_READ, audited="tenants")
def list_tenants(call: Call, query: TenantsQuery) -> Page[TenantView]:
    """List tenants by slug, those that the token may see."""
    found = [
        tenant_view(call.site.settings, row)
        for row in call.site.directory.list_tenants()
        if call.principal.may(Permission.TENANTS_READ, row.slug)
        and query.status in (None, row.status.value)
        and query.tier in (None, row.tier)
    ]
    return page_of(call, query, found, lambda one: one.slug)


@operation("GET", "/tenants/{slug}", Permission.TENANTS_READ, audited="tenant")
def show_tenant(call: Call, slug: str) -> TenantDetail:
    """Show a tenant's settings, and of each limit whether it is its own or its tier's."""
    return tenant_detail(call.site, slug)


@operation("GET", "/tenants/{slug}/live", Permission.TENANTS_READ, audited="tenant")
def show_tenant_now(call: Call, slug: str) -> TenantNow:
    """Show what a tenant uses now, what its upstream announces, and why it was refused."""
    return tenant_now(call.site, slug)


class NewTenantBody(Struct):
    slug: Slug
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    tier: Name = "standard"
    limits: LimitsChange | UnsetType = UNSET
    contact: Annotated[str, Meta(max_length=300)] | None = None


@operation("POST", "/tenants", Permission.TENANTS_CHANGE, of_site=True, status=201, located="/tenants/{slug}")
def create_tenant(call: Call, body: NewTenantBody) -> TenantDetail:
    """Make a tenant without credential and key; `POST /provisions` makes one that works at once."""
    change = TenantChange(limits=limits_in(body.limits), contact=body.contact or None)
    call.site.directory.create_tenants([NewTenant(body.slug, body.name, body.tier, change)])
    return tenant_detail(call.site, body.slug)


class TenantPatch(Struct):
    """`inherit`: limits that go back to the tier's. A text of null takes it away. `hosts` are all that it has then."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    tier: Name | UnsetType = UNSET
    limits: LimitsChange | UnsetType = UNSET
    inherit: Annotated[list[str], Meta(max_length=100)] = []
    user_profile_id: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET
    contact: Annotated[str, Meta(max_length=300)] | UnsetType | None = UNSET
    disconnect: Literal["drain", "cancel"] | UnsetType = UNSET
    hosts: Annotated[list[str], Meta(max_length=100)] | UnsetType = UNSET


@operation("PATCH", "/tenants/{slug}", Permission.TENANTS_CHANGE, represents=show_tenant)
def set_tenant(call: Call, slug: str, body: TenantPatch) -> TenantDetail:
    """Change a tenant's tier, limits, contact, user profile, host names; gateways follow within a second."""
    limits, inherit = limits_in(body.limits), [find_limit(one) for one in body.inherit]
    both = [name for name in inherit if name in limits]
    if both:
        raise Refused(422, f"{both[0]} is set and inherited at once: choose one")
    change = TenantChange(
        name=body.name or None,
        tier=body.tier or None,
        limits=limits,
        inherit=inherit,
        user_profile_id=_text(body.user_profile_id),
        contact=_text(body.contact),
        disconnect=body.disconnect or None,
        hosts=_hosts(call.site, body.hosts) if body.hosts is not UNSET else None,
    )
    call.site.directory.set_tenant(slug, change)
    return tenant_detail(call.site, slug)


def _text(given: str | UnsetType | None) -> str | None:
    """As `TenantChange` has it: None leaves it, "" takes it away."""
    return None if given is UNSET else given or ""


def _hosts(site: Site, given: list[str]) -> list[str]:
    names = list(dict.fromkeys(read_host(one) for one in given))
    for name in names:
        problem = why_not_usable(site.settings, name)
        if problem is not None:
            raise Refused(422, f"hosts: {problem}")
    return names


@operation("POST", "/tenants/{slug}/disable", Permission.TENANTS_CHANGE, represents=show_tenant)
def disable_tenant(call: Call, slug: str) -> TenantDetail:
    """Refuse every request of a tenant with 403, from within a second on."""
    call.site.directory.set_tenant_status(slug, TenantStatus.DISABLED)
    return tenant_detail(call.site, slug)


@operation("POST", "/tenants/{slug}/enable", Permission.TENANTS_CHANGE, represents=show_tenant)
def enable_tenant(call: Call, slug: str) -> TenantDetail:
    """Serve a disabled tenant again, with the same keys."""
    call.site.directory.set_tenant_status(slug, TenantStatus.ACTIVE)
    return tenant_detail(call.site, slug)


@value
class Statement(View):
    """`statement` is the closing statement, in Markdown; `file` is its name on the machine of Tenantry."""

    tenant: str
    file: str
    statement: str


@operation("DELETE", "/tenants/{slug}", Permission.TENANTS_CHANGE, represents=show_tenant, is_atomic=False)
def remove_tenant(call: Call, slug: str) -> Statement:
    """Delete a tenant with its keys, budgets and alerts. The ledger keeps its rows; answers its closing statement."""
    path = delete_tenant(call.site, slug, call.site.settings.data_dir / "statements")
    return Statement(slug, path.name, path.read_text("utf-8"))


class ProvisionBody(Struct):
    """Exactly one of `credential`, a stored one's name, and `credential_secret`, an Anthropic key to be stored."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    tier: Name = "standard"
    slug: Slug | None = None
    credential: Name | None = None
    credential_secret: Secret | None = None
    shared: bool = False
    upstream: Name | None = None
    contact: Annotated[str, Meta(max_length=300)] | None = None
    month_usd: Usd | None = None
    model: Name | None = None


@value
class CheckView(View):
    model: str
    ms: int
    simulated: bool


@value
class ProvisionedView(View):
    """`key` is shown only now. `steps`: what was done, in order."""

    tenant: str
    tenant_id: str
    endpoint: str
    key: str
    key_id: str
    live_check: CheckView
    steps: list[str]


@operation(
    "POST",
    "/provisions",
    Permission.TENANTS_CHANGE,
    of_site=True,
    status=201,
    located="/tenants/{tenant}",
    is_atomic=False,
)
def provision_tenant(call: Call, body: ProvisionBody) -> ProvisionedView:
    """Make a tenant with credential, key, live check and client guide; on any failure nothing is left."""
    if (body.credential is None) == (body.credential_secret is None):
        raise Refused(422, "say where the client's Anthropic key comes from: credential or credential_secret")
    if body.credential is not None and body.upstream is not None:
        raise Refused(422, "a stored credential has its upstream: leave upstream out")
    secret = body.credential_secret
    choice = CredentialChoice(secret and secret.strip(), body.credential, body.shared, body.upstream or UPSTREAM)
    budgets = {"month": read_amount(body.month_usd)} if body.month_usd is not None else {}
    terms = Terms(body.contact, budgets, body.model)
    guides = call.site.settings.data_dir / "clients"
    steps: list[str] = []
    made = provision(call.site, body.name, body.tier, choice, guides, body.slug, steps.append, terms)
    check = CheckView(made.check.model, made.check.milliseconds, made.check.simulated)
    return ProvisionedView(made.slug, made.tenant_id, made.endpoint, made.key, made.key_id, check, steps)


_MARKDOWN: Final = "text/markdown"
_HTML: Final = "text/html"


class GuideQuery(Struct):
    format: Literal["markdown", "html"] = "markdown"


@operation("GET", "/tenants/{slug}/guide", Permission.TENANTS_READ, media=(_MARKDOWN, _HTML))
def show_guide(call: Call, slug: str, query: GuideQuery) -> Blob:
    """Write a client's guide from its limits, budget and models as they are now. The key is not in it."""
    markdown, page = guide_texts(call.site, slug)
    if query.format == "html":
        return Blob(page.encode(), _HTML, f"{slug}.html")
    return Blob(markdown.encode(), _MARKDOWN, f"{slug}.md")


@operation("GET", "/tenants/{slug}/fair-use", Permission.TENANTS_READ, media=(_MARKDOWN,))
def show_fair_use(call: Call, slug: str) -> Blob:
    """Write a client's fair-use terms, with the figures of its own limits."""
    return Blob(fair_use(call.site, slug).encode(), _MARKDOWN, f"{slug}-fair-use.md")


OPERATIONS: Final = (
    list_tenants,
    create_tenant,
    show_tenant,
    set_tenant,
    remove_tenant,
    show_tenant_now,
    disable_tenant,
    enable_tenant,
    provision_tenant,
    show_guide,
    show_fair_use,
)
