"""An initialised site, opened: the parts that use-cases share."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import Engine

from tenantry.setting_tables import MAIN_UPSTREAM, SANDBOX_UPSTREAM
from tenantry.settings import Settings
from tenantry.storage.custody import open_vault
from tenantry.storage.database import open_store
from tenantry.storage.directory import Directory
from tenantry.storage.key_files import KeyFiles
from tenantry.storage.vault import Vault

UPSTREAM = MAIN_UPSTREAM
SANDBOX = SANDBOX_UPSTREAM


@dataclass(frozen=True, slots=True)
class Site:
    """An initialised site, opened."""

    settings: Settings
    engine: Engine
    vault: Vault
    directory: Directory


def open_site(settings: Settings) -> Site:
    """Open what `init` made.

    Raises:
        MasterKeyUnusable: no master key, one that cannot be used, or one that the database does not belong to.
        StoreMissing: there is no database.
        StoreOutdated: the database needs `tenantry init`.
    """
    files = KeyFiles(settings.master_key_file)
    files.load()  # what is missing first is told first
    engine = open_store(settings.store_url, password=settings.store_password, must_exist=True)
    vault = open_vault(engine, files)
    return Site(settings, engine, vault, Directory(engine, vault, actor(), host(), settings.zone))


def slugs_of_tenants(site: Site) -> dict[str, str]:
    """By internal id, of those that are there."""
    return {one.tenant_id: one.slug for one in site.directory.list_tenants()}


def bring_upstreams(settings: Settings, directory: Directory) -> list[str]:
    """Make the store's upstreams what the settings declare. One that is not declared any more stays as it is.

    Returns a sentence for each whose address changed: the secrets that belong to it go there from now on.

    Raises:
        SecretUnreadable: a credential was sealed neither for the address before nor for the new one.
    """
    stood = {one.name: one.base_url for one in directory.list_upstreams()}
    told = [
        f"upstream {one.name} is at {one.base_url} now, not at {stood[one.name]}: its credentials are sealed for that"
        for one in settings.upstreams
        if stood.get(one.name, one.base_url) != one.base_url
    ]
    for one in settings.upstreams:
        directory.set_upstream(
            one.name,
            one.base_url,
            # The processes of a site need not share a working directory.
            str(one.ca_file.absolute()) if one.ca_file is not None else None,
            connect_seconds=one.connect_seconds,
            answer_seconds=one.answer_seconds,
            capacity=one.capacity,
            shares_capacity=one.shares_capacity,
        )
    return told


def ensure_sandbox_credential(site: Site, base_url: str, secret: str) -> None:
    """The sandbox as an upstream, with a shared credential named `sandbox`."""
    site.directory.set_upstream(SANDBOX, base_url)
    if all(row.name != SANDBOX for row in site.directory.list_credentials()):
        site.directory.add_credential(SANDBOX, secret, SANDBOX, shared=True)


def endpoint_of(settings: Settings, slug: str) -> str:
    """Where the software of a tenant sends its requests: to a host name of its own where there is a domain for them."""
    host = settings.host_rule.host_of(slug)
    return _at_host(settings, host) if host else _by_path(settings, slug)


def endpoints_of(settings: Settings, slug: str, hosts: Iterable[str]) -> list[str]:
    """All of them: that which is told first, those at the client's own `hosts`, that at the site's own name."""
    known = [endpoint_of(settings, slug), *(_at_host(settings, host) for host in hosts), _by_path(settings, slug)]
    return list(dict.fromkeys(known))


def slot_endpoint_of(settings: Settings, slug: str, slot: str) -> str:
    """Where the software that has a slot sends its requests. By path alone: decision 0019 says why."""
    return _by_path(settings, f"{slug}.{slot}")


def _by_path(settings: Settings, slug: str) -> str:
    return f"{settings.public_url}/t/{slug}"


def _at_host(settings: Settings, host: str) -> str:
    public = urlsplit(settings.public_url)
    port = f":{public.port}" if public.port is not None else ""
    return f"{public.scheme}://{host}{port}{public.path}"


def actor() -> str:
    """Who is named in the audit log for what a command does."""
    try:
        return f"cli:{getpass.getuser()}@{host()}"
    except (KeyError, OSError):  # a uid without a name, as in some containers
        return f"cli:{os.getuid()}@{host()}"


def host() -> str:
    """The machine that a command runs on."""
    return socket.gethostname()[:64]
