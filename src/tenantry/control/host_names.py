"""Host names as people write them, in the one form in which they are kept, and whether a client may have them."""

from __future__ import annotations

import idna

from tenantry.control.site import Site
from tenantry.domain.hosts import BadHost, check_host
from tenantry.settings import Settings
from tenantry.storage.records import TenantRecord

# Far above what a name has in any script; nothing longer is looked at.
_WRITTEN_CHARS_MAX = 1000


def read_host(written: str) -> str:
    """`AI.Client.example.` and `ki.müller.example` as DNS has them (IDNA 2008, as browsers and SDKs do it: UTS 46).

    Raises:
        BadHost: it is no host name.
    """
    name = written.strip().removesuffix(".")
    if len(name) <= _WRITTEN_CHARS_MAX and (not name.isascii() or "xn--" in name.lower()):
        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError as error:
            raise BadHost(f"must be a host name: {error}") from None
    return check_host(name.lower())


def why_not_usable(settings: Settings, host: str) -> str | None:
    """Why a name cannot be a client's own: it is the site's, or one that the site gives by itself. None: it can."""
    if host == settings.public_host:
        return f"{host} is the site's own name (public_url)"
    if settings.public_domain and f".{host}".endswith(f".{settings.public_domain}"):
        own = f"SLUG.{settings.public_domain}"
        return f"{host} lies in public_domain, where each tenant has {own} by itself; name one of the client's domain"
    return None


def is_own_host(site: Site, written: str) -> bool:
    """Whether requests for a name are this site's: its own name, a tenant's below the domain, or a client's own."""
    settings = site.settings
    try:
        host = check_host(written.lower().removesuffix("."))
    except BadHost:
        return False
    if host == settings.public_host:
        return True
    named = settings.host_rule.slug_of(host.encode(), {})
    return (
        site.directory.has_tenant(named.decode()) if named is not None else site.directory.find_host(host) is not None
    )


def host_of(settings: Settings, tenant: TenantRecord) -> str:
    """A name at which only this tenant is served; "" where there is none."""
    return settings.host_rule.host_of(tenant.slug) or next(iter(tenant.hosts), "")
