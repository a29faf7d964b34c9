"""`tenantry init`: what a site is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from tenantry.control.site import actor, bring_upstreams, host
from tenantry.settings import Settings
from tenantry.storage.custody import ForeignMasterKey, find_owner, note_master_key, open_vault, require_master_key
from tenantry.storage.database import open_store
from tenantry.storage.directory import Directory
from tenantry.storage.directory.admins import new_admin_token
from tenantry.storage.key_files import KeyFiles, create_master_key_file
from tenantry.storage.migrating import Waiting, migrate_in_use


@dataclass(frozen=True, slots=True)
class Initialised:
    """What `init` did. `admin_token` is there only when it was made just now; it is not shown again.

    `moved`: upstreams whose address is another now, in words. `waiting`: the step of the schema that waits until no
    earlier version runs.
    """

    made_master_key: bool
    admin_token: str | None
    moved: list[str]
    waiting: Waiting | None = None


def init_site(settings: Settings) -> Initialised:
    """Make what is missing: master key, database, tiers, upstream, admin. Running it again changes nothing.

    Raises:
        MasterKeyUnusable: the master key file cannot be used, or the database belongs to another key.
        StoreOutdated: earlier versions run that would not survive this one's schema; or a later one has made it.
    """
    engine = open_store(settings.store_url, password=settings.store_password)
    files = KeyFiles(settings.master_key_file)
    made_master_key = not settings.master_key_file.exists()
    if made_master_key:
        _require_no_owner(engine, settings.master_key_file)
        create_master_key_file(settings.master_key_file)
    key = require_master_key(engine, files)
    waiting = migrate_in_use(engine)
    note_master_key(engine, key)
    vault = open_vault(engine, files)
    settings.journal_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = Directory(engine, vault, actor(), host(), settings.zone)
    directory.seal_audit()
    directory.seed_tiers()
    moved = bring_upstreams(settings, directory)
    token = new_admin_token()
    is_new = directory.add_admin("admin", token)
    engine.dispose()
    return Initialised(made_master_key, token if is_new else None, moved, waiting)


def _require_no_owner(engine: Engine, path: Path) -> None:
    """A new key would open nothing that an old one has sealed. Raises: ForeignMasterKey."""
    owner = find_owner(engine)
    if owner is not None:
        raise ForeignMasterKey(
            f"there is no master key at {path}, and the database belongs to {owner}: put that key back (mode 0600; "
            "on a further machine of the site, a copy of the first one's; `tenantry restore` does from a backup made "
            "with --with-master-key). If it is lost for good, its credentials and gateway keys are too: move the "
            "database away, and `tenantry init` begins an empty site"
        )
