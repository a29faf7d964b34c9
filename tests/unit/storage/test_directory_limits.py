"""Changes of limits and keys that the directory refuses, on a real SQLite file."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tenantry.domain.limits import Limits
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import CredentialRefused, Directory, DirectoryError
from tenantry.storage.directory.tenants import TenantChange
from tenantry.storage.vault import Vault
from tests.template import new_store


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    engine = new_store(tmp_path / "tenantry.db")
    made = Directory(engine, Vault(bytes(32)), "test")
    made.seed_tiers()
    made.create_tenant("acme", "Acme", "standard")
    yield made
    engine.dispose()


def test_a_tier_is_not_set_below_a_key_that_works(directory: Directory) -> None:
    key = directory.issue_key("acme", "ci", limits={"requests_per_minute": 40})
    with pytest.raises(DirectoryError, match=key.key_id):
        directory.set_tier("standard", {"requests_per_minute": 39})
    assert directory.get_tier("standard").limits == Limits()
    directory.revoke_key(key.key_id)
    assert directory.set_tier("standard", {"requests_per_minute": 39}).limits.requests_per_minute == 39


def test_a_key_whose_time_is_over_is_in_nobodys_way(directory: Directory) -> None:
    directory.issue_key("acme", "old", now_utc() - timedelta(seconds=1), {"requests_per_minute": 40})
    directory.set_tier("standard", {"requests_per_minute": 39})
    directory.set_tenant("acme", TenantChange(limits={"requests_per_minute": 38}))


def test_a_limit_of_the_tenants_own_shields_it_from_its_tier(directory: Directory) -> None:
    directory.set_tenant("acme", TenantChange(limits={"requests_per_minute": 50}))
    directory.issue_key("acme", "ci", limits={"requests_per_minute": 40})
    directory.set_tier("standard", {"requests_per_minute": 10})
    with pytest.raises(DirectoryError, match="more than its tenant"):
        directory.set_tenant("acme", TenantChange(inherit=["requests_per_minute"]))


def test_a_rotated_key_keeps_its_limits_and_its_end(directory: Directory) -> None:
    end = now_utc() + timedelta(days=2)
    first = directory.issue_key("acme", "ci", end, {"sessions_max": 2})
    second = directory.rotate_key(first.key_id, now_utc() + timedelta(days=9))
    rows = {row.key_id: row for row in directory.list_keys("acme")}
    assert rows[second.key_id].own == rows[first.key_id].own != {}
    assert rows[second.key_id].expires_at == rows[first.key_id].expires_at
    with pytest.raises(DirectoryError, match=f"replaced by {second.key_id}"):
        directory.rotate_key(first.key_id, now_utc())


@pytest.mark.parametrize("meanwhile", ["rotate", "revoke"])
def test_a_key_that_is_replaced_or_revoked_meanwhile_gets_no_second_successor(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """A client may send the form of its portal ten times at once."""
    first = directory.issue_key("acme", "ci")
    owner = Directory._owner  # pyright: ignore[reportPrivateUsage] -- asked between the look and the change

    def change_first(self: Directory, connection: Any, tenant_id: str) -> Any:
        monkeypatch.setattr(Directory, "_owner", owner)
        if meanwhile == "rotate":
            self.rotate_key(first.key_id, now_utc() + timedelta(days=1))
        else:
            self.revoke_key(first.key_id)
        return owner(self, connection, tenant_id)

    monkeypatch.setattr(Directory, "_owner", change_first)
    with pytest.raises(DirectoryError, match="just now"):
        directory.rotate_key(first.key_id, now_utc() + timedelta(days=1))
    assert len(directory.list_keys("acme")) == (2 if meanwhile == "rotate" else 1)


def test_a_tenant_does_not_fall_back_to_what_it_has(directory: Directory) -> None:
    directory.set_upstream("anthropic", "https://a.example")
    directory.add_credential("acme", "sandbox-canary-one", "anthropic")
    directory.bind_credential("acme", "acme")
    with pytest.raises(CredentialRefused, match="another credential"):
        directory.bind_credential("acme", "acme", as_fallback=True)


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "a\n", "\u00e4"])
def test_a_credential_has_a_name_that_can_be_typed(directory: Directory, name: str) -> None:
    directory.set_upstream("anthropic", "https://a.example")
    with pytest.raises(CredentialRefused, match="not a name"):
        directory.add_credential(name, "sandbox-canary-one", "anthropic")
    assert directory.list_credentials() == []
