"""From rows and facts to alerts: each is raised once, whoever watches."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, event, insert, select

from tenantry.domain.alerts import Alert, AlertKind, Holder, budget_alerts
from tenantry.domain.budgets import Budget
from tenantry.domain.money import NANOS_PER_USD as USD
from tenantry.domain.plans import Terms
from tenantry.ledger.alerts import AlertWatch, open_watch
from tenantry.ledger.facts import HealthWatch, alerts_of_live
from tenantry.ledger.live import LIVE_FILE, read_live
from tenantry.ledger.outbox import AWAY_US, SECOND_US, Outbox
from tenantry.ledger.rollup import COLUMNS, add_to_rollup
from tenantry.storage.caps import read_budgets
from tenantry.storage.changes import StoreChanges
from tenantry.storage.directory import Directory
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.tables import alert_deliveries, alerts, ledger, refusals, upstreams
from tenantry.storage.vault import Vault
from tests.template import new_store

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * SECOND_US
DAY_US = 86_400 * SECOND_US
ZONE = ZoneInfo("UTC")


class Site:
    """A store with one tenant, a clock that a test sets, and rows on demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine: Engine = new_store(folder / "tenantry.db")
        self.directory = Directory(self.engine, Vault(bytes(32)), "test")
        self.directory.seed_tiers()
        self.directory.set_upstream("up", "http://127.0.0.1:1")
        self.tenant_id = self.directory.create_tenant("acme", "Acme", "standard")
        self.now_us = NOON_US
        self._rows = 0

    def watch(self) -> AlertWatch:
        journal, changes = self.folder / "journal", StoreChanges(self.engine)
        return open_watch(self.engine, ZONE, (70, 90, 100), self.folder, journal, lambda: self.now_us, changes)

    def spend(self, nanos: int | None, at_us: int | None = None, **columns: Any) -> None:
        self._rows += 1
        row: dict[str, Any] = {column.name: 0 for column in ledger.c if column.name.endswith(("tokens", "requests"))}
        row |= {
            "attempt_id": f"a{self._rows}",
            "request_id": "r",
            "tenant_id": self.tenant_id,
            "key_id": "key_1",
            "credential_id": "crd_1",
            "upstream_id": "ups_1",
            "model_requested": "claude-haiku-5-5",
            "model_served": "claude-haiku-5-5",
            "streaming": False,
            "begun_at_us": at_us or self.now_us,
            "ended_at_us": at_us or self.now_us,
            "outcome": "settled",
            "cost_nanos": nanos,
            "usage_raw": "",
            "journal_run": "run",
            "journal_seq": self._rows,
            "prev_hash": "",
            "row_hash": "",
        } | columns
        with self.engine.begin() as connection:
            connection.execute(insert(ledger).values(row))
            add_to_rollup(connection, [[row.get(name) for name in COLUMNS]])

    def told(self) -> list[tuple[str, Any]]:
        with self.engine.connect() as connection:
            rows = connection.execute(select(alerts).order_by(alerts.c.alert_id))
            return [(row.kind, json.loads(row.detail).get("threshold_percent", row.subject)) for row in rows]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.engine.dispose()


def thresholds_told(site: Site) -> list[int]:
    return [what for kind, what in site.told() if kind == "budget_threshold"]


def test_each_threshold_is_told_once_across_watches_and_restarts(site: Site) -> None:
    site.directory.set_budgets("acme", {"month": 50 * USD})
    one, two = site.watch(), site.watch()
    assert one.step() == 0
    site.spend(36 * USD)
    assert (one.step(), two.step(), one.step(), site.watch().step()) == (1, 0, 0, 0)
    site.spend(14 * USD)
    assert (two.step(), one.step(), site.watch().step()) == (2, 0, 0)
    assert thresholds_told(site) == [70, 90, 100]


@pytest.mark.parametrize(("overage", "words"), [("block", "requests are refused"), ("bill", "usage is billed")])
def test_what_a_plan_includes_is_told_at_80_and_100_percent_and_at_a_tenants_own(
    site: Site, overage: str, words: str
) -> None:
    site.directory.set_plan("pro", Terms(included_nanos=60 * USD, overage=overage))
    site.directory.assign_plan("acme", Agreed("pro", date(2026, 11, 1)))
    watch = site.watch()
    site.spend(48 * USD - 1)
    assert watch.step() == 0
    site.spend(1)
    assert (watch.step(), watch.step(), site.watch().step()) == (1, 0, 0)
    site.spend(12 * USD)
    assert (watch.step(), site.told()) == (1, [("plan_threshold", 80), ("plan_threshold", 100)])
    with site.engine.connect() as connection:
        told = connection.execute(select(alerts.c.message).order_by(alerts.c.alert_id.desc())).scalars().first()
    assert told == (
        "acme has used 100 % of what its plan pro includes: $60.00 of $60.00 (2026-11-01 to 2026-11-30); "
        f"beyond it {words}"
    )
    site.directory.set_thresholds("acme", [50])
    assert (watch.step(), site.told()[-1]) == (1, ("plan_threshold", 50))


def test_of_a_plan_that_begins_in_the_month_its_own_days_count(site: Site) -> None:
    site.directory.set_plan("pro", Terms(included_nanos=60 * USD, overage="throttle", throttle_tier="standard"))
    site.spend(50 * USD, NOON_US - 2 * DAY_US)
    site.directory.assign_plan("acme", Agreed("pro", date(2026, 11, 24)))  # a seventh of a month and two: 14 dollars
    site.spend(11 * USD)
    watch = site.watch()
    assert (watch.step(), site.told()) == (0, [])
    site.spend(1 * USD)
    assert (watch.step(), site.told()) == (1, [("plan_threshold", 80)])


def test_tokens_that_a_plan_includes_are_told_as_dollars_are(site: Site) -> None:
    site.directory.set_plan("tokens", Terms(included_tokens=1000, overage="block"))
    site.directory.assign_plan("acme", Agreed("tokens", date(2026, 11, 1)))
    site.spend(1, input_tokens=700, output_tokens=99)
    watch = site.watch()
    assert watch.step() == 0
    site.spend(1, cache_read_tokens=1)
    assert (watch.step(), site.told()) == (1, [("plan_threshold", 80)])


def test_one_row_among_many_tenants_looks_at_its_own_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        site.directory.create_tenant(f"other-{number}", "Other", "standard")
        site.directory.set_budgets(f"other-{number}", {"month": 50 * USD})
    site.directory.set_budgets("acme", {"month": 50 * USD})
    site.spend(1 * USD)
    watch, looked = site.watch(), list[str]()
    watch.step()

    def noted(holder: Holder, *rest: Any) -> Iterator[Alert]:
        looked.append(holder.slug)
        return budget_alerts(holder, *rest)

    monkeypatch.setattr("tenantry.ledger.alerts.budget_alerts", noted)
    site.spend(36 * USD)
    assert (watch.step(), looked) == (1, ["acme"])


def test_a_look_that_a_fault_cut_off_tells_the_rest_later(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.directory.set_budgets("acme", {"month": 50 * USD})
    watch = site.watch()
    watch.step()
    site.spend(36 * USD)
    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "raise_alert", lambda *_: 1 / 0)  # pyright: ignore[reportUnknownLambdaType] -- any fault
        with pytest.raises(ZeroDivisionError):
            watch.step()
    assert watch.step() == 1
    assert thresholds_told(site) == [70]


def test_a_client_that_is_made_while_a_look_reads_does_not_break_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.directory.set_budgets("acme", {"month": 50 * USD})
    site.spend(36 * USD)

    def making(connection: Connection) -> dict[tuple[str, str], Budget]:
        found = read_budgets(connection)
        site.directory.create_tenant(f"other-{len(site.directory.list_tenants())}", "Other", "standard")
        return found

    monkeypatch.setattr("tenantry.ledger.alerts.read_budgets", making)
    assert site.watch().step() == 1


@pytest.mark.sqlite
def test_nothing_is_read_while_nothing_is_written(site: Site) -> None:
    watch = site.watch()
    queries: list[str] = []
    watch.step()
    watch.step()
    event.listen(site.engine, "before_cursor_execute", lambda _1, _2, statement, *_: queries.append(statement))
    for _ in range(10):
        site.now_us += 500_000
        watch.step()
    assert queries == []
    site.spend(1)
    queries.clear()
    watch.step()
    assert queries
    queries.clear()
    watch.step()
    assert queries == []
    site.now_us += 60_000_000  # a period may have ended
    watch.step()
    assert queries


def test_watches_at_the_same_moment_raise_an_alert_once(site: Site) -> None:
    site.directory.set_budgets("acme", {"month": 50 * USD, "week": 50 * USD, "day": 50 * USD})
    site.directory.set_alert_target("ops", "webhook", "http://127.0.0.1:9/")
    site.spend(50 * USD)
    watches = [site.watch() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda watch: watch.step(), watches)) == 9
    assert sorted(thresholds_told(site)) == sorted([70, 90, 100] * 3)
    with site.engine.connect() as connection:
        assert len(connection.execute(select(alert_deliveries)).all()) == 9


def test_a_new_month_tells_again_and_a_clock_set_back_does_not(site: Site) -> None:
    site.directory.set_budgets("acme", {"month": 50 * USD})
    site.spend(36 * USD)
    watch = site.watch()
    watch.step()
    site.now_us += 7 * DAY_US  # in December
    watch.step()
    assert thresholds_told(site) == [70]
    site.spend(36 * USD)
    watch.step()
    assert thresholds_told(site) == [70, 70]
    site.now_us -= 7 * DAY_US
    watch.step()
    site.watch().step()
    assert thresholds_told(site) == [70, 70]


def test_a_lowered_budget_is_told_without_any_row_and_a_raised_one_is_not_told_again(site: Site) -> None:
    site.directory.set_budgets("acme", {"month": 100 * USD})
    site.spend(40 * USD)
    watch = site.watch()
    watch.step()
    assert thresholds_told(site) == []
    site.directory.set_budgets("acme", {"month": 50 * USD})
    watch.step()
    assert thresholds_told(site) == [70]
    site.directory.set_budgets("acme", {"month": 500 * USD})
    watch.step()
    site.directory.set_budgets("acme", {"month": 50 * USD})
    watch.step()
    assert thresholds_told(site) == [70]


def test_thresholds_are_armed_again_when_the_amount_changes(site: Site) -> None:
    site.directory.set_budgets("acme", {"month": 50 * USD})
    site.spend(48 * USD)
    watch = site.watch()
    watch.step()
    assert thresholds_told(site) == [70, 90]
    site.directory.set_budgets("acme", {"month": 60 * USD})
    for _ in range(2):
        watch.step()
        site.watch().step()
    assert thresholds_told(site) == [70, 90, 70]
    site.spend(10 * USD)
    watch.step()
    assert thresholds_told(site) == [70, 90, 70, 90]


def test_usage_that_cannot_be_read_is_told_once_a_day(site: Site) -> None:
    with site.engine.connect() as connection:
        upstream_id = connection.execute(select(upstreams.c.upstream_id)).scalar_one()
    for _ in range(2):
        site.spend(1, upstream_id=upstream_id, flaws="usage_unreadable")
        site.watch().step()
    assert [kind for kind, _ in site.told()] == ["usage_flawed"]


def test_the_end_of_a_raise_is_told_without_any_row(site: Site) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=30)
    site.now_us = int(ends.timestamp()) * SECOND_US - 10 * SECOND_US
    site.directory.set_budgets("acme", {"day": 50 * USD})
    site.directory.raise_budget("acme", "day", 100 * USD, ends)
    site.spend(45 * USD)
    watch = site.watch()
    watch.step()
    assert thresholds_told(site) == []
    site.now_us += 61 * SECOND_US
    site.spend(45 * USD)  # in case that was midnight
    watch.step()
    assert thresholds_told(site)[:2] == [70, 90]


def test_a_tenants_own_thresholds_replace_the_default_ones(site: Site) -> None:
    site.directory.set_budgets("acme", {"month": 50 * USD})
    site.directory.set_thresholds("acme", [50, 150])
    site.spend(40 * USD)
    watch = site.watch()
    watch.step()
    assert thresholds_told(site) == [50]
    site.directory.set_thresholds("acme", [])
    site.spend(60 * USD)
    watch.step()
    assert thresholds_told(site) == [50]
    site.directory.set_thresholds("acme", None)
    watch.step()
    assert thresholds_told(site) == [50, 70, 90, 100]


def test_a_key_is_measured_by_its_own_spending(site: Site) -> None:
    key_id = site.directory.issue_key("acme", "k").key_id
    site.directory.set_budgets("acme", {"month": 10 * USD}, key_id=key_id)
    watch = site.watch()
    site.spend(10 * USD)
    watch.step()
    assert thresholds_told(site) == []
    site.spend(7 * USD, key_id=key_id)
    watch.step()
    assert thresholds_told(site) == [70]


def test_what_is_held_for_attempts_without_a_price_counts_as_it_does_in_the_budget(site: Site) -> None:
    site.directory.set_budgets("acme", {"month": 10 * USD})
    watch = site.watch()
    watch.step()
    site.spend(None, outcome="unpriced", held_nanos=7 * USD)
    watch.step()
    assert thresholds_told(site) == [70]
    site.spend(2 * USD)
    watch.step()
    assert thresholds_told(site) == [70, 90]
    assert site.watch().step() == 0  # one that sums anew finds no more


def test_a_spike_and_a_projection_are_told_once(site: Site) -> None:
    site.directory.set_budgets("acme", {"month": 1000 * USD})
    for day in range(1, 15):
        site.spend(10 * USD, site.now_us - day * DAY_US)
    watch = site.watch()
    watch.step()
    assert site.told() == []
    site.spend(20 * USD)
    site.now_us += 60 * SECOND_US
    watch.step()
    assert site.told() == [("spend_spike", "acme")]
    site.directory.set_budgets("acme", {"month": 220 * USD})  # 160 are spent, and 6.5 days of 10 to come
    site.now_us += 60 * SECOND_US
    watch.step()
    site.now_us += 60 * SECOND_US
    watch.step()
    site.watch().step()
    assert [one for one in site.told() if one[0] != "budget_threshold"] == [
        ("spend_spike", "acme"),
        ("budget_projected", "acme"),
    ]


def test_an_unpriced_model_and_a_refused_credential_are_told_once(site: Site) -> None:
    credential_id = site.directory.add_credential("acme-key", "sk-ant-api-canary-1234", "up")
    watch = site.watch()
    site.spend(None, outcome="unpriced", model_served="claude-next-9")
    site.spend(0, outcome="voided", status=401, error="authentication_error", credential_id=credential_id)
    watch.step()
    site.spend(None, outcome="unpriced", model_served="claude-next-9")
    watch.step()
    site.watch().step()
    assert site.told() == [("unpriced_model", "claude-next-9"), ("credential_dead", "acme-key")]
    site.now_us += AWAY_US + SECOND_US
    site.watch().step()  # an old row says nothing of now
    assert len(site.told()) == 2


def test_refusals_by_a_budget_are_told_once_a_day(site: Site) -> None:
    def refuse(run: str, reason: str) -> None:
        with site.engine.begin() as connection:
            connection.execute(
                insert(refusals).values(
                    run_id=run, tenant_id=site.tenant_id, reason=reason, count=1, last_at_us=site.now_us
                )
            )

    watch = site.watch()
    refuse("r1", "sessions_max")
    refuse("r1", "budget_in_use")
    watch.step()
    assert site.told() == []
    refuse("r1", "budget")
    watch.step()
    refuse("r2", "key.budget")
    watch.step()
    assert site.told() == [("budget_refusals", "acme")]
    site.now_us += DAY_US
    watch.step()
    assert len(site.told()) == 1
    refuse("r3", "budget")
    watch.step()
    assert len(site.told()) == 2


def test_a_condition_is_told_again_only_after_it_was_away(site: Site) -> None:
    outbox = Outbox(site.engine)
    down = Alert(AlertKind.UPSTREAM_DOWN, "anthropic", "down")
    at_us = NOON_US
    assert outbox.raise_alert(down, at_us)
    for _ in range(20):  # an outage that lasts longer than the pause
        at_us += AWAY_US // 2
        assert not outbox.raise_alert(down, at_us)
    assert not outbox.raise_alert(down, at_us - 3600 * SECOND_US)  # a clock set back
    assert outbox.raise_alert(down, at_us + AWAY_US + SECOND_US)
    assert len(site.told()) == 2


def live_run(folder: Path, document: object) -> int:
    run = folder / "journal" / "gateway-1"
    run.mkdir(parents=True)
    lock = os.open(run / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (run / LIVE_FILE).write_text(json.dumps(document) + "\n")
    return lock


def test_health_counts_when_seen_twice_and_a_dead_run_says_nothing(tmp_path: Path) -> None:
    lock = live_run(
        tmp_path,
        {"line": "head", "at": time.time(), "health": {"journal_works": False, "upstreams_down": ["anthropic"]}},
    )
    watch = HealthWatch(tmp_path, tmp_path / "journal")
    assert list(watch.look(0)) == []
    assert list(watch.look(1)) == []  # too soon to be another look
    assert [alert.kind.value for alert in watch.look(2 * SECOND_US)] == ["journal_trouble", "upstream_down"]
    os.close(lock)
    assert list(watch.look(4 * SECOND_US)) == []


def test_a_live_gateway_that_stopped_writing_its_facts_is_journal_trouble(tmp_path: Path) -> None:
    lock = live_run(tmp_path, {"line": "head", "at": 1, "health": {}})
    watch = HealthWatch(tmp_path, tmp_path / "journal")
    list(watch.look(0))
    assert [alert.kind.value for alert in watch.look(2 * SECOND_US)] == ["journal_trouble"]
    os.close(lock)


@pytest.mark.parametrize(
    ("health", "kinds"),
    [
        ({}, []),
        ({"journal_works": True, "upstreams_down": [], "credentials_dead": {}}, []),
        ({"credentials_dead": {"acme": "2026-12-01T00:00:00Z", "b": None}}, ["credential_dead", "credential_dead"]),
        ({"credentials_dead": {"acme": "2026-11-24T12:00:30+00:00"}}, []),  # refused: its row tells that
        ({"journal_works": None, "upstreams_down": None, "credentials_dead": []}, []),
        ({"journal_works": "no", "upstreams_down": "anthropic"}, []),
        ([1], []),
        ("x", []),
    ],
)
def test_what_is_missing_or_malformed_is_unknown(tmp_path: Path, health: object, kinds: list[str]) -> None:
    lock = live_run(tmp_path, {"line": "head", "at": time.time(), "health": health})
    [gateway] = read_live(tmp_path / "journal")
    assert [alert.kind.value for alert in alerts_of_live(gateway, NOON)] == kinds
    os.close(lock)


def test_a_tenants_target_gets_its_own_alerts_and_kinds_choose(site: Site) -> None:
    site.directory.create_tenant("other", "Other", "standard")
    site.directory.set_alert_target("agency", "webhook", "http://127.0.0.1:9/")
    site.directory.set_alert_target("acme-contact", "webhook", "http://127.0.0.1:9/", "acme")
    site.directory.set_alert_target("other-contact", "webhook", "http://127.0.0.1:9/", "other")
    site.directory.set_alert_target("pager", "webhook", "http://127.0.0.1:9/", kinds=["upstream_down"])
    outbox = Outbox(site.engine)
    outbox.raise_alert(Alert(AlertKind.SPEND_SPIKE, "acme", "m", "o1", site.tenant_id, "acme"), NOON_US)
    outbox.raise_alert(Alert(AlertKind.UPSTREAM_DOWN, "anthropic", "m"), NOON_US)
    names = {row.target_id: row.name for row in site.directory.list_alert_targets()}
    found = {(due.kind, names[due.target_id]) for due in outbox.list_due(NOON_US)}
    assert found == {
        ("spend_spike", "agency"),
        ("spend_spike", "acme-contact"),
        ("upstream_down", "agency"),
        ("upstream_down", "pager"),
    }
    counts = {row.kind: (row.sent, row.waiting) for row in outbox.list_alerts()}
    assert counts == {"spend_spike": (0, 2), "upstream_down": (0, 2)}
    assert [row.kind for row in outbox.list_alerts(site.tenant_id)] == ["spend_spike"]
