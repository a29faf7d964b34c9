"""Plans are versions with dates, and so is who is on them: what counted on a day stays what it was."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from tenantry.domain.plans import Terms, in_force, on_day
from tenantry.storage.directory import Directory, DirectoryError, NotInDirectory
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.directory.tenants import NewTenant, TenantChange
from tenantry.storage.vault import Vault
from tests.template import new_store

USD = 1_000_000_000
MID = date(2026, 11, 24)


class OnADay(Directory):
    """A directory whose day is set."""

    day = MID

    def today(self) -> date:
        return self.day


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[OnADay]:
    engine = new_store(tmp_path / "tenantry.db")
    directory = OnADay(engine, Vault(bytes(32)), "test")
    directory.seed_tiers()
    directory.create_tenant("acme", "Acme", "standard")
    yield directory
    engine.dispose()


def fee_on(directory: Directory, day: date, plan: str = "studio") -> int | None:
    found = on_day(in_force([one.dated for one in directory.list_plan_versions(plan)]), day)
    return found.terms.fee_nanos if found is not None else None


def plan_on(directory: Directory, day: date, slug: str = "acme") -> str | None:
    known = [one for one in directory.list_tenant_plans() if one.slug == slug]
    found = on_day(in_force([one.dated for one in known]), day)
    return found.plan if found is not None else None


def test_a_new_price_leaves_yesterdays_as_it_was(directory: OnADay) -> None:
    assert directory.set_plan("studio", Terms(fee_nanos=100)) is None
    directory.assign_plan("acme", Agreed("studio"))
    assert directory.set_plan("studio", Terms(fee_nanos=200)) == MID
    assert (fee_on(directory, MID - timedelta(1)), fee_on(directory, MID)) == (100, 200)
    assert directory.list_plans() == {"studio": Terms(fee_nanos=200)}


def test_a_plan_that_changes_with_a_month_does_so_from_the_next_and_on_no_other_day(directory: OnADay) -> None:
    directory.set_plan("studio", Terms(fee_nanos=100, changes="next_month"))
    directory.assign_plan("acme", Agreed("studio"))
    # What was promised is how the terms that count change, not what the new ones say.
    assert directory.set_plan("studio", Terms(fee_nanos=200, changes="prorated")) == date(2026, 12, 1)
    assert (fee_on(directory, date(2026, 11, 30)), fee_on(directory, date(2026, 12, 1))) == (100, 200)
    with pytest.raises(DirectoryError, match="first of one, not 2026-11-25"):
        directory.set_plan("studio", Terms(fee_nanos=300), date(2026, 11, 25))
    with pytest.raises(DirectoryError, match="first of one"):
        directory.assign_plan("acme", Agreed(None, date(2026, 11, 25)))
    assert directory.assign_plan("acme", Agreed(None)) == date(2026, 12, 1)
    assert (plan_on(directory, date(2026, 11, 30)), plan_on(directory, date(2026, 12, 1))) == ("studio", None)


def test_a_plan_that_nobody_is_on_changes_at_once(directory: OnADay) -> None:
    directory.set_plan("studio", Terms(fee_nanos=100, changes="next_month"))
    assert directory.set_plan("studio", Terms(fee_nanos=200)) == MID


def test_every_door_to_a_tenants_plan_notes_from_when_on(directory: OnADay) -> None:
    for name in ("studio", "flat"):
        directory.set_plan(name, Terms())
    directory.create_tenants([NewTenant("beta", "Beta", "standard", TenantChange(plan="flat"))])
    assert plan_on(directory, MID, "beta") == "flat"
    directory.set_tenant("acme", TenantChange(plan="studio"))
    assert (plan_on(directory, MID - timedelta(1)), plan_on(directory, MID)) == (None, "studio")
    directory.day = date(2026, 11, 28)
    directory.set_tenant("acme", TenantChange(plan="studio", contact="x@y.example"))
    directory.set_tenant("acme", TenantChange(plan="flat"))
    assert [plan_on(directory, date(2026, 11, day)) for day in (27, 28)] == ["studio", "flat"]
    assert len([one for one in directory.list_tenant_plans() if one.slug == "acme"]) == 2


def test_an_earlier_day_takes_back_what_was_planned_for_later(directory: OnADay) -> None:
    for name in ("studio", "flat"):
        directory.set_plan(name, Terms())
    directory.assign_plan("acme", Agreed("studio"))
    directory.assign_plan("acme", Agreed("flat", date(2027, 1, 1)))
    assert directory.get_tenant("acme").plan == "flat"
    assert [plan_on(directory, day) for day in (MID, date(2027, 1, 1))] == ["studio", "flat"]
    assert directory.assign_plan("acme", Agreed("studio", slots=7)) == MID
    assert plan_on(directory, date(2027, 1, 1)) == "studio"
    assert directory.assign_plan("acme", Agreed("studio", slots=7)) is None


@pytest.mark.parametrize(("rule", "last"), [("prorated", MID), ("next_month", date(2026, 11, 30))])
@pytest.mark.parametrize("deletes", [True, False])
def test_a_tenant_that_leaves_owes_its_plan_to_the_day_that_the_plan_says(
    directory: OnADay, rule: str, last: date, deletes: bool
) -> None:
    directory.set_plan("studio", Terms(changes=rule))
    directory.assign_plan("acme", Agreed("studio"))
    directory.offboard_tenant("acme", deletes)
    assert plan_on(directory, last) == "studio"
    assert plan_on(directory, last + timedelta(1)) is None
    directory.remove_plan("studio")  # nobody is on it any more
    assert directory.list_plan_versions()[0].plan == "studio"


def test_a_plan_is_used_until_the_day_on_which_its_last_tenant_is_on_another(directory: OnADay) -> None:
    """Terms of a month that changed in its midst would be owed twice."""
    directory.set_plan("studio", Terms(fee_nanos=100, changes="next_month"))
    directory.set_plan("flat", Terms())
    directory.assign_plan("acme", Agreed("studio", date(2026, 11, 1)))
    assert directory.assign_plan("acme", Agreed("flat")) == date(2026, 12, 1)
    with pytest.raises(DirectoryError, match="changes with a month"):
        directory.set_plan("studio", Terms(fee_nanos=300, changes="next_month"), date(2026, 11, 26))
    assert directory.set_plan("studio", Terms(fee_nanos=200, changes="next_month")) == date(2026, 12, 1)


@pytest.mark.parametrize("planned", [None, "flat"])
def test_who_leaves_owes_nothing_that_was_planned_for_later(directory: OnADay, planned: str | None) -> None:
    """The plan that it is on decides the last day, not the one that it was to have."""
    directory.set_plan("studio", Terms())
    directory.set_plan("flat", Terms(changes="next_month"))
    directory.assign_plan("acme", Agreed("studio", date(2026, 11, 1)))
    directory.assign_plan("acme", Agreed(planned, date(2027, 3, 1)))
    directory.offboard_tenant("acme", True)
    assert [plan_on(directory, MID + timedelta(days)) for days in (0, 1, 200)] == ["studio", None, None]


def test_a_tenant_that_never_was_leaves_no_plan_behind(directory: OnADay) -> None:
    directory.set_plan("studio", Terms())
    directory.assign_plan("acme", Agreed("studio"))
    directory.remove_tenant("acme", None, "the live check failed")
    assert directory.list_tenant_plans() == []


def test_names_and_terms_that_cannot_be_are_refused(directory: OnADay) -> None:
    with pytest.raises(DirectoryError, match="not a plan's name"):
        directory.set_plan("Studio!", Terms())
    with pytest.raises(DirectoryError, match="plan studio: overage"):
        directory.set_plan("studio", Terms(overage="block"))
    directory.set_plan("studio", Terms())
    with pytest.raises(NotInDirectory, match="did you mean"):
        directory.assign_plan("acme", Agreed("studo"))
    directory.assign_plan("acme", Agreed("studio"))
    with pytest.raises(DirectoryError, match="in use by acme"):
        directory.remove_plan("studio")
    with pytest.raises(NotInDirectory):
        directory.remove_plan("none")
