"""Whoever writes the database, and has no master key, cannot have a client's secret sent to another address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tenantry.control.doctor import examine
from tenantry.control.init import init_site
from tenantry.control.site import Site, open_site
from tenantry.settings import load_settings
from tenantry.storage.directory import DirectoryError
from tenantry.storage.directory.changes import AddressNotOurs
from tenantry.storage.snapshot import SnapshotLoader
from tenantry.storage.vault import MasterKey, SecretUnreadable
from tests.template import init_from_template

OURS, EVIL, ELSEWHERE = "http://127.0.0.1:9", "http://127.0.0.1:6666", "http://127.0.0.1:10"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    environ = {"TENANTRY_DATA_DIR": str(tmp_path / "data"), "TENANTRY_UPSTREAM_BASE_URL": OURS}
    found = load_settings(None, environ)
    init_from_template(found)
    made = open_site(found)
    made.directory.set_upstream("second", ELSEWHERE)
    made.directory.add_credential("acme", "sandbox-canary-acme", "anthropic")
    made.directory.create_tenant("acme", "Acme", "standard")
    made.directory.bind_credential("acme", "acme")
    yield made
    made.engine.dispose()


def by_hand(site: Site, *statements: str) -> None:
    """What an attacker does who has the database: gateways are made to look, too."""
    with site.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
        connection.execute(
            text("UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS VARCHAR) WHERE name = 'directory_version'")
        )


POINT = f"UPDATE upstreams SET base_url = '{EVIL}' WHERE name = 'anthropic'"  # noqa: S608 -- constants
COLUMNS = "connect_seconds, answer_seconds, capacity, shares_capacity, created_at, address_seal"
ADDED = (
    f"INSERT INTO upstreams (upstream_id, name, base_url, {COLUMNS}) "  # noqa: S608 -- constants
    f"SELECT 'ups_evil', 'evil', '{EVIL}', {COLUMNS} FROM upstreams WHERE name = 'anthropic'"
)
MOVE = "UPDATE credentials SET upstream_id = 'ups_evil'"
ATTACKS = {"address": (POINT,), "credential": (ADDED, MOVE)}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_gateway_that_runs_or_starts_opens_nothing_for_another_address(site: Site, attack: str) -> None:
    loader = SnapshotLoader(site.engine, site.vault)
    tenant_id = site.directory.get_tenant("acme").tenant_id
    before = loader.load()
    by_hand(site, *ATTACKS[attack])
    started = SnapshotLoader(site.engine, site.vault)
    for found, snapshot in (
        (loader, loader.follow().snapshot),
        (loader, loader.load()),
        (started, started.load()),
    ):
        [words] = found.closed
        assert re.search(rf"credential 'acme'.*for {EVIL}.*another address", words)
        credential = snapshot.tenants[tenant_id].credential
        # The last one stays in force, for its own address; whoever starts has none.
        assert credential is (None if found is started else before.tenants[tenant_id].credential)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_command_sends_a_secret_there_or_seals_one_for_it(site: Site, attack: str) -> None:
    by_hand(site, *ATTACKS[attack])
    name = "anthropic" if attack == "address" else "evil"
    with pytest.raises(SecretUnreadable):
        site.directory.open_credential("acme")
    with pytest.raises(AddressNotOurs, match=rf"{EVIL}, was not written by Tenantry.*tenantry init"):
        site.directory.add_credential("new", "sandbox-canary-new", name)
    with pytest.raises(AddressNotOurs):
        site.directory.replace_secret("acme", "sandbox-canary-other")
    for upstream in ("second", name):
        with pytest.raises((AddressNotOurs, SecretUnreadable)):
            site.directory.move_credential("acme", upstream)
    [finding] = [one for one in examine(site.settings) if one.check == f"upstream {name}'s address"]
    assert (finding.ok, EVIL in finding.found) == (False, True)


def test_init_puts_the_address_back_and_everything_opens_again(site: Site) -> None:
    by_hand(site, POINT)
    assert f"anthropic is at {OURS} now, not at {EVIL}" in init_site(site.settings).moved[0]
    assert site.directory.open_credential("acme").secret == "sandbox-canary-acme"
    SnapshotLoader(site.engine, site.vault).load()
    assert not [one for one in examine(site.settings) if one.check.endswith("'s address")]


def test_a_new_address_in_the_settings_seals_the_credentials_for_it_and_gateways_follow(site: Site) -> None:
    loader = SnapshotLoader(site.engine, site.vault)
    loader.load()
    site.directory.set_upstream("anthropic", ELSEWHERE + "/prefix")
    tenant = loader.follow().snapshot.tenants[site.directory.get_tenant("acme").tenant_id]
    assert tenant.credential is not None
    assert tenant.credential.secret == "sandbox-canary-acme"
    assert tenant.credential.upstream.base_url == ELSEWHERE + "/prefix"
    told = site.directory.list_audit(1)[0]
    assert (told.action, told.detail["after"]["credentials_sealed_anew"]) == ("upstream.set", 1)


def test_a_moved_credential_is_sealed_for_where_it_goes(site: Site) -> None:
    loader = SnapshotLoader(site.engine, site.vault)
    loader.load()
    site.directory.move_credential("acme", "second")
    site.directory.move_credential("acme", "second")
    assert loader.follow().snapshot.version == site.directory.version()
    assert site.directory.open_credential("acme").upstream.base_url == ELSEWHERE


def test_an_address_that_was_sealed_for_one_upstream_is_not_another_one_s(site: Site) -> None:
    by_hand(
        site,
        "UPDATE upstreams SET (base_url, address_seal) = (SELECT base_url, address_seal FROM upstreams "
        "WHERE name = 'second') WHERE name = 'anthropic'",
    )
    with pytest.raises(DirectoryError):
        site.directory.add_credential("new", "sandbox-canary-new", "anthropic")


def test_who_removes_what_is_kept_secret_gets_no_address_of_his_sealed(site: Site) -> None:
    by_hand(site, ADDED, "UPDATE upstreams SET address_seal = NULL", "DELETE FROM site_secrets")
    with pytest.raises(SecretUnreadable, match="was removed from the database"):
        open_site(site.settings)
    with pytest.raises(SecretUnreadable, match="was removed from the database"):
        init_site(site.settings)
    with pytest.raises(AddressNotOurs):
        site.directory.add_credential("new", "sandbox-canary-new", "evil")


def test_a_rotation_of_the_master_key_seals_no_address_that_is_not_ours(site: Site) -> None:
    by_hand(site, ADDED)  # no credential is there that would not open
    with pytest.raises(AddressNotOurs, match=rf"'evil'.*{EVIL}.*Nothing was rotated"):
        site.directory.take_master_key(MasterKey(bytes(31) + b"2"))
    assert site.directory.open_credential("acme").secret == "sandbox-canary-acme"


def test_init_seals_its_own_address_again_where_only_the_seal_is_gone(site: Site) -> None:
    by_hand(site, "UPDATE upstreams SET address_seal = NULL")
    with pytest.raises(AddressNotOurs):
        site.directory.add_credential("new", "sandbox-canary-new", "anthropic")
    init_site(site.settings)
    site.directory.add_credential("new", "sandbox-canary-new", "anthropic")
