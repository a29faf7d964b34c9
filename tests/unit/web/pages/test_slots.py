"""Slots on a client's page: listed, added with a key that is shown once, removed with their keys."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette

from tenantry.control.client_guide import guide_facts
from tenantry.control.site import Site
from tenantry.domain.plans import Terms
from tenantry.domain.roles import Role
from tenantry.storage.directory.plans import Agreed
from tests.browser import Answer, Browser, add_person, signed_in

NEW = "/tenants/acme/slots/new"


@pytest.fixture
def browser(app: Starlette, site: Site) -> Browser:
    return signed_in(app, site)


def once(browser: Browser, path: str) -> dict[str, str]:
    return dict(re.findall(r'name="(once)" value="(\w+)"', browser.get(path).text))


def add(browser: Browser, **fields: str) -> Answer:
    return browser.post(NEW, once(browser, NEW) | {"key": "yes"} | fields)


def test_a_slot_is_added_with_its_key_and_stands_on_the_clients_page(browser: Browser, site: Site) -> None:
    told = once(browser, NEW) | {"name": "writer", "key": "yes", "sessions_max": "2"}
    answer = browser.post(NEW, told)
    assert answer.status == 200
    assert "Copy it now" in answer.shown
    assert "/t/acme.writer</code>" in answer.text
    [slot] = site.directory.list_slots("acme")
    assert (slot.name, dict(slot.own), slot.keys) == ("writer", {"sessions_max": 2}, 1)
    assert browser.post(NEW, told).status == 303, "sent again, it does nothing again"
    assert site.directory.list_slots("acme") == [slot]
    page = browser.get("/tenants/acme")
    assert "/t/acme.writer</code>" in page.text
    assert "slot writer" in page.shown
    assert 'href="/tenants/acme/slots/writer/remove"' in page.text
    assert "and has 1." in page.shown


def test_a_further_key_of_a_slot_is_issued_and_rotated_at_its_endpoint(browser: Browser, site: Site) -> None:
    site.directory.add_slot("acme", "writer")
    path = "/tenants/acme/keys/new?slot=writer"
    assert '<option value="writer" selected>' in browser.get(path).text
    answer = browser.post("/tenants/acme/keys/new", once(browser, path) | {"label": "second", "slot": "writer"})
    assert "/t/acme.writer</code>" in answer.text
    [key] = [one for one in site.directory.list_keys("acme") if one.slot == "writer"]
    path = f"/tenants/acme/keys/{key.key_id}/rotate"
    assert "/t/acme.writer</code>" in browser.post(path, once(browser, path) | {"grace": "24h"}).text
    wrong = browser.post("/tenants/acme/keys/new", once(browser, "/tenants/acme/keys/new") | {"slot": "nobody"})
    assert wrong.status == 422


def test_a_slot_without_a_key_is_added_and_says_so(browser: Browser, site: Site) -> None:
    answer = browser.post(NEW, once(browser, NEW) | {"name": "quiet"})
    assert "It has no key yet" in browser.follow(answer).shown
    assert [one.keys for one in site.directory.list_slots("acme")] == [0]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "Not A Name"}, "A name of a-z"),
        ({"name": ""}, "A name of a-z"),
        ({"name": "there"}, "It has a slot there already."),
        ({"name": "new", "sessions_max": "many"}, 'id="h-sessions_max" class="bad"'),
        ({"name": "new", "sessions_max": "999999"}, "sessions"),
    ],
)
def test_a_mistake_is_said_and_nothing_is_lost(browser: Browser, site: Site, fields: dict[str, str], told: str) -> None:
    site.directory.add_slot("acme", "there")
    answer = add(browser, **fields)
    assert answer.status == 422
    assert told in answer.text
    for text in fields.values():
        assert f'value="{text}"' in answer.text
    assert [one.name for one in site.directory.list_slots("acme")] == ["there"]


def test_no_more_slots_than_the_plan_has_are_offered_or_added(browser: Browser, site: Site) -> None:
    site.directory.set_plan("one", Terms(slots=1))
    site.directory.assign_plan("acme", Agreed("one"))
    assert f'href="{NEW}"' in browser.get("/tenants/acme").text
    site.directory.add_slot("acme", "writer")
    assert f'href="{NEW}"' not in browser.get("/tenants/acme").text
    assert add(browser, name="second").status == 422
    assert len(site.directory.list_slots("acme")) == 1


def test_a_removed_slot_is_gone_with_its_keys(browser: Browser, site: Site) -> None:
    site.directory.add_slot("acme", "writer")
    site.directory.issue_key("acme", "writer", slot="writer")
    path = "/tenants/acme/slots/writer/remove"
    assert "its key is revoked" in browser.get(path).shown
    assert "keys revoked: 1" in browser.follow(browser.post(path)).shown
    assert site.directory.list_slots("acme") == []
    assert (browser.get(path).status, browser.post(path).status) == (404, 404)


def test_who_may_change_no_keys_sees_slots_and_no_way_to_change_them(app: Starlette, site: Site) -> None:
    site.directory.add_slot("acme", "writer")
    looks = signed_in(app, site, add_person(site, "vera", Role.VIEWER))
    page = looks.get("/tenants/acme").text
    assert "/t/acme.writer" in page
    assert "/slots/" not in page
    assert looks.post("/tenants/acme/slots/writer/remove").status == 403
    owner = signed_in(app, site)
    owner.get(NEW)
    owner.token = "0" * 64
    assert owner.post("/tenants/acme/slots/writer/remove").status == 403, "without the token of its own page"
    assert len(site.directory.list_slots("acme")) == 1


def test_the_guide_names_a_slots_endpoint_by_path_where_clients_have_host_names(site: Site) -> None:
    site.directory.add_slot("acme", "writer")
    [(_, plain)] = guide_facts(site, "acme").slots
    object.__setattr__(site.settings, "public_domain", "ai.example")
    facts = guide_facts(site, "acme")
    assert "acme.ai.example" in facts.endpoint
    assert facts.slots == (("writer", plain),)
