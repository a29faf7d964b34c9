"""Corrections: booked as rows of their own, once, exact; what was booked before is never touched."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from tenantry.domain.attempts import AttemptBegun, AttemptProgress, Outcome
from tenantry.domain.prices import PriceTable
from tenantry.domain.settlement import Observed, Sent, settle
from tenantry.domain.usage import Iteration, Usage, read_usage, usage_document
from tenantry.ledger import adjustments
from tenantry.ledger.adjustments import BookedMeanwhile, Scope, book_adjustments, recompute
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.story import find_story
from tenantry.ledger.usage import current_month, month_usage
from tenantry.ledger.verification import verify
from tenantry.wire.answers import read_message
from tenantry.wire.observe import StreamObserver
from tests.unit.ledger.books import MODEL, PRICES, START_US, attempt, book, new_store, rows

ALL = Scope()
RAW: dict[str, dict[str, Any]] = {
    "plain": {"input_tokens": 1000, "output_tokens": 10},
    "us": {"input_tokens": 1000, "output_tokens": 10, "inference_geo": "us"},
    "batch": {"input_tokens": 1000, "output_tokens": 10, "service_tier": "batch"},
    "written for an hour": {"input_tokens": 5, "output_tokens": 7, "cache_creation_input_tokens": 4000},
    "iterations": {
        "input_tokens": 900,
        "output_tokens": 90,
        "iterations": [
            {"type": "compaction", "input_tokens": 5000, "output_tokens": 300},
            {"type": "message", "input_tokens": 900, "output_tokens": 90},
        ],
    },
}


def table(version: str, factor: int = 1, without: str = "", **more: str) -> PriceTable:
    """The installed prices, each `factor` times as high."""
    document = json.loads(resources.files("tenantry.domain").joinpath("prices.json").read_bytes())
    document["version"] = version
    document["models"].pop(without, None)
    document["models"].update({new: document["models"][old] for new, old in more.items()})
    for model in document["models"].values():
        for prices in (model, *model.get("tiers", []), *model.get("history", [])):
            for name in ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output"):
                if name in prices:
                    prices[name] = str(Decimal(prices[name]) * factor)
    return PriceTable.load(json.dumps(document).encode())


def settled(number: int, raw: dict[str, Any], prices: PriceTable = PRICES, **changes: Any) -> Any:
    """An attempt booked as the gateway would at `prices`."""
    usage = read_usage(raw, wants_1h="cache_creation_input_tokens" in raw)
    model = changes.pop("model_served", MODEL)
    empty = changes.pop("content_empty", False)
    complete = changes.pop("complete", True)
    stop = changes.pop("stop_reason", "end_turn")
    seen = Observed(model, stop, usage, json.dumps(raw), empty, True, complete, None, 25)
    done = settle(Sent(MODEL, 200, True, 0, 0), seen, prices, START_US)
    return attempt(
        number,
        outcome=done.outcome,
        usage=done.usage,
        usage_raw=json.dumps(raw),
        cost_nanos=done.cost_nanos,
        price_version=done.price_version,
        model_served=model,
        stop_reason=stop,
        **changes,
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "x.db")
    yield made
    made.dispose()


def total(engine: Engine) -> int:
    return sum(row["cost_nanos"] or 0 for row in rows(engine))


def test_the_prices_that_booked_change_nothing(engine: Engine, tmp_path: Path) -> None:
    attempts = [settled(number, raw) for number, raw in enumerate(RAW.values())]
    attempts.append(settled(90, RAW["plain"], complete=False))
    attempts.append(settled(91, RAW["plain"], stop_reason="refusal", content_empty=True))
    attempts.append(settled(92, RAW["plain"], stop_reason="refusal"))
    attempts.append(
        attempt(93, outcome=Outcome.ESTIMATED, usage=Usage(), usage_raw="", cost_nanos=0, price_version=None)
    )
    book(engine, tmp_path, attempts)
    before = rows(engine)
    assert recompute(engine, PRICES, ALL) == []
    assert book_adjustments(engine, PRICES, ALL) == 0
    assert rows(engine) == before


STEPS = [
    {"type": "compaction", "input_tokens": 5000, "output_tokens": 300},
    {"type": "message", "input_tokens": 900, "output_tokens": 90, "cache_creation_input_tokens": 7000},
]
ODD_TEXTS = {
    "a novel": json.dumps({"speed": "fast", "iterations": STEPS, "more": "x" * 300_000}),
    "a control byte": json.dumps({"speed": "fast", "iterations": STEPS, "more": "<>"}).replace("<>", "\x01"),
    "a nul": json.dumps({"speed": "fast", "iterations": STEPS, "more": "<>"}).replace("<>", "\0"),
    "not utf-8": json.dumps({"speed": "fast", "iterations": STEPS, "more": "<>"}).replace("<>", "\udcff"),
    "on several lines": json.dumps({"speed": "fast", "iterations": STEPS}, indent=2),
    "written for an hour": json.dumps(
        {
            "cache_creation_input_tokens": 7000,
            "cache_creation": {"ephemeral_1h_input_tokens": 7000},
            "output_tokens": 9,
            "iterations": STEPS,
        }
    ),
}


@pytest.mark.parametrize("name", ODD_TEXTS)
@pytest.mark.parametrize("stream", [False, True])
def test_the_same_prices_change_nothing_whatever_the_text_of_the_usage(
    engine: Engine, tmp_path: Path, name: str, stream: bool
) -> None:
    text = ODD_TEXTS[name].encode("utf-8", "surrogateescape")
    model, wants_1h = "claude-opus-5-5", name == "written for an hour"
    if stream:
        observer = StreamObserver(wants_1h=wants_1h)
        message = b'{"type":"message_start","message":{"model":"%b","content":[],"usage":{}}}' % model.encode()
        delta = b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":%b}' % (
            text.replace(b"\n", b"").replace(b"{", b'{"output_tokens":9,"input_tokens":9,', 1)
        )
        first = b'{"type":"message_delta","delta":{},"usage":{"output_tokens":1,"pad":"%b"}}' % (b"x" * 150_000)
        delta = delta.replace(b"x" * 150_000, b"")  # no one event may be a novel; all of them together are
        for kind, data in (
            ("message_start", message),
            ("message_delta", first),
            ("message_delta", delta),
            ("message_stop", b"{}"),
        ):
            observer.feed(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
        seen = observer.result()
    else:
        seen = read_message(
            b'{"model":"%b","stop_reason":"end_turn","content":[0],"usage":%b}' % (model.encode(), text),
            wants_1h=wants_1h,
        )
    done = settle(Sent(model, 200, True, 0, 0), seen, PRICES, START_US)
    assert (done.outcome, len(done.usage.iterations)) == (Outcome.SETTLED, 2), seen
    made = attempt(
        1,
        usage=done.usage,
        usage_raw=seen.usage_raw,
        cost_nanos=done.cost_nanos,
        price_version=done.price_version,
        model_served=model,
    )
    book(engine, tmp_path, [made])
    assert json.loads(rows(engine)[0]["usage_raw"])
    assert recompute(engine, PRICES, ALL) == []


def test_a_cost_whose_usage_was_not_kept_stays_as_it_was_booked(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, [attempt(1, usage_raw="", cost_nanos=77), attempt(2, usage_raw="{", cost_nanos=78)])
    assert recompute(engine, table("v2", 2), ALL) == []


COUNTS = st.integers(0, 10**11)
WORDS = st.sampled_from(["standard", "fast", "us", "global", "x"])


@given(
    st.builds(
        Usage,
        *[COUNTS] * 6,
        *[st.integers(0, 10**6)] * 2,
        *[WORDS] * 3,
        st.lists(st.builds(Iteration, WORDS, st.none() | WORDS, *[COUNTS] * 5), max_size=3).map(tuple),
    )
)
def test_what_is_kept_of_a_usage_reads_as_that_usage(usage: Usage) -> None:
    flaws: list[str] = []
    assert read_usage(json.loads(json.dumps(usage_document(usage))), flaws=flaws) == usage
    assert flaws == []


def test_an_orphan_is_priced_as_it_was_booked(engine: Engine, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal", "gateway")
    writer.begin(AttemptBegun("a1", "req_1", "tnt_a", "key", "crd", "ups", MODEL, True, START_US))
    writer.progress(AttemptProgress("a1", MODEL, Usage(input_tokens=1000)))
    writer.close()
    Drain(engine, tmp_path / "journal", PRICES).step()
    assert rows(engine)[0]["outcome"] == "orphaned"
    assert recompute(engine, PRICES, ALL) == []


@pytest.mark.parametrize("name", RAW)
def test_a_price_that_doubles_doubles_the_sum_and_no_row_is_edited(engine: Engine, tmp_path: Path, name: str) -> None:
    book(engine, tmp_path, [settled(number, RAW[name]) for number in range(3)])
    before, old = rows(engine), total(engine)
    [change] = recompute(engine, table("v2", 2), ALL)
    assert (change.attempts, change.before_nanos, change.after_nanos) == (3, old, 2 * old)
    assert rows(engine) == before  # looking changes nothing
    assert book_adjustments(engine, table("v2", 2), ALL) == 3
    after = rows(engine)
    assert after[:3] == before
    assert [row["adjusts"] for row in after[3:]] == [row["attempt_id"] for row in before]
    assert {(row["outcome"], row["price_version"], row["input_tokens"]) for row in after[3:]} == {("adjusted", "v2", 0)}
    assert total(engine) == 2 * old
    assert verify(engine).fault_count == 0


def test_booking_twice_changes_nothing_and_the_way_back_is_a_negative_row(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, [settled(1, RAW["plain"])])
    old = total(engine)
    assert book_adjustments(engine, table("v2", 3), ALL) == 1
    assert book_adjustments(engine, table("v2", 3), ALL) == 0
    assert recompute(engine, table("v2", 3), ALL) == []
    assert book_adjustments(engine, PRICES, ALL) == 1
    assert [row["cost_nanos"] for row in rows(engine)] == [old, 2 * old, -2 * old]
    assert total(engine) == old
    assert verify(engine).fault_count == 0


def test_an_unpriced_attempt_gets_its_price_and_counts_as_priced(engine: Engine, tmp_path: Path) -> None:
    zone = ZoneInfo("UTC")
    book(engine, tmp_path, [settled(1, RAW["plain"], model_served="claude-new-1")])
    assert rows(engine)[0]["outcome"] == "unpriced"
    [still] = recompute(engine, PRICES, ALL)
    assert (still.attempts, still.unpriced) == (0, 1)
    assert book_adjustments(engine, PRICES, ALL) == 0
    assert book_adjustments(engine, table("v2", **{"claude-new-1": MODEL}), ALL) == 1
    assert (
        total(engine)
        == PRICES.price(
            Usage(input_tokens=1000, output_tokens=10), MODEL, datetime.fromtimestamp(START_US // 1_000_000, UTC)
        ).cost_nanos
    )
    months = {month_usage(engine, "tnt_a", month, zone).models[0] for month in ("2026-11", current_month(zone))}
    assert sum(month.unpriced_requests for month in months) == 0
    assert recompute(engine, PRICES, ALL) == []  # a version that has no price takes nothing back
    assert verify(engine).fault_count == 0


def test_voided_attempts_owe_nothing_at_any_price(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, [attempt(1, outcome=Outcome.VOIDED, usage=Usage(), cost_nanos=0, price_version=None)])
    assert recompute(engine, table("v2", 9), ALL) == []


def test_only_the_tenant_and_month_that_are_named_are_adjusted(engine: Engine, tmp_path: Path) -> None:
    other = settled(2, RAW["plain"])
    book(engine, tmp_path, [settled(1, RAW["plain"]), (replace(other[0], tenant_id="tnt_b"), other[1])])
    assert book_adjustments(engine, table("v2", 2), Scope("tnt_b")) == 1
    assert rows(engine)[-1]["tenant_id"] == "tnt_b"
    assert book_adjustments(engine, table("v2", 2), Scope(None, START_US + 1, START_US + 2)) == 0
    assert book_adjustments(engine, table("v2", 2), Scope(None, START_US, START_US + 1)) == 1


def test_many_adjustments_make_one_chain_over_several_transactions(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.ledger.adjustments.ROWS_PER_TRANSACTION_MAX", 4)
    book(engine, tmp_path, [settled(number, RAW["plain"]) for number in range(10)])
    assert book_adjustments(engine, table("v2", 2), ALL) == 10
    assert [row["journal_seq"] for row in rows(engine)[10:]] == list(range(1, 11))
    assert verify(engine).fault_count == 0


def test_of_two_bookings_at_once_one_is_refused(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book(engine, tmp_path, [settled(1, RAW["plain"])])
    run = adjustments._Run  # pyright: ignore[reportPrivateUsage] -- where the two meet
    real = run.book

    def late(self: Any, changes: Any) -> None:
        """Between the look and the booking, another process does the same."""
        monkeypatch.setattr(run, "book", real)
        assert book_adjustments(engine, table("v2", 2), ALL) == 1
        real(self, changes)

    monkeypatch.setattr(run, "book", late)
    with pytest.raises(BookedMeanwhile):
        book_adjustments(engine, table("v2", 2), ALL)
    assert len(rows(engine)) == 2
    assert verify(engine).fault_count == 0


def test_usage_that_cannot_be_read_is_priced_by_its_counts(engine: Engine, tmp_path: Path) -> None:
    for number, raw in enumerate(["{", "[]", "null", "[" * 100_000]):
        begun, end = settled(number, RAW["plain"])
        book(engine, tmp_path, [(begun, replace(end, usage_raw=raw))])
    assert recompute(engine, PRICES, ALL) == []


def test_the_story_of_a_request_is_found_by_each_of_its_ids(engine: Engine, tmp_path: Path) -> None:
    first, second = settled(1, RAW["plain"]), settled(2, RAW["plain"])
    retried = (replace(second[0], request_id="req_1", begun_at_us=START_US), second[1])
    book(engine, tmp_path, [first, retried, settled(3, RAW["plain"])])
    book_adjustments(engine, table("v2", 2), ALL)
    for wanted in ("req_1", "att_1", "att_2", "req_up_2"):
        story = find_story(engine, wanted)
        assert [one["attempt_id"] for one in story[:2]] == ["att_1", "att_2"]
        assert [one["adjusts"] for one in story[2:]] == ["att_1", "att_2"]
    assert story[0]["begun_at"] == "2026-11-01T23:59:58.500000Z"
    assert find_story(engine, "nothing") == []
    assert find_story(engine, "") == []


def test_an_upstream_that_repeats_its_id_does_not_print_a_whole_ledger(engine: Engine, tmp_path: Path) -> None:
    book(engine, tmp_path, [attempt(number, upstream_request_id="same") for number in range(1100)])
    assert len(find_story(engine, "same")) == 1000
