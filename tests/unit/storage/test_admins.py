"""Admin tokens: several, with names and ends, kept as digests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tenantry.storage.columns import now_utc
from tenantry.storage.directory import AlreadyThere, Directory, DirectoryError, NotInDirectory, admins
from tenantry.storage.vault import Vault
from tests.template import new_store


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    engine = new_store(tmp_path / "tenantry.db")
    yield Directory(engine, Vault(bytes(32)), "test")
    engine.dispose()


def opened_by(directory: Directory, token: str) -> str | None:
    """The name of the token that this is, and that works."""
    found = directory.find_presented(token)
    return found.name if found is not None and found.state(admins.now_utc()) == "active" else None


def test_each_token_opens_under_its_own_name_and_no_other_text_does(directory: Directory) -> None:
    tokens = {name: directory.create_admin(name, None) for name in ("admin", "monitoring", "ops.2")}
    for name, token in tokens.items():
        assert opened_by(directory, token) == name
        for other in (token[:-1], token + "x", token.upper(), "", " " + token, "\xff"):
            assert opened_by(directory, other) is None
    assert [row.action for row in directory.list_audit()] == ["admin.add"] * 3
    assert not any(token in str(row.detail) for row in directory.list_audit() for token in tokens.values())


def test_a_gateway_key_opens_nothing_even_where_its_digest_was_copied(directory: Directory) -> None:
    directory.add_admin("copied", "sk-proxy-acme-" + "a" * 38)
    assert directory.find_presented("sk-proxy-acme-" + "a" * 38) is None


def test_an_end_is_an_end(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    token = directory.create_admin("a", now_utc() + timedelta(hours=1))
    assert opened_by(directory, token) == "a"
    now = now_utc() + timedelta(hours=1)
    monkeypatch.setattr(admins, "now_utc", lambda: now)
    assert opened_by(directory, token) is None
    with pytest.raises(DirectoryError, match="ended already"):
        directory.create_admin("b", now - timedelta(days=1))


def test_a_rotated_token_stops_at_once_or_after_its_grace(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = directory.create_admin("a", None)
    second = directory.rotate_admin("a", now_utc())
    assert (opened_by(directory, first), opened_by(directory, second)) == (None, "a")
    third = directory.rotate_admin("a", now_utc() + timedelta(hours=1))
    assert (opened_by(directory, second), opened_by(directory, third)) == ("a", "a")
    now = now_utc() + timedelta(hours=1, seconds=1)
    monkeypatch.setattr(admins, "now_utc", lambda: now)
    assert (opened_by(directory, second), opened_by(directory, third)) == (None, "a")


def test_a_token_that_is_rotated_has_as_long_as_the_one_before_had(directory: Directory) -> None:
    directory.create_admin("a", now_utc() + timedelta(days=30))
    directory.rotate_admin("a", now_utc() + timedelta(days=300))
    [row] = directory.list_admins()
    assert row.expires_at is not None
    assert abs(row.expires_at - now_utc() - timedelta(days=30)) < timedelta(minutes=1)
    assert row.old_until is not None
    assert row.old_until <= row.expires_at  # grace does not outlive its own end


def test_a_revoked_token_and_the_one_that_it_replaced_are_over(directory: Directory) -> None:
    first = directory.create_admin("a", None)
    second = directory.rotate_admin("a", now_utc() + timedelta(days=1))
    assert directory.create_admin("b", None)
    assert directory.revoke_admin("a")
    assert (opened_by(directory, first), opened_by(directory, second)) == (None, None)
    with pytest.raises(DirectoryError, match="was revoked"):
        directory.rotate_admin("a", now_utc())
    with pytest.raises(AlreadyThere, match="perhaps a revoked one"):
        directory.create_admin("a", None)
    assert not directory.revoke_admin("b")  # none is left, which is told


def test_what_cannot_be_is_refused_in_words(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", " a", "a b", "a" * 65, "-a", "\u00e4", "a\n"):
        with pytest.raises(DirectoryError, match="is not a name"):
            directory.create_admin(name, None)
    directory.create_admin("monitoring", None)
    with pytest.raises(NotInDirectory, match="monitoring"):
        directory.rotate_admin("monitorin", now_utc())
    with pytest.raises(NotInDirectory):
        directory.revoke_admin("nobody")
    monkeypatch.setattr(admins, "ADMINS_MAX", 1)
    with pytest.raises(DirectoryError, match="revoke one that nobody needs"):
        directory.create_admin("b", None)


def test_a_token_has_a_role_and_tenants_and_a_tenant_made_again_is_another(directory: Directory) -> None:
    directory.set_tier("standard", {})
    directory.create_tenant("acme", "Acme", "standard")
    directory.create_tenant("globex", "Globex", "standard")
    token = directory.create_admin("books", None, "billing", ["globex", "acme", "acme"])
    found = directory.find_presented(token)
    assert found is not None
    assert (found.role, found.tenants) == ("billing", ("acme", "globex"))
    directory.rotate_admin("books", now_utc())
    directory.remove_tenant("acme", None, "test")
    directory.create_tenant("acme", "Another", "standard")
    (row,) = directory.list_admins()
    assert (row.role, row.tenants) == ("billing", ("globex",))
    directory.remove_tenant("globex", None, "test")
    (row,) = directory.list_admins()
    assert row.tenants == ()  # confined to nobody, which is not the same as to nothing
    added = [one.detail["after"] for one in directory.list_audit() if one.action == "admin.add"]
    assert (added[0]["role"], added[0]["tenants"]) == ("billing", ["acme", "globex"])


def test_a_role_or_tenant_that_is_not_there_makes_no_token(directory: Directory) -> None:
    with pytest.raises(DirectoryError, match="a role is owner, operator, billing, viewer, not 'king'"):
        directory.create_admin("a", None, "king")
    with pytest.raises(NotInDirectory, match="there is no tenant 'nobody'"):
        directory.create_admin("a", None, "viewer", ["nobody"])
    with pytest.raises(DirectoryError, match="confined to 1 to"):
        directory.create_admin("a", None, "viewer", [])
    assert directory.list_admins() == []
