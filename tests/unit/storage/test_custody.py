"""A database knows its master key: under another one nothing starts, is made anew, or is called well."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from tenantry.control.doctor import examine
from tenantry.control.init import init_site
from tenantry.control.site import Site, open_site
from tenantry.settings import Settings, load_settings
from tenantry.storage.custody import ForeignMasterKey, find_owner, note_master_key
from tenantry.storage.in_force import FINGERPRINT_NAME
from tenantry.storage.key_files import create_master_key_file
from tenantry.storage.tables import meta
from tests.template import init_from_template, new_store


def settings_in(folder: Path) -> Settings:
    return load_settings(None, {"TENANTRY_DATA_DIR": str(folder)})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = settings_in(tmp_path / "data")
    init_from_template(found)
    made = open_site(found)
    yield made
    made.engine.dispose()


def replace_key(site: Site) -> None:
    site.settings.master_key_file.rename(site.settings.data_dir / "right.key")
    create_master_key_file(site.settings.master_key_file)


def put_back(site: Site) -> None:
    shutil.move(site.settings.data_dir / "right.key", site.settings.master_key_file)


def forget_fingerprint(site: Site) -> None:
    """As a database of an earlier version is."""
    with site.engine.begin() as connection:
        connection.execute(delete(meta).where(meta.c.name == FINGERPRINT_NAME))


def test_init_writes_the_fingerprint_and_writes_it_once(site: Site) -> None:
    init_site(site.settings)
    with site.engine.connect() as connection:
        kept = connection.execute(select(meta.c.value).where(meta.c.name == FINGERPRINT_NAME)).scalars().all()
    assert kept == [site.vault.key_id]


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "earlier version"])
def test_a_lost_master_key_is_not_replaced_by_init(site: Site, noted: bool) -> None:
    if not noted:
        forget_fingerprint(site)
    site.settings.master_key_file.rename(site.settings.data_dir / "right.key")
    with pytest.raises(ForeignMasterKey, match=r"put that key back.*If it is lost for good"):
        init_site(site.settings)
    assert not site.settings.master_key_file.exists()
    put_back(site)
    assert not init_site(site.settings).made_master_key


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "earlier version"])
def test_nothing_starts_under_a_foreign_master_key(site: Site, noted: bool) -> None:
    if not noted:
        forget_fingerprint(site)
    replace_key(site)
    for attempt in (init_site, open_site):
        with pytest.raises(ForeignMasterKey, match=r"belongs to .*Put the right key in its place"):
            attempt(site.settings)
    put_back(site)
    open_site(site.settings).engine.dispose()


def test_doctor_names_a_foreign_and_a_lost_master_key_and_the_cure_works(site: Site) -> None:
    def found() -> tuple[bool, str]:
        finding = next(one for one in examine(site.settings) if one.check == "database's master key")
        return finding.ok, f"{finding.found} {finding.mend}"

    assert found() == (True, "the one at hand ")
    replace_key(site)
    ok, words = found()
    assert (ok, site.vault.key_id in words, "put that key back" in words) == (False, True, True)
    site.settings.master_key_file.unlink()
    ok, words = found()
    assert (ok, "not at hand" in words, site.vault.key_id in words) == (False, True, True)
    put_back(site)
    assert found()[0]


@pytest.mark.parametrize("kind", ["credential", "alert target", "audit log"])
def test_a_database_of_an_earlier_version_is_known_by_what_is_sealed_in_it(site: Site, kind: str) -> None:
    if kind == "credential":
        site.directory.set_upstream("u", "http://127.0.0.1:9")
        site.directory.add_credential("c", "a-secret-of-some-length", "u")
    if kind == "alert target":
        site.directory.set_alert_target("t", "webhook", "http://127.0.0.1:9/", None, ())
    forget_fingerprint(site)
    owner = find_owner(site.engine)
    assert owner is not None
    assert owner.is_key_of(site.vault.master)
    assert (owner.key_id == site.vault.key_id) is (kind != "audit log")
    note_master_key(site.engine, site.vault.master)
    assert str(find_owner(site.engine)).endswith(site.vault.key_id)


def test_an_empty_database_belongs_to_nobody(tmp_path: Path) -> None:
    engine = new_store(tmp_path / "tenantry.db")
    assert find_owner(engine) is None
    engine.dispose()
