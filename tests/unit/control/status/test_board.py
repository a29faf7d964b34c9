"""What the status page tells of a service that was up, impaired, down, and not looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tenantry.control.site import Site
from tenantry.control.status import board, looking
from tenantry.control.status.board import Boards, board_of
from tenantry.control.status.looking import GATEWAY, MODELS, Look, Watch, judge, look
from tenantry.ledger.live import Live, LiveGateway, LiveHead, LiveHealth
from tenantry.storage.cell_tables import gateways
from tenantry.storage.leases import Lease, LeaseStore
from tenantry.storage.portal_tables import status_days, status_incidents
from tenantry.storage.status_log import DAY_MINUTES, DOWN, IMPAIRED, KEPT_DAYS, UP, StatusLog
from tenantry.web.app import control_app
from tests.browser import Browser
from tests.unit.web.pages.conftest import make_site

NOON = int(datetime(2026, 11, 29, 12, 0, tzinfo=UTC).timestamp() // 60)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("status"))


@pytest.fixture
def site(made: Site) -> Site:
    with made.engine.begin() as connection:
        for table in (status_days, status_incidents, gateways):
            connection.execute(table.delete())
    return made


def gateway(*, age: float | None = 1.0, down: tuple[str, ...] = (), journal_works: bool = True) -> LiveGateway:
    health = LiveHealth(upstreams_down=list(down), journal_works=journal_works)
    told = Live(0.0, {}, {}, health, LiveHead(0.0, health)) if age is not None else None
    return LiveGateway("run", told, age, 0.0)


@pytest.mark.parametrize(
    ("gateways", "found"),
    [
        ([], {GATEWAY: DOWN}),
        ([gateway(age=None)], {GATEWAY: DOWN}),
        ([gateway(age=60.0)], {GATEWAY: DOWN}),
        ([gateway()], {GATEWAY: UP, MODELS: UP}),
        ([gateway(), gateway(age=60.0)], {GATEWAY: IMPAIRED, MODELS: UP}),
        ([gateway(journal_works=False)], {GATEWAY: DOWN, MODELS: UP}),
        ([gateway(down=("one",))], {GATEWAY: UP, MODELS: IMPAIRED}),
        ([gateway(down=("one", "two"))], {GATEWAY: UP, MODELS: DOWN}),
        ([gateway(down=("one", "two")), gateway()], {GATEWAY: UP, MODELS: IMPAIRED}),
        ([gateway(down=("one (crd_canary)",))], {GATEWAY: UP, MODELS: UP}),
        ([gateway(down=("elsewhere",))], {GATEWAY: UP, MODELS: UP}),
    ],
)
def test_what_gateways_tell_is_judged(gateways: list[LiveGateway], found: dict[str, str]) -> None:
    assert judge(gateways, {"one", "two"}) == found


def test_a_site_without_a_gateway_is_down_and_its_models_are_unknown(site: Site) -> None:
    assert look(site).states == {GATEWAY: DOWN}
    found = board_of(site, NOON * 60)
    assert [one.state for one in found.parts] == [DOWN, "unknown"]
    assert found.state == DOWN


def test_while_no_control_tells_of_gateways_that_live_nothing_is_known(site: Site) -> None:
    """Those of another machine, whose control is being started."""
    leases = LeaseStore(site.engine)
    leases.join(Lease("elsewhere", 3600 * 1_000_000), "", "web-2", 1)
    assert look(site).states == {}
    leases.end(["elsewhere"])
    assert look(site).states == {GATEWAY: DOWN}


def test_a_watch_counts_each_minute_once_and_what_it_missed_is_unknown(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, states = [NOON * 60.0], {GATEWAY: UP, MODELS: UP}

    def looked(_site: Site) -> Look:
        return Look(dict(states))

    monkeypatch.setattr(looking, "look", looked)
    watch, other = Watch(site, lambda: now[0]), Watch(site, lambda: now[0])
    for minute in range(10):
        now[0] = (NOON + minute) * 60.0
        states[GATEWAY] = DOWN if minute in (4, 5, 6) else UP
        assert watch.is_due()
        watch.step()
        assert not watch.is_due()
        other.step()
    now[0] += 20 * 60  # control was not there
    watch.step()
    monkeypatch.setattr(board, "look", looked)
    found = board_of(site, now[0])
    today = found.parts[0].days[-1]
    assert (today.up, today.impaired, today.down) == (8, 0, 3)
    assert today.unknown == 12 * 60 + 30 - 11
    assert found.parts[0].percent == "72.72 %"
    assert found.parts[1].percent == "100.00 %"
    assert found.parts[0].days[0].state == "unknown"
    (incident,) = found.incidents
    assert (incident.name, incident.worst, incident.minutes) == ("Gateway", DOWN, 3)
    assert incident.ended_at is not None


def test_an_incident_gets_worse_goes_on_and_is_another_after_a_time_without_a_look(site: Site) -> None:
    log = StatusLog(site.engine)
    for minute, state in ((0, IMPAIRED), (1, DOWN), (2, IMPAIRED), (60, DOWN), (61, DOWN)):
        log.note(NOON + minute, {MODELS: state})
    found = board_of(site, (NOON + 61) * 60).incidents
    assert [(one.worst, one.minutes, one.ended_at is None) for one in found] == [(DOWN, 2, True), (DOWN, 3, False)]


def test_an_incident_is_not_longer_than_it_was_seen(site: Site) -> None:
    log = StatusLog(site.engine)
    for minute, state in ((0, DOWN), (1, DOWN), (600, UP)):
        log.note(NOON + minute, {GATEWAY: state})
    (found,) = board_of(site, (NOON + 600) * 60).incidents
    assert found.minutes == 2
    assert found.ended_at is not None


def test_one_look_that_fell_into_a_restart_is_no_incident(site: Site) -> None:
    log = StatusLog(site.engine)
    for minute, state in ((0, UP), (1, DOWN), (2, UP)):
        log.note(NOON + minute, {GATEWAY: state})
    found = board_of(site, (NOON + 2) * 60)
    assert found.incidents == []
    assert found.parts[0].days[-1].down == 1


def test_what_is_older_than_the_page_is_forgotten(site: Site) -> None:
    log = StatusLog(site.engine)
    long_ago = NOON - (KEPT_DAYS + 1) * DAY_MINUTES
    for minute in (long_ago, long_ago + 1, NOON):
        log.note(minute, {GATEWAY: DOWN})
    assert len(log.read_days(datetime(2000, 1, 1, tzinfo=UTC).date())) == 1
    assert [one.began_minute for one in log.read_incidents(0, 10)] == [NOON]


def test_however_many_ask_one_look_is_made(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = [NOON * 60.0], list[int]()

    def counted(_site: Site) -> Look:
        looks.append(1)
        return Look({GATEWAY: UP, MODELS: UP})

    monkeypatch.setattr(board, "look", counted)
    boards = Boards(site, lambda: now[0])
    for _ in range(5):
        boards.read()
    now[0] += 60
    assert boards.read().state == UP
    assert len(looks) == 2


def test_the_page_is_for_everybody_and_names_nobody(site: Site) -> None:
    log = StatusLog(site.engine)
    for minute in range(3):
        log.note(int(datetime.now(UTC).timestamp() // 60) - minute - 1, {GATEWAY: UP, MODELS: UP})
    opened = control_app(replace(site, settings=replace(site.settings, status_page=True, portal_name="Bright")))
    browser = Browser(opened)
    page, told = browser.get("/status"), browser.get("/status.json")
    for answer in (page, told):
        assert answer.status == 200
        assert answer.cookies_set == []
        assert answer.header("cache-control") == "public, max-age=30"
        assert answer.header("set-cookie") is None
        for word in ("acme", "globex", "sandbox", "anthropic"):
            assert word not in answer.text.lower()
    assert "<script" not in page.text
    assert "The service is down" in page.shown
    assert '"state":"down"' in told.text
    assert '"service":"Bright"' in told.text


def test_without_the_setting_there_is_no_page(site: Site) -> None:
    browser = Browser(control_app(site))
    assert browser.get("/status").status == 404
    assert browser.get("/status.json").status == 404
