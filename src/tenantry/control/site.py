"""Set-up of a site, and the parts that use-cases share."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from dataclasses import dataclass

from sqlalchemy import Engine

from tenantry.settings import MAIN_UPSTREAM, SANDBOX_UPSTREAM, Settings
from tenantry.storage.database import migrate, open_store, require_current_schema
from tenantry.storage.directory import Directory
from tenantry.storage.vault import Vault, create_master_key_file, load_master_key

UPSTREAM = MAIN_UPSTREAM
SANDBOX = SANDBOX_UPSTREAM


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
    directory.seed_tiers()
    bring_upstreams(settings, directory)
    token = f"tadm-{secrets.token_urlsafe(32)}"
    is_new = directory.add_admin("admin", token)
    engine.dispose()
    return Initialised(made_master_key, token if is_new else None)


def open_site(settings: Settings) -> Site:
    """Open what `init` made.

    Raises:
        MasterKeyUnusable: no master key, or one that cannot be used.
        StoreMissing: there is no database.
        StoreOutdated: the database needs `tenantry init`.
    """
    vault = Vault(load_master_key(settings.master_key_file))
    engine = open_store(settings.store_url, must_exist=True)
    require_current_schema(engine)
    return Site(settings, engine, vault, Directory(engine, vault, actor(), host()))


def bring_upstreams(settings: Settings, directory: Directory) -> None:
    """Make the store's upstreams what the settings declare. One that is not declared any more stays as it is."""
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


def actor() -> str:
    """Who is named in the audit log for what a command does."""
    try:
        return f"cli:{getpass.getuser()}@{host()}"
    except (KeyError, OSError):  # a uid without a name, as in some containers
        return f"cli:{os.getuid()}@{host()}"


def host() -> str:
    """The machine that a command runs on."""
    return socket.gethostname()[:64]
