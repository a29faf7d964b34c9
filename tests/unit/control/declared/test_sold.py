"""What is sold, in a file of tenants: plans with their days, slots, billing details."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tenantry.control.declared.drifting import find_drift
from tenantry.control.declared.exporting import export_tenants
from tenantry.control.declared.model import BadDeclaration
from tenantry.control.declared.state import read_standing
from tenantry.control.site import Site
from tenantry.domain.billing_details import Details
from tenantry.domain.plans import EXAMPLE_PLANS
from tenantry.storage.columns import now_utc
from tests.unit.control.declared.sites import applied, new_site, planned

EXAMPLES = Path(__file__).parents[4] / "docs" / "examples"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = new_site(tmp_path)
    yield made
    made.engine.dispose()


SOLD = """
[plans.studio]
fee_usd = "179.00"
slots = 2
from = {first}
[tenants.acme]
name = "Acme GmbH"
plan = "studio"
plan_from = {day}
plan_slots = 3
[tenants.acme.billing]
address = "Main Street 1\\nTown"
currency = "EUR"
rate = "0.92"
taxes = {{ VAT = "19" }}
[tenants.acme.slots.writer]
limits = {{ sessions_max = 2 }}
[tenants.acme.slots.reader]
[tenants.acme.keys.writer]
slot = "writer"
"""


def sold(site: Site, days: int = 40, **changed: str) -> str:
    today = site.directory.today()
    text = SOLD.format(first=today.replace(day=1).isoformat(), day=(today + timedelta(days=days)).isoformat())
    for old, new in changed.items():
        text = text.replace(WORDS[old], new)
    return text


WORDS = {
    "slot": "[tenants.acme.slots.reader]",
    "key": 'slot = "writer"',
    "agreed": "plan_slots = 3\n",
    "currency": 'currency = "EUR"',
    "limits": "limits = { sessions_max = 2 }",
}


def test_what_is_sold_is_applied_once_and_comes_out_of_an_export_again(site: Site, tmp_path: Path) -> None:
    text = sold(site)
    applied(site, tmp_path, text)
    assert planned(site, tmp_path, text).changes == []
    [agreed] = site.directory.list_tenant_plans()
    assert (agreed.plan, agreed.slots, agreed.from_day) == ("studio", 3, site.directory.today() + timedelta(days=40))
    [version] = site.directory.list_plan_versions("studio")
    assert version.from_day == site.directory.today().replace(day=1)
    assert {one.name: dict(one.own) for one in site.directory.list_slots()} == {
        "writer": {"sessions_max": 2},
        "reader": {},
    }
    assert [(one.label, one.slot) for one in site.directory.list_keys()] == [("writer", "writer")]
    details = site.directory.billing_of(site.directory.get_tenant("acme").tenant_id)
    assert (details.currency, details.taxes, details.address) == ("EUR", (("VAT", "19"),), "Main Street 1\nTown")
    exported = export_tenants(read_standing(site.directory), site.settings.zone, now_utc())
    assert [one for one in planned(site, tmp_path, exported).changes if one.action != "plan.set"] == []


def test_what_a_command_said_of_what_the_file_leaves_out_stays(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, '[tenants.acme]\nname = "Acme"\n')
    site.directory.add_slot("acme", "by-hand")
    site.directory.set_billing("acme", Details(currency="EUR", logo="data:image/png;base64,AA"))
    assert planned(site, tmp_path, '[tenants.acme]\nname = "Acme"\n').changes == []
    applied(site, tmp_path, '[tenants.acme]\nname = "Acme"\n[tenants.acme.billing]\nlocale = "de_DE"\n')
    details = site.directory.billing_of(site.directory.get_tenant("acme").tenant_id)
    assert details == Details(locale="de_DE", logo="data:image/png;base64,AA")


def test_slots_made_or_changed_by_hand_are_drift_and_apply_says_what_it_cuts(site: Site, tmp_path: Path) -> None:
    text = sold(site)
    applied(site, tmp_path, text)
    site.directory.remove_slot("acme", "reader")
    site.directory.set_slot("acme", "writer", {"sessions_max": 1})
    site.directory.add_slot("acme", "mine")
    found = {one.text: (one.actor, one.undo) for one in find_drift(planned(site, tmp_path, text), site.directory)}
    assert found.keys() == {
        "tenant acme: slot 'reader' is missing",
        "tenant acme: slot 'mine' is not in the file",
        "tenant acme: slot 'writer': sessions max 2 -> 1",
    }
    assert all(actor for actor, _ in found.values())
    assert "tenant acme: slot 'mine': REMOVED with its keys: not in the file" in {undo for _, undo in found.values()}
    applied(site, tmp_path, text)
    assert planned(site, tmp_path, text).changes == []


def test_a_key_that_is_to_be_another_slots_is_revoked_and_made_anew(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, sold(site))
    plan = planned(site, tmp_path, sold(site, key='slot = "reader"'))
    assert [one.action for one in plan.changes] == ["key.revoke", "key.issue"]
    applied(site, tmp_path, sold(site, key='slot = "reader"'))
    states = {(one.slot, one.status.value) for one in site.directory.list_keys()}
    assert states == {("writer", "revoked"), ("reader", "active")}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"agreed": "", "slot": "[tenants.acme.slots.b]\n[tenants.acme.slots.c]"},
            "declares 3 slots, and plan studio has 2",
        ),
        ({"agreed": "plan_slots = 1\n"}, "declares 2 slots, and plan_slots agrees on 1"),
        ({"key": 'slot = "wirter"'}, "no slot 'wirter'; did you mean 'writer'"),
        ({"key": 'slot = "writer"\nlimits = { sessions_max = 1 }'}, "a key of a slot has the slot's limits"),
        ({"currency": 'currency = "euro"'}, "currency is a code such as EUR"),
        ({"currency": 'curency = "EUR"'}, "no field 'curency'; did you mean 'currency'"),
        ({"limits": "limits = { weight = 2 }"}, "weight"),
    ],
)
def test_mistakes_in_what_is_sold_are_told_with_what_was_meant(
    site: Site, tmp_path: Path, changed: dict[str, str], told: str
) -> None:
    with pytest.raises(BadDeclaration, match=re.escape(told)):
        planned(site, tmp_path, sold(site, **changed))


def test_the_examples_of_the_docs_can_be_applied(site: Site, tmp_path: Path) -> None:
    text = (EXAMPLES / "plans.toml").read_text()
    applied(site, tmp_path, text)
    assert {name: terms.slots for name, terms in site.directory.list_plans().items()} == {"pro": 5, "team": 10}
    assert site.directory.list_plans() == EXAMPLE_PLANS
