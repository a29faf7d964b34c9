"""A tenant is changed through one door: whatever is changed at once is one line of audit, and nothing is none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.domain.directory import TenantStatus
from tenantry.storage.directory import Directory, DirectoryError
from tenantry.storage.directory.tenants import TenantChange
from tenantry.storage.vault import Vault
from tests.template import new_store

USD = 1_000_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    engine = new_store(tmp_path / "tenantry.db")
    directory = Directory(engine, Vault(bytes(32)), "test")
    directory.seed_tiers()
    directory.create_tenant("acme", "Acme", "standard")
    yield directory
    engine.dispose()


def told(directory: Directory, change: TenantChange) -> list[tuple[str, object, object]]:
    """The lines of audit that a change leaves: action, before, after."""
    known = len(directory.list_audit())
    directory.set_tenant("acme", change)
    lines = directory.list_audit()[: len(directory.list_audit()) - known]
    return [(line.action, line.detail["before"], line.detail["after"]) for line in lines]


def test_all_that_is_changed_at_once_is_one_line(directory: Directory) -> None:
    change = TenantChange(
        tier="premium",
        limits={"requests_per_minute": 30},
        contact="ops@acme.example",
        name="Acme GmbH",
        status="disabled",
        budgets={"month": 50 * USD},
        budget_mode="soft",
    )
    before = {
        "tier": "standard",
        "limits": {},
        "contact": None,
        "name": "Acme",
        "status": "active",
        "budget_mode": "hard",
        "month_nanos": None,
    }
    after = {
        "tier": "premium",
        "limits": {"requests_per_minute": 30},
        "contact": "ops@acme.example",
        "name": "Acme GmbH",
        "status": "disabled",
        "budget_mode": "soft",
        "month_nanos": 50 * USD,
    }
    version = directory.version()
    assert told(directory, change) == [("tenant.set", before, after)]
    assert directory.version() == version + 1
    assert told(directory, change) == []
    assert directory.version() == version + 1
    stands = directory.get_tenant("acme")
    assert (stands.name, stands.status, stands.limits.sessions_max) == ("Acme GmbH", TenantStatus.DISABLED, 15)


def test_a_change_of_one_thing_has_the_word_for_it(directory: Directory) -> None:
    disabled = ("tenant.disabled", {"status": "active"}, {"status": "disabled"})
    assert told(directory, TenantChange(status="disabled")) == [disabled]
    budget = ("budget.set", {"day_nanos": None}, {"day_nanos": USD})
    assert told(directory, TenantChange(budgets={"day": USD, "week": None})) == [budget]
    assert told(directory, TenantChange(contact="x")) == [("tenant.set", {"contact": None}, {"contact": "x"})]
    assert told(directory, TenantChange(contact="")) == [("tenant.set", {"contact": "x"}, {"contact": None})]


def test_limits_are_added_to_or_are_all_there_are(directory: Directory) -> None:
    directory.set_tenant("acme", TenantChange(limits={"sessions_max": 3}))
    directory.set_tenant("acme", TenantChange(limits={"weight": 2}))
    assert dict(directory.get_tenant("acme").own) == {"sessions_max": 3, "weight": 2}
    directory.set_tenant("acme", TenantChange(limits={"weight": 2}, only_limits=True))
    assert dict(directory.get_tenant("acme").own) == {"weight": 2}


@pytest.mark.parametrize(
    "change",
    [
        TenantChange(status="asleep"),
        TenantChange(budget_mode="squishy"),
        TenantChange(budgets={"year": USD}),
        TenantChange(contact="a\nb"),
        TenantChange(contact="x", disconnect="maybe"),
    ],
)
def test_nothing_is_changed_where_a_part_cannot_be(directory: Directory, change: TenantChange) -> None:
    stood = directory.get_tenant("acme")
    with pytest.raises(DirectoryError):
        directory.set_tenant("acme", change)
    assert directory.get_tenant("acme") == stood


def test_a_tenant_is_not_made_narrower_than_its_keys_unless_they_follow(directory: Directory) -> None:
    directory.issue_key("acme", "a key", limits={"sessions_max": 4})
    narrow = TenantChange(limits={"sessions_max": 2})
    with pytest.raises(DirectoryError):
        directory.set_tenant("acme", narrow)
    directory.set_tenant("acme", TenantChange(limits={"sessions_max": 2}, keys_follow=True))
    assert directory.get_tenant("acme").limits.sessions_max == 2
