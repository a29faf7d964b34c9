"""Slots: as many as the plan has or as were agreed on; their keys have their limits, and stay theirs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from tenantry.domain.limits import Limits
from tenantry.domain.plans import EXAMPLE_PLANS, Terms
from tenantry.storage.directory import AlreadyThere, Directory, DirectoryError, NotInDirectory
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.directory.tenants import TenantChange
from tenantry.storage.snapshot import SnapshotLoader
from tenantry.storage.tables import audit_log
from tenantry.storage.vault import Vault
from tests.template import new_store

VAULT = Vault(bytes(32))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "tenantry.db")
    yield made
    made.dispose()


@pytest.fixture
def directory(engine: Engine) -> Directory:
    made = Directory(engine, VAULT, "test")
    made.seed_tiers()
    made.create_tenant("acme", "Acme", "standard", "tnt_acme")
    made.set_plan("pro", EXAMPLE_PLANS["pro"])
    return made


def names(directory: Directory) -> list[str]:
    return [one.name for one in directory.list_slots("acme")]


def test_one_slot_more_than_the_plan_has_is_refused_with_the_number_and_the_plan(directory: Directory) -> None:
    directory.assign_plan("acme", Agreed("pro"))
    for number in range(5):
        directory.add_slot("acme", f"bot-{number}")
    with pytest.raises(DirectoryError, match=r"acme may have 5 slots, by plan pro, and has 5: bot-0, .* --slots 6"):
        directory.add_slot("acme", "bot-5")
    directory.assign_plan("acme", Agreed("pro", None, 6))
    directory.add_slot("acme", "bot-5")
    with pytest.raises(DirectoryError, match="acme may have 6 slots, agreed on beside plan pro"):
        directory.add_slot("acme", "bot-6")


def test_without_a_plan_there_is_no_number(directory: Directory) -> None:
    for number in range(12):
        directory.add_slot("acme", f"bot-{number}")
    assert directory.slot_allowance("acme").slots_max is None
    assert "any number of slots: no plan says a number" in directory.slot_allowance("acme").words("acme")


def test_a_smaller_plan_cuts_no_slot_and_lets_none_be_added(directory: Directory) -> None:
    directory.set_plan("small", Terms(slots=1))
    for name in ("a", "b"):
        directory.add_slot("acme", name)
    directory.assign_plan("acme", Agreed("small"))
    assert names(directory) == ["a", "b"]
    assert directory.slot_allowance("acme").beyond(2) == 1
    with pytest.raises(DirectoryError, match="may have 1 slot, by plan small, and has 2"):
        directory.add_slot("acme", "c")


def test_a_plan_of_tomorrow_gives_no_slot_today(directory: Directory) -> None:
    directory.set_plan("small", Terms(slots=1))
    directory.assign_plan("acme", Agreed("small"))
    directory.assign_plan("acme", Agreed("pro", directory.today() + timedelta(days=1)))
    directory.add_slot("acme", "a")
    with pytest.raises(DirectoryError, match="by plan small"):
        directory.add_slot("acme", "b")


def test_the_keys_of_a_slot_share_its_limits_and_follow_those_of_the_tenant(
    engine: Engine, directory: Directory
) -> None:
    directory.add_slot("acme", "writer", {"sessions_max": 2})
    ids = {directory.issue_key("acme", name, slot="writer").key_id for name in ("one", "two")}
    loader = SnapshotLoader(engine, VAULT)

    def limits() -> set[Limits | None]:
        return {key.limits for key in loader.follow().snapshot.keys.values() if key.key_id in ids}

    assert limits() == {Limits(sessions_max=2)}
    directory.set_slot("acme", "writer", {"requests_per_minute": 7})
    assert limits() == {Limits(sessions_max=2, requests_per_minute=7)}
    directory.set_tenant("acme", TenantChange(limits={"request_burst": 3}))
    assert limits() == {Limits(sessions_max=2, requests_per_minute=7, request_burst=3)}
    directory.set_slot("acme", "writer", {}, ["sessions_max", "requests_per_minute"])
    assert limits() == {Limits(request_burst=3)}
    directory.set_tier("standard", {"sessions_max": 9})
    assert limits() == {Limits(sessions_max=9, request_burst=3)}
    assert SnapshotLoader(engine, VAULT).load() == loader.follow().snapshot
    assert {key.lane_name for key in loader.load().keys.values() if key.key_id in ids} == {"tnt_acme.writer"}


def test_a_key_of_a_slot_has_no_limits_of_its_own(directory: Directory) -> None:
    directory.add_slot("acme", "writer")
    with pytest.raises(DirectoryError, match="slots set acme writer"):
        directory.issue_key("acme", "x", None, {"sessions_max": 1}, slot="writer")


def test_a_rotated_key_stays_its_slots(directory: Directory) -> None:
    directory.add_slot("acme", "writer")
    old = directory.issue_key("acme", "x", slot="writer")
    new = directory.rotate_key(old.key_id, directory.list_keys("acme")[0].created_at)
    assert {one.slot for one in directory.list_keys("acme") if one.key_id in (old.key_id, new.key_id)} == {"writer"}


def test_a_slot_that_goes_takes_its_keys_along_and_no_others(directory: Directory) -> None:
    directory.add_slot("acme", "writer")
    directory.issue_key("acme", "x", slot="writer")
    directory.issue_key("acme", "whole")
    assert directory.remove_slot("acme", "writer") == 1
    assert {one.label: one.status.value for one in directory.list_keys("acme")} == {"x": "revoked", "whole": "active"}
    assert names(directory) == []


def test_mistakes_are_told_with_what_was_meant(directory: Directory) -> None:
    directory.add_slot("acme", "writer")
    with pytest.raises(AlreadyThere, match="has a slot writer already"):
        directory.add_slot("acme", "writer")
    with pytest.raises(NotInDirectory, match=r"no slot 'wirter'.*writer"):
        directory.issue_key("acme", "x", slot="wirter")
    with pytest.raises(DirectoryError, match="not a slot's name"):
        directory.add_slot("acme", "Night.Shift")
    with pytest.raises(DirectoryError, match="sessions_max of a slot cannot be above its tenant's 5"):
        directory.add_slot("acme", "big", {"sessions_max": 6})
    with pytest.raises(DirectoryError, match="weight belongs to a tenant; a slot may have"):
        directory.add_slot("acme", "big", {"weight": 2})


def test_every_change_of_a_slot_is_in_the_audit_log(engine: Engine, directory: Directory) -> None:
    directory.add_slot("acme", "writer")
    directory.set_slot("acme", "writer", {"sessions_max": 1})
    directory.remove_slot("acme", "writer")
    with engine.connect() as connection:
        found = connection.execute(select(audit_log.c.action, audit_log.c.object, audit_log.c.tenant)).all()
    assert [tuple(one) for one in found[-3:]] == [
        (action, "acme.writer", "acme") for action in ("slot.add", "slot.set", "slot.remove")
    ]


def test_a_tenant_that_leaves_leaves_no_slot(directory: Directory) -> None:
    directory.add_slot("acme", "writer")
    directory.offboard_tenant("acme", delete_data=True)
    directory.create_tenant("acme", "Acme", "standard")
    assert names(directory) == []
