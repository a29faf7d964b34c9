"""`tenantry init`: what a site is made of."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from tenantry.control.site import actor, bring_upstreams, host
from tenantry.settings import Settings
from tenantry.storage.database import open_store
from tenantry.storage.directory import Directory
from tenantry.storage.migrating import migrate
from tenantry.storage.vault import Vault, create_master_key_file, load_master_key


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
