"""Two control processes behind one address: whichever a request comes to, it is the same site."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.control.exporting import Exporter
from tenantry.control.isolation.prover import PROOF
from tenantry.control.people.links import first_link
from tenantry.control.site import Site, host
from tenantry.control.tasks import Progress
from tenantry.web.app import control_app
from tenantry.web.signin.throttle import NAME_GUESSES
from tests.browser import Browser, signed_in
from tests.stack import wait_for
from tests.unit.ledger.books import attempt, book
from tests.unit.web.signin.test_entering import PASSWORD, ana, code_of, enter, with_second_factor

NEW_SLOT = "/tenants/acme/slots/new"


@pytest.fixture
def beside(site: Site, tmp_path: Path) -> Site:
    """The site as another machine has it: the same store and master key, and a data directory of its own."""
    folder = tmp_path / "beside"
    folder.mkdir()
    return replace(site, settings=replace(site.settings, data_dir=folder))


def test_a_session_a_form_and_its_token_are_good_at_both_and_a_form_is_taken_once(
    app: Starlette, site: Site, beside: Site
) -> None:
    here = signed_in(app, site)
    there = Browser(control_app(beside), cookies=here.cookies)
    told = dict(re.findall(r'name="(once)" value="(\w+)"', here.get(NEW_SLOT).text)) | {"name": "writer", "key": "yes"}
    there.token = here.token
    assert there.post(NEW_SLOT, told).status == 200
    assert here.post(NEW_SLOT, told).status == 303, "sent again, it does nothing again"
    assert [slot.keys for slot in site.directory.list_slots("acme")] == [1]
    assert "writer" in here.get("/tenants/acme").shown
    here.post("/signout")
    assert there.get("/tenants/acme").status == 303


def test_guesses_at_one_are_counted_at_the_other_and_who_is_known_there_is_known_here(
    app: Starlette, site: Site, beside: Site
) -> None:
    ana(app, site)
    other = control_app(beside)
    other.state.passwords = app.state.passwords
    assert enter(Browser(app, address="192.0.2.1")).status == 303
    statuses = [
        enter(Browser((app, other)[number % 2], address=f"198.51.100.{number}"), "wrong").status
        for number in range(NAME_GUESSES + 2)
    ]
    assert statuses == [422] * NAME_GUESSES + [429] * 2
    assert enter(Browser(other, address="192.0.2.1")).status == 303


def test_a_task_of_one_is_shown_by_the_other_with_the_machine_that_has_its_report(
    app: Starlette, site: Site, beside: Site
) -> None:
    other = signed_in(control_app(beside), site)
    done: dict[str, object] = {"run": "prf_1", "report": "prf_1.html", "verdict": "PASS", "groups": [], "seconds": 1}
    done |= {"started_at": "now", "tenants": []}
    go_on = threading.Event()

    def work(tell: Progress) -> dict[str, object]:
        tell("PASS    keys (2 checks)")
        go_on.wait()
        return done

    app.state.tasks.start(PROOF, "web:ana", work)
    wait_for(lambda: "keys (2 checks)" in other.get("/isolation").shown, what="the proof at the other control")
    go_on.set()
    wait_for(lambda: f"on the machine {host()}. The report lies there" in other.get("/isolation").shown, what="its end")
    answer = other.get("/isolation/report")
    assert answer.status == 404
    assert f"lies on the machine {host()}" in answer.shown


def test_a_link_and_a_code_work_once_at_both_together(app: Starlette, site: Site, beside: Site) -> None:
    other = control_app(beside)
    link = first_link(site)
    assert link is not None
    token = link.partition("link=")[2]
    fields = {"link": token, "name": "ben", "password": PASSWORD, "again": PASSWORD}
    browsers = [Browser(one) for one in (other, app)]
    assert [one.get(f"/welcome?link={token}").status for one in browsers] == [200, 200]
    assert [one.post("/welcome", fields).status for one in browsers] == [303, 410]
    code = code_of(with_second_factor(site, ana(app, site)))
    for one, expected in ((app, 303), (other, 422)):
        browser = Browser(one)
        enter(browser)
        browser.get("/signin/totp")
        assert browser.post("/signin/totp", {"code": code}).status == expected


def test_a_file_that_another_machine_exported_is_made_here_to_the_byte_or_told_where_it_lies(
    app: Starlette, site: Site, beside: Site, tmp_path: Path
) -> None:
    book(site.engine, tmp_path, [attempt(1), attempt(2, tenant="tnt_b")])
    Exporter(site.engine, site.settings).step(datetime(2026, 11, 9, 2, tzinfo=UTC))
    browser = signed_in(control_app(beside), site)
    name = "usage-2026-W45.csv"
    answer = browser.get(f"/exports/file/{name}")
    assert (answer.status, answer.body) == (200, (site.settings.data_dir / "exports" / name).read_bytes())
    (beside.settings.data_dir / "exports" / name).unlink()
    book(site.engine, tmp_path / "late", [attempt(3)])
    late = browser.get(f"/exports/file/{name}")
    assert late.status == 409
    assert "was corrected since" in late.shown
    assert not (beside.settings.data_dir / "exports" / name).exists()
