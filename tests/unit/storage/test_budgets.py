"""Budgets in the directory: what is set is what a gateway's snapshot has, and every change is audited."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tenantry.domain.budgets import Budget, Cap, amount_at
from tenantry.domain.directory import GatewayKey, Tenant
from tenantry.domain.money import AMOUNT_NANOS_MAX, BadAmount, read_amount
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import Directory, DirectoryError, NotInDirectory
from tenantry.storage.snapshot import SnapshotLoader
from tenantry.storage.vault import Vault
from tests.template import new_store

USD = 1_000_000_000
VAULT = Vault(bytes(32))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = new_store(tmp_path / "tenantry.db")
    yield engine
    engine.dispose()


@pytest.fixture
def directory(engine: Engine) -> Directory:
    directory = Directory(engine, VAULT, "test")
    directory.seed_tiers()
    directory.create_tenant("acme", "Acme", "standard")
    return directory


def unix_us(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def snapshot_of(engine: Engine) -> tuple[int, Tenant, list[GatewayKey]]:
    found = SnapshotLoader(engine, VAULT).load()
    return found.version, next(iter(found.tenants.values())), list(found.keys.values())


def test_what_is_set_reaches_the_snapshot_of_tenant_and_key(directory: Directory, engine: Engine) -> None:
    key = directory.issue_key("acme", "a key")
    version, tenant, _ = snapshot_of(engine)
    assert tenant.budget == Budget((), "hard")
    directory.set_budgets("acme", {"month": 50 * USD, "day": 5 * USD}, mode="soft")
    directory.set_budgets("acme", {"week": 7 * USD}, key_id=key.key_id)
    moved, tenant, keys = snapshot_of(engine)
    assert moved == version + 2
    assert tenant.budget == Budget((Cap("day", 5 * USD, ()), Cap("month", 50 * USD, ())), "soft")
    assert keys[0].budget == Budget((Cap("week", 7 * USD, ()),), "soft")
    directory.set_budgets("acme", {"day": None})
    assert snapshot_of(engine)[1].budget.caps == (Cap("month", 50 * USD, ()),)
    assert directory.list_budgets("acme") == {
        "": Budget((Cap("month", 50 * USD, ()),), "soft"),
        key.key_id: keys[0].budget,
    }


def test_setting_what_is_set_changes_and_audits_nothing(directory: Directory, engine: Engine) -> None:
    directory.set_budgets("acme", {"month": 50 * USD}, mode="hard")
    before = snapshot_of(engine)[0], len(directory.list_audit())
    directory.set_budgets("acme", {"month": 50 * USD, "week": None}, mode="hard")
    assert (snapshot_of(engine)[0], len(directory.list_audit())) == before


def test_a_raise_counts_from_now_until_its_end_and_is_audited(directory: Directory, engine: Engine) -> None:
    directory.set_budgets("acme", {"month": 50 * USD})
    until = now_utc() + timedelta(days=2)
    directory.raise_budget("acme", "month", 20 * USD, until)
    directory.raise_budget("acme", "month", 1 * USD, until + timedelta(days=1))
    cap = snapshot_of(engine)[1].budget.caps[0]
    now_us, until_us = unix_us(now_utc()), unix_us(until)
    assert amount_at(cap, now_us) == 71 * USD
    assert amount_at(cap, until_us - 1) == 71 * USD
    assert amount_at(cap, until_us) == 51 * USD
    assert amount_at(cap, now_us - 60_000_000) == 50 * USD
    row = directory.list_audit(1)[0]
    assert (row.action, row.subject, row.detail["amount_nanos"]) == ("budget.raise", "acme", USD)


@pytest.mark.parametrize(
    ("period", "nanos", "message"),
    [
        ("year", USD, "day, a week, a month"),
        ("month", 0, "above 0"),
        ("month", -1, "above 0"),
        ("month", AMOUNT_NANOS_MAX + 1, "at most"),
    ],
)
def test_what_cannot_be_is_refused_whole(
    directory: Directory, engine: Engine, period: str, nanos: int, message: str
) -> None:
    with pytest.raises(DirectoryError, match=message):
        directory.set_budgets("acme", {"day": USD, period: nanos})
    with pytest.raises(DirectoryError, match=message):
        directory.raise_budget("acme", period, nanos, now_utc() + timedelta(days=1))
    assert snapshot_of(engine)[1].budget.caps == ()


def test_a_foreign_key_a_missing_budget_and_a_past_raise_are_refused(directory: Directory) -> None:
    directory.create_tenant("other", "Other", "standard")
    foreign = directory.issue_key("other", "k").key_id
    with pytest.raises(NotInDirectory, match="acme has no key"):
        directory.set_budgets("acme", {"month": USD}, key_id=foreign)
    with pytest.raises(NotInDirectory, match="no tenant"):
        directory.set_budgets("nobody", {"month": USD})
    with pytest.raises(DirectoryError, match="no budget by month"):
        directory.raise_budget("acme", "month", USD, now_utc() + timedelta(days=1))
    directory.set_budgets("acme", {"month": USD})
    with pytest.raises(DirectoryError, match="future"):
        directory.raise_budget("acme", "month", USD, now_utc())
    with pytest.raises(DirectoryError, match="hard or soft"):
        directory.set_budgets("acme", {}, mode="squishy")


@pytest.mark.parametrize(("text", "nanos"), [("50", 50 * USD), ("12.50", 12_500_000_000), ("0.000000001", 1)])
def test_an_amount_is_exact_to_the_nano(text: str, nanos: int) -> None:
    assert read_amount(text) == nanos


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0.0",
        "-5",
        "+5",
        "NaN",
        "inf",
        "1e3",
        "1e999999999",
        "1,000",
        "$5",
        "0.0000000001",
        "9" * 400,
        "1000000001",
        "5 ",
        "٥",
    ],
)
def test_what_is_no_amount_is_said_to_be_none(text: str) -> None:
    with pytest.raises(BadAmount, match=r"above 0|at most"):
        read_amount(text)


def test_a_tenant_that_is_rolled_back_takes_its_budgets_and_targets_along(directory: Directory) -> None:
    directory.issue_key("acme", "k")
    directory.set_budgets("acme", {"month": USD})
    directory.raise_budget("acme", "month", USD, now_utc() + timedelta(days=1))
    directory.set_thresholds("acme", [50])
    directory.set_alert_target("contact", "webhook", "https://hooks.example.com/x", "acme")
    directory.remove_tenant("acme", None, "test")
    assert directory.list_alert_targets() == []
    with pytest.raises(NotInDirectory):
        directory.list_budgets("acme")
