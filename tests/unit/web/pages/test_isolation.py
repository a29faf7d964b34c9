"""The proof of isolation on its page, and of the same run in the admin API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.control.isolation import prover
from tenantry.control.isolation.findings import Group, Report
from tenantry.control.isolation.stage import PROVES, Listener, Options
from tenantry.control.isolation.waiting import ProofImpossible
from tenantry.control.site import Site
from tenantry.control.tasks import RUNNING
from tenantry.domain.roles import Role
from tests.browser import signed_in
from tests.stack import wait_for
from tests.unit.web.api_site import Served, served


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def ended(api: Served) -> None:
    wait_for(lambda: api.app.state.tasks.list()[0].state != RUNNING, 60, "the proof")


def test_the_page_and_the_api_follow_one_and_the_same_run(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, asked = threading.Event(), list[Options]()
    group = Group("identity", PROVES["identity"], is_done=True)
    group.add("a key & <b>", "401", "200", ok=False)

    def prove(site: Site, options: Options, listener: Listener) -> Report:
        asked.append(options)
        listener.came(0.4)
        listener.ended(group)
        go_on.wait()
        site.directory.audit("isolation.verify", "run_1", {"verdict": "FAIL"})
        return Report("run_1", "2026-11-29T00:00:00Z", "1", "http://127.0.0.1:9", [], "probes", [group], 1.5)

    monkeypatch.setattr(prover, "prove", prove)
    browser = signed_in(api.app, api.site)
    browser.post("/isolation", {"how": "quick"})
    wait_for(lambda: api.app.state.tasks.list()[0].progress, 60, "the first group")
    page = browser.get("/isolation")
    assert 'value="40"' in page.text
    assert f"1 of {len(PROVES)} shown" in page.shown
    assert f"FAIL {PROVES['identity']}" in page.shown
    [task] = api.ask("GET", "/tasks").document["data"]
    assert (task["kind"], task["share"], task["progress"][0][:4]) == ("proof", 0.4, "FAIL")
    assert api.ask("POST", "/proofs", {"quick": True}).status == 409
    assert "runs already" in browser.follow(browser.post("/isolation")).shown
    go_on.set()
    ended(api)
    page = browser.get("/isolation")
    assert "Something came through" in page.shown
    assert "a key & <b>: expected 401, seen 200" in page.shown
    report = api.ask("GET", "/tasks").document["data"][0]["result"]["report"]
    assert api.ask("GET", f"/proofs/{report}").body == browser.get("/isolation/report").body
    assert asked == [Options(quick=True)]
    assert api.site.directory.newest_audit(1, action="isolation.verify")[0].actor == task["by"]


def test_a_proof_that_could_not_be_run_says_why(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def prove(*_: object) -> Report:
        raise ProofImpossible("no gateway answers\nmore of it")

    monkeypatch.setattr(prover, "prove", prove)
    browser = signed_in(api.app, api.site)
    assert browser.get("/isolation/report").status == 404
    browser.post("/isolation")
    ended(api)
    assert "could not be run: no gateway answers" in browser.get("/isolation").shown
    assert browser.get("/isolation/report").status == 404


def test_what_the_pages_began_is_among_the_tasks_of_the_api(api: Served) -> None:
    signed_in(api.app, api.site).post("/recompute")
    ended(api)
    assert [one["kind"] for one in api.ask("GET", "/tasks").document["data"]] == ["recomputation"]


def test_what_a_later_version_runs_is_left_out_of_the_tasks(api: Served) -> None:
    signed_in(api.app, api.site).post("/recompute")
    ended(api)
    api.app.state.tasks.start("work of a later version", "web:ana", lambda _: {})
    ended(api)
    later, known = api.app.state.tasks.list()
    assert [one["task_id"] for one in api.ask("GET", "/tasks").document["data"]] == [known.task_id]
    assert api.ask("GET", f"/tasks/{later.task_id}").status == 404


def test_a_task_is_for_who_may_begin_one_like_it(api: Served) -> None:
    signed_in(api.app, api.site).post("/recompute")
    ended(api)
    (task,) = api.app.state.tasks.list()
    for role, status in ((Role.OWNER, 200), (Role.BILLING, 200), (Role.OPERATOR, 403), (Role.VIEWER, 403)):
        token = api.site.directory.create_admin(f"all-{role}", None, role)
        assert api.ask("GET", f"/tasks/{task.task_id}", token=token).status == status
        found = api.ask("GET", "/tasks", token=token).document["data"]
        assert [one["task_id"] for one in found] == [task.task_id] * (status == 200)
