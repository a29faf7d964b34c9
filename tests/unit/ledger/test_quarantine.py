"""Lines that cannot be booked are set aside, told and tried again; all others are booked."""

import json
import random
import string
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from tenantry.domain.attempts import AttemptProgress, KeyUse, Outcome, RefusalCount, RefusedRequest, Tally
from tenantry.domain.usage import Usage
from tenantry.ledger import booking
from tenantry.ledger.booking import Drain
from tenantry.ledger.facts import QuarantineWatch
from tenantry.ledger.journal import JournalWriter, files_of
from tenantry.ledger.opening import open_counters
from tenantry.ledger.quarantine import Quarantined, list_quarantined, resolve
from tenantry.ledger.verification import verify
from tests.unit.ledger.books import PRICES, START_US, Attempt, attempt, new_store, rows

NOW_US = START_US + 1_000_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "x.db")
    yield made
    made.dispose()


def drained(engine: Engine, folder: Path, attempts: list[Attempt], *more: Tally) -> list[str]:
    """Attempts between two good ones, drained; the ids of what was booked."""
    writer = JournalWriter(folder / "journal", "gateway")
    for begun, end in [attempt(900), *attempts, attempt(901, tenant="tnt_b")]:
        writer.begin(begun)
        writer.end(end)
    for tally in more:
        writer.tally(tally)
    writer.close()
    Drain(engine, folder / "journal", PRICES).step()
    return [row["attempt_id"] for row in rows(engine)]


def aside(engine: Engine) -> list[Quarantined]:
    return list_quarantined(engine)


POISONS: dict[str, Attempt] = {
    "a count beyond the column": attempt(1, usage=Usage(input_tokens=2**63)),
    "a count that no sum survives": attempt(1, usage=Usage(input_tokens=2**53)),
    "a count below nothing": attempt(1, usage=Usage(output_tokens=-1)),
    "a cost beyond the column": attempt(1, cost_nanos=2**70),
    "a cost that no sum survives": attempt(1, cost_nanos=2**62),
    "a negative cost": attempt(1, cost_nanos=-1),
    "a status that is none": attempt(1, status=2**40),
    "a time that no calendar has": attempt(1, ended_at_us=2**62),
    "a price version that is too long": attempt(1, price_version="v" * 33),
    "an id with a NUL": (replace(attempt(1)[0], tenant_id="tnt\0"), attempt(1)[1]),
    "an id that is too long": (replace(attempt(1)[0], key_id="k" * 41), attempt(1)[1]),
    "what was held beyond the column": attempt(1, outcome=Outcome.UNPRICED, cost_nanos=None, held_nanos=2**64),
}


@pytest.mark.parametrize("name", POISONS)
def test_one_line_that_cannot_be_booked_does_not_stop_the_others(engine: Engine, tmp_path: Path, name: str) -> None:
    begun, end = POISONS[name]
    assert drained(engine, tmp_path, [(replace(begun, bound_nanos=77), end)]) == ["att_900", "att_901"]
    [line] = aside(engine)
    assert line.attempt_id == "att_1"
    assert line.reason
    assert verify(engine).fault_count == 0
    assert list((tmp_path / "journal").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["\0", "\ud83d", "a\udfffb", "x" * 100_000, "\ufeff", "\U0010ffff", "'; DROP TABLE ledger; --"]
)
def test_no_text_that_an_upstream_makes_up_costs_a_row(engine: Engine, tmp_path: Path, text: str) -> None:
    told = attempt(1, model_served=text, stop_reason=text, upstream_request_id=text, error=text, usage_raw=text)
    poisoned = (replace(told[0], model_requested=text), replace(told[1], flaws=(text,)))
    assert drained(engine, tmp_path, [poisoned]) == ["att_900", "att_1", "att_901"]
    assert aside(engine) == []
    assert verify(engine).fault_count == 0
    assert "\0" not in rows(engine)[1]["stop_reason"]


@pytest.mark.parametrize(
    "tally",
    [
        Tally([RefusalCount("tnt_a", "r" * 41, 1, 1)], []),
        Tally([RefusalCount("tnt_a", "r", 2**63, 1)], []),
        Tally([RefusalCount("tnt_a", "r", 1, 2**63)], []),
        Tally([], [KeyUse("key_1", 2**62, "127.0.0.1", "")]),
        Tally([], [KeyUse("key_1", 1, "127.0.0.1", "\0")]),
        Tally([], [KeyUse("key_1", 1, "a" * 65, "")]),
        Tally([], [], [RefusedRequest("req", "tnt_a", "", 1, 429, "e", "r", "m\0")]),
        Tally([], [], [RefusedRequest("req", "tnt_a", "", 2**63, 429, "e", "r", "m")]),
        Tally([], [], [RefusedRequest("r" * 41, "tnt_a", "", 1, 429, "e", "r", "m")]),
    ],
)
def test_totals_that_cannot_be_written_stop_nothing(engine: Engine, tmp_path: Path, tally: Tally) -> None:
    assert drained(engine, tmp_path, [], tally) == ["att_900", "att_901"]
    assert len(aside(engine)) == 1


def append(path: Path, body: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"%08x %b\n" % (zlib.crc32(body), body))


def test_an_end_without_its_beginning_and_a_damaged_line_are_set_aside(engine: Engine, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal", "gateway")
    writer.end(attempt(1)[1])
    writer.flush()
    [path] = files_of(writer.folder)
    path.write_bytes(path.read_bytes() + b"00000000 {}\n")
    drain = Drain(engine, tmp_path / "journal", PRICES)
    for _ in range(3):  # read again from the cursor, it is the same line
        drain.step()
        drain.forget()
    assert [(line.attempt_id, line.reason) for line in aside(engine)] == [
        ("att_1", "the beginning of its attempt is missing"),
        (None, "its checksum is wrong"),
    ]
    writer.close()
    assert resolve(engine, PRICES, NOW_US).left == 2
    assert resolve(engine, PRICES, NOW_US, at_bound=True).dropped == 2
    assert aside(engine) == []


def test_an_end_that_no_version_could_read_ends_its_attempt_all_the_same(engine: Engine, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal", "gateway")
    writer.begin(replace(attempt(1)[0], bound_nanos=500))
    writer.flush()
    [path] = files_of(writer.folder)
    append(path, b'{"end":{"attempt_id":"att_1","ended_at_us":1.5}}')
    drain = Drain(engine, tmp_path / "journal", PRICES)
    drain.step()
    [line] = aside(engine)
    assert (line.attempt_id, line.tenant_id, line.nanos) == ("att_1", "tnt_a", 500)
    writer.close()
    drain.step()
    assert rows(engine) == []  # it is no orphan: it waits in quarantine


def test_progress_that_no_version_could_read_is_set_aside_when_it_is_asked_for(engine: Engine, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal", "gateway")
    for number in (1, 2):
        writer.begin(replace(attempt(number)[0], bound_nanos=500))
    writer.flush()
    [path] = files_of(writer.folder)
    for number in (1, 2):
        append(path, b'{"progress":{"attempt_id":"att_%d","model_served":1}}' % number)
    writer.end(attempt(2)[1])  # it ended all the same: nobody asks how it went on
    writer.close()
    Drain(engine, tmp_path / "journal", PRICES).step()
    assert [(row["attempt_id"], row["cost_nanos"]) for row in rows(engine)] == [("att_2", 1002), ("att_1", 500)]
    assert ["att_1" in line.line for line in aside(engine)] == [True]


def test_what_waits_in_quarantine_counts_in_budgets_and_is_booked_at_its_bound(engine: Engine, tmp_path: Path) -> None:
    begun, end = attempt(1, cost_nanos=2**62)
    drained(engine, tmp_path, [(replace(begun, bound_nanos=500), end)])
    assert [(line.nanos, line.tenant_id) for line in aside(engine)] == [(500, "tnt_a")]
    found_us = int(aside(engine)[0].found_at.timestamp()) * 1_000_000
    opening = open_counters(engine, tmp_path / "journal", PRICES, ZoneInfo("UTC"), found_us)
    assert opening.of("tnt_a")["month"] - 1_900 * (aside(engine)[0].found_at.month == 11) == 500
    assert resolve(engine, PRICES, found_us).left == 1
    assert resolve(engine, PRICES, found_us, at_bound=True).booked == 1
    row = rows(engine)[-1]
    assert (row["attempt_id"], row["outcome"], row["cost_nanos"], row["basis"]) == ("att_1", "orphaned", 500, "bound")
    assert (aside(engine), verify(engine).fault_count) == ([], 0)
    assert resolve(engine, PRICES, found_us, at_bound=True).booked == 0


def test_a_line_that_can_be_booked_now_is_booked_as_it_says(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(booking, "unfit", lambda row: "not yet" if row["attempt_id"] == "att_1" else None)  # pyright: ignore[reportUnknownLambdaType]
        drained(engine, tmp_path, [attempt(1, stop_reason="x" * 600)])  # too long for the column as it is
    assert len(aside(engine)) == 1
    assert resolve(engine, PRICES, NOW_US).booked == 1
    assert (rows(engine)[-1]["attempt_id"], rows(engine)[-1]["cost_nanos"]) == ("att_1", 1001)
    assert verify(engine).fault_count == 0


def test_what_only_the_store_refuses_is_found_one_by_one(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booking, "unfit", lambda row: None)  # pyright: ignore[reportUnknownLambdaType] -- as if nothing were checked before
    assert drained(engine, tmp_path, [attempt(1, usage=Usage(input_tokens=2**70))]) == ["att_900", "att_901"]
    assert [line.attempt_id for line in aside(engine)] == ["att_1"]
    assert verify(engine).fault_count == 0


def test_quarantine_is_told_once_and_again_for_new_lines_of_another_day(engine: Engine, tmp_path: Path) -> None:
    watch = QuarantineWatch(engine, ZoneInfo("UTC"))
    assert list(watch.look(NOW_US)) == []
    drained(engine, tmp_path, [attempt(1, cost_nanos=-1)])
    [alert] = watch.look(NOW_US)
    assert (alert.kind.value, alert.occasion) == ("ledger_quarantine", "ledger_quarantine::2026-11-02")
    assert list(watch.look(NOW_US)) == []


def poison(chance: random.Random) -> Any:
    """A value of any kind that JSON can say."""
    number = chance.choice([0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -(2**70), 1.5, True])
    text = "".join(chance.choices([*string.printable, "\0", "\u2028", "\U0001f600"], k=chance.randrange(60)))
    return chance.choice([number, number, text, text * 500, None, [], {}, [number], {text: number}])


def mutated(chance: random.Random, item: Any) -> Any:
    """A copy of decoded JSON in which some values are others."""
    if chance.random() < 0.05:
        return poison(chance)
    if isinstance(item, dict):
        return {name: mutated(chance, one) for name, one in item.items() if chance.random() > 0.02}  # pyright: ignore[reportUnknownVariableType] -- JSON
    return item


def test_any_values_in_any_lines_leave_every_good_attempt_booked(engine: Engine, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    writer = JournalWriter(tmp_path / "journal", "gateway")
    for number in range(300):
        begun, end = attempt(number)
        writer.begin(begun)
        writer.progress(AttemptProgress(begun.attempt_id, "m", Usage(input_tokens=1)))
        writer.end(end)
    writer.flush()
    [path] = files_of(writer.folder)
    good = 0
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"")
    for start in range(0, len(lines), 3):
        some = lines[start : start + 3]
        if chance.random() < 0.5:
            good += 1
            for line in some:
                append(path, line[9:])
            continue
        for line in some:
            body = json.dumps(mutated(chance, json.loads(line[9:]))).encode()
            if chance.random() < 0.1:
                at = chance.randrange(len(body))
                body = body[:at] + chance.randbytes(3).replace(b"\n", b" ") + body[at + 1 :]
            append(path, body)
    drain = Drain(engine, tmp_path / "journal", PRICES)
    drain.step()
    drain.forget()
    drain.step()
    writer.close()
    drain.step()
    assert list((tmp_path / "journal").iterdir()) == []
    booked = {row["attempt_id"] for row in rows(engine)}
    assert len(booked) >= good
    assert verify(engine).fault_count == 0
    open_counters(engine, tmp_path / "journal", PRICES, ZoneInfo("UTC"), NOW_US)
    resolve(engine, PRICES, NOW_US, at_bound=True)
    assert aside(engine) == []
    assert verify(engine).fault_count == 0
