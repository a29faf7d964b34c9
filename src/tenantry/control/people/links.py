"""One-time links, whole."""

from __future__ import annotations

from tenantry.control.site import Site

_PATH = "/welcome?link="


def link_of(site: Site, token: str) -> str:
    """What somebody follows."""
    return f"{site.settings.control_url}{_PATH}{token}"


def first_link(site: Site) -> str | None:
    """To become the first owner; one that was made before works no more. None where there is an owner."""
    token = site.directory.issue_first_link()
    return None if token is None else link_of(site, token)
