"""What a gateway starts with is what the one before it had counted: booked, still in journals, or lost."""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event

from tenantry.domain.attempts import AttemptBegun, AttemptProgress, Outcome
from tenantry.domain.budgets import Budget
from tenantry.domain.holds import Account
from tenantry.domain.opening import Opening
from tenantry.domain.orphans import LastSigns
from tenantry.domain.usage import Usage
from tenantry.ledger.adjustments import Scope, adjustments_since, book_adjustments, recompute
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter, is_alive, last_signs
from tenantry.ledger.opening import costs_of, open_counters
from tenantry.ledger.verification import verify
from tests.unit.ledger.books import HOUR_US, MODEL, PRICES, START_US, Attempt, attempt, book, new_store, rows
from tests.unit.ledger.test_adjustments import table

ZONE = ZoneInfo("UTC")
DAY_US = 24 * HOUR_US
# A Wednesday: its day, week and month have begun at different times.
NOW_US = START_US + 2 * DAY_US + 5 * HOUR_US
KINDS = ("day", "week", "month")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "x.db")
    yield made
    made.dispose()


def opened(engine: Engine, folder: Path, at_us: int = NOW_US) -> Opening:
    return open_counters(engine, folder / "journal", PRICES, ZONE, at_us)


def account(opening: Opening, tenant_id: str = "tnt_a", key_id: str = "") -> Account:
    return Account("x", Budget((), "hard"), ZONE, opening.of(tenant_id, key_id), opening.at_us)


def unpriced(number: int, held_nanos: int, at_us: int = NOW_US) -> Attempt:
    return attempt(
        number,
        at_us,
        outcome=Outcome.UNPRICED,
        cost_nanos=None,
        held_nanos=held_nanos,
        model_served="claude-new-1",
        usage_raw='{"input_tokens": 1000, "output_tokens": 10}',
    )


def test_the_opening_is_what_the_running_counters_were_for_every_outcome(engine: Engine, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    running = account(Opening(START_US))
    attempts: list[Attempt] = []
    for number in range(200):
        at_us = START_US + number * (NOW_US - START_US) // 200
        outcome = chance.choice([one for one in Outcome if one is not Outcome.ADJUSTED])
        cost = 0 if outcome is Outcome.VOIDED else chance.randrange(10**9)
        made = attempt(number, at_us, outcome=outcome, cost_nanos=cost)
        if outcome is Outcome.UNPRICED:
            made = unpriced(number, cost, at_us)
        running.spend(made[1].counted_nanos, at_us)
        attempts.append(made)
    running.advance(NOW_US)
    book(engine, tmp_path, attempts[:100], "gateway-1")
    writer = JournalWriter(tmp_path / "journal", "gateway-2")
    for begun, end in attempts[100:]:
        writer.begin(begun)
        writer.end(end)
    writer.close()
    for _ in range(2):  # from lines, then from rows
        opening = opened(engine, tmp_path)
        assert opening.of("tnt_a") == opening.of("tnt_a", "key_1") == running.spent
        Drain(engine, tmp_path / "journal", PRICES).step()
    assert len(rows(engine)) == 200


def test_what_another_gateway_left_is_told_in_money_and_tokens_from_lines_as_from_rows(
    engine: Engine, tmp_path: Path
) -> None:
    usage = Usage(input_tokens=1000, cache_read_tokens=200, cache_write_1h_tokens=30, output_tokens=4)
    writer = JournalWriter(tmp_path / "journal", "gateway-1")
    begun, end = attempt(1, NOW_US, usage=usage, cost_nanos=7)
    writer.begin(begun)
    writer.end(end)
    writer.close()
    for _ in range(2):
        assert costs_of(engine, tmp_path / "journal", PRICES, ["att_1", "att_2"]) == {"att_1": (7, 1234, NOW_US)}
        Drain(engine, tmp_path / "journal", PRICES).step()


BEGUN = AttemptBegun(
    "a1", "req_1", "tnt_a", "key_1", "crd", "ups", MODEL, True, NOW_US, 9_000, speed="fast", inference_geo="us"
)


@pytest.mark.parametrize(
    ("progress", "cost"),
    [
        (None, 9_000),  # nothing was told: its bound
        (AttemptProgress("a1", MODEL, Usage(input_tokens=1), held_nanos=5_000_000), 5_000_000),  # what was held
        (AttemptProgress("a1", "claude-new-1", Usage(input_tokens=1), held_nanos=70), 70),  # no price is known
    ],
)
def test_an_orphan_is_booked_at_its_best_estimate_in_opening_and_ledger_alike(
    engine: Engine, tmp_path: Path, progress: AttemptProgress | None, cost: int
) -> None:
    writer = JournalWriter(tmp_path / "journal", "gateway")
    writer.begin(BEGUN)
    if progress is not None:
        writer.progress(replace(progress, held_nanos=1))
        writer.progress(progress)
    writer.close()
    at_us = wall_us()
    assert opened(engine, tmp_path, at_us).of("tnt_a") == dict.fromkeys(KINDS, cost)
    Drain(engine, tmp_path / "journal", PRICES).step()
    [row] = rows(engine)
    assert (row["outcome"], row["cost_nanos"], row["basis"], row["error"]) == (
        "orphaned",
        cost,
        "bound",
        "gateway_died",
    )
    assert opened(engine, tmp_path, at_us).of("tnt_a") == dict.fromkeys(KINDS, cost)


def test_an_orphan_is_booked_at_the_time_at_which_its_gateway_was_last_seen(engine: Engine, tmp_path: Path) -> None:
    """A gateway that was stopped for a minute, and then killed: its control process saw it alive until the end."""
    begun_us = wall_us() - 62_050_000  # a file's time is some milliseconds behind
    begun = replace(
        BEGUN, begun_at_us=begun_us, speed="standard", output_nanos=10, output_tokens=3_000, output_tokens_max=64_000
    )
    writer = JournalWriter(tmp_path / "journal", "gateway")
    writer.begin(begun)
    writer.flush()
    [run] = (tmp_path / "journal").iterdir()
    for path in run.iterdir():
        os.utime(path, ns=(0, (begun_us + 2_000_000) * 1000))
    assert is_alive(run)
    writer.close()
    at_us = wall_us()
    found = opened(engine, tmp_path, at_us).of("tnt_a")["day"]
    least = 9_000 + 10 * (62 * 150 + 1024 - 3_000)
    assert least <= found <= least + 10 * 150 * 30
    Drain(engine, tmp_path / "journal", PRICES).step()
    [row] = rows(engine)
    assert row["cost_nanos"] == found == opened(engine, tmp_path, at_us).of("tnt_a")["day"]


def test_a_gateway_that_nobody_saw_may_have_lived_until_it_was_found_dead(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wrote and was seen for two seconds and was found dead a minute later: it may have been stopped meanwhile. More
    than was held is not booked, for then each kill could pass a budget.
    """
    begun_us = wall_us() - 62_000_000
    begun = replace(
        BEGUN, begun_at_us=begun_us, speed="standard", output_nanos=10, output_tokens=3_000, output_tokens_max=64_000
    )
    writer = JournalWriter(tmp_path / "journal", "gateway")
    writer.begin(begun)
    writer.close()
    [run] = (tmp_path / "journal").iterdir()
    for path in run.iterdir():
        os.utime(path, ns=(0, (begun_us + 2_000_000) * 1000))
    at_us = wall_us()
    found = opened(engine, tmp_path, at_us).of("tnt_a")["day"]
    assert found == 9_000
    mark = (run / "found_dead").stat().st_mtime_ns // 1000
    # However late it is booked, the same is booked as was counted.
    monkeypatch.setattr("tenantry.ledger.journal.time.time_ns", lambda: (mark + 3600 * 10**6) * 1000)
    Drain(engine, tmp_path / "journal", PRICES).step()
    monkeypatch.undo()
    assert rows(engine)[0]["cost_nanos"] == found


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("seen_s", "booted_s", "found_s", "until_s"),
    [
        (100, 0, 102, 100),  # somebody looked each second
        (100, 0, 160, 160),  # nobody did
        (100, 130, 160, 130),  # the machine was started again meanwhile
        (100, 130, 101, 100),  # a clock that was set back
    ],
)
def test_until_when_a_dead_run_may_have_lived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen_s: int, booted_s: int, found_s: int, until_s: int
) -> None:
    for name in ("lock", "000001.log", "found_dead"):
        at_s = found_s if name == "found_dead" else seen_s
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at_s, at_s))
    monkeypatch.setattr("tenantry.ledger.journal._booted_us", lambda: booted_s * 10**6)
    assert last_signs(tmp_path) == LastSigns(seen_s * 10**6, until_s * 10**6, seen_s * 10**6)


def test_a_run_that_is_booked_and_removed_while_the_counters_open_counts_once(engine: Engine, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal", "gateway-1")
    for begun, end in [attempt(number, NOW_US, cost_nanos=700) for number in range(3)]:
        writer.begin(begun)
        writer.end(end)
    writer.close()
    drain = Drain(engine, tmp_path / "journal", PRICES)
    steps = [drain.step]

    def book_meanwhile(*_: object) -> None:
        """Control does so between the gateway's listing of the runs and its look at this one."""
        if steps:
            steps.pop()()

    event.listen(engine, "before_cursor_execute", book_meanwhile)
    assert opened(engine, tmp_path).of("tnt_a")["day"] == 2100
    assert not list((tmp_path / "journal").iterdir())


def wall_us() -> int:
    """An orphan ends when it is found, a correction when it is booked: by the clock of the machine."""
    return time.time_ns() // 1000


def at_of(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC)


@pytest.mark.parametrize("speed", ["standard", "fast"])
@pytest.mark.parametrize("geo", ["global", "us"])
def test_the_same_prices_change_no_orphan(engine: Engine, tmp_path: Path, speed: str, geo: str) -> None:
    writer = JournalWriter(tmp_path / "journal", "gateway")
    usage = Usage(input_tokens=100_000, output_tokens=500, speed=speed, inference_geo=geo)
    for number, model in enumerate((MODEL, "claude-opus-5-5", "claude-new-1")):
        for held in (0, 1, 10**10):
            begun = replace(BEGUN, attempt_id=f"a{number}-{held}", model_requested=model, bound_nanos=held)
            writer.begin(begun)
            writer.begin(replace(begun, attempt_id=f"silent{number}-{held}"))
            writer.progress(AttemptProgress(begun.attempt_id, model, usage, None, held))
    writer.close()
    Drain(engine, tmp_path / "journal", PRICES).step()
    assert len(rows(engine)) == 18
    assert [one for one in recompute(engine, PRICES, Scope()) if one.attempts] == []
    assert book_adjustments(engine, table("v9", 7), Scope()) == 0  # what was held does not follow from prices


def test_what_was_told_is_never_booked_below_its_price(engine: Engine, tmp_path: Path) -> None:
    usage = Usage(input_tokens=100_000, output_tokens=500)
    writer = JournalWriter(tmp_path / "journal", "gateway")
    writer.begin(replace(BEGUN, speed="standard", inference_geo="us"))
    writer.progress(AttemptProgress("a1", MODEL, usage, None, 1))
    writer.close()
    Drain(engine, tmp_path / "journal", PRICES).step()
    us = replace(usage, inference_geo="us")  # as it was asked for: the answer had not told its place yet
    assert rows(engine)[0]["cost_nanos"] == PRICES.price(us, MODEL, at_of(NOW_US)).cost_nanos


def test_a_correction_reaches_a_running_budget_as_the_next_opening_has_it(engine: Engine, tmp_path: Path) -> None:
    """A running account that is told of corrections is what a gateway that starts afterwards would begin with."""
    now_us = wall_us()
    raw = '{"input_tokens": 1000, "output_tokens": 10}'
    cost = PRICES.price(Usage(input_tokens=1000, output_tokens=10), MODEL, at_of(now_us)).cost_nanos
    assert cost is not None
    early = now_us - 40 * DAY_US  # in a month before this one
    attempts = [attempt(number, at, usage_raw=raw, cost_nanos=cost) for number, at in ((1, now_us), (2, early))]
    attempts += [unpriced(number, 10**9, at) for number, at in ((3, now_us), (4, early))]
    book(engine, tmp_path, attempts)
    before = opened(engine, tmp_path, now_us)
    assert before.of("tnt_a")["month"] == cost + 10**9
    running = account(before)
    assert book_adjustments(engine, table("v2", 2, **{"claude-new-1": MODEL}), Scope()) == 4
    newest, corrections = adjustments_since(engine, before.entry_id)
    assert newest > before.entry_id
    assert {(tenant_id, key_id) for tenant_id, key_id, _, _ in corrections} == {("tnt_a", "key_1")}
    for _, _, at_us, nanos in corrections:
        running.correct(nanos, at_us)
    after = opened(engine, tmp_path, wall_us())
    assert running.spent == after.of("tnt_a")
    new = 4 * cost  # the table doubles this model once for each of its two names
    # What was held for the one that ended this month counts no more; what was held earlier never counted in it.
    assert running.spent["month"] == new + (new - cost) + 2 * new
    assert adjustments_since(engine, newest) == (newest, [])
    assert verify(engine).fault_count == 0
