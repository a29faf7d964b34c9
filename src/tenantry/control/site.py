"""Set-up of a site, and the parts that use-cases share."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from dataclasses import dataclass

from sqlalchemy import Engine

from tenantry.settings import Settings
from tenantry.storage.database import migrate, open_store, require_current_schema
from tenantry.storage.directory import Directory
from tenantry.storage.vault import Vault, create_master_key_file, load_master_key

UPSTREAM = "anthropic"
SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Site:
    """An initialised site, opened."""

    settings: Settings
    engine: Engine
    vault: Vault
    directory: Directory


@dataclass(frozen=True, slots=True)
class Initialised:
    """What `init` did. `admin_token` is there only when it was made just now; it is not shown again."""

    made_master_key: bool
    admin_token: str | None


def init_site(settings: Settings) -> Initialised:
    """Make what is missing: master key, database, tiers, upstream, admin. Running it again changes nothing.

    Raises:
        MasterKeyUnusable: there is a master key file that cannot be used.
    """
    made_master_key = not settings.master_key_file.exists()
    if made_master_key:
        create_master_key_file(settings.master_key_file)
    vault = Vault(load_master_key(settings.master_key_file))
    engine = open_store(settings.store_url)
    migrate(engine)
    settings.journal_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = Directory(engine, vault, actor(), host())
    directory.seal_audit()
    ca_file = str(settings.upstream_ca_file) if settings.upstream_ca_file else None
    directory.seed_tiers()
    directory.set_upstream(UPSTREAM, settings.upstream_base_url, ca_file)
    token = f"tadm-{secrets.token_urlsafe(32)}"
    is_new = directory.add_admin("admin", token)
    engine.dispose()
    return Initialised(made_master_key, token if is_new else None)


def open_site(settings: Settings) -> Site:
    """Open what `init` made.

    Raises:
        MasterKeyUnusable: no master key, or one that cannot be used.
        StoreOutdated: the database needs `tenantry init`.
    """
    vault = Vault(load_master_key(settings.master_key_file))
    engine = open_store(settings.store_url)
    require_current_schema(engine)
    return Site(settings, engine, vault, Directory(engine, vault, actor(), host()))


def actor() -> str:
    """Who is named in the audit log for what a command does."""
    try:
        return f"cli:{getpass.getuser()}@{host()}"
    except (KeyError, OSError):  # a uid without a name, as in some containers
        return f"cli:{os.getuid()}@{host()}"


def host() -> str:
    """The machine that a command runs on."""
    return socket.gethostname()[:64]
