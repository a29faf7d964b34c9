"""Every fixture agrees with the oracle to the nano-dollar, however the bytes are cut."""

import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.attempts import Outcome
from tenantry.domain.money import usd_to_nanos
from tenantry.domain.prices import load_default_prices
from tenantry.domain.settlement import Observed, Sent, Settlement, settle
from tenantry.wire.answers import read_message
from tenantry.wire.observe import HELD_BYTES_MAX, StreamObserver
from tests.conftest import FIXTURES

EXPECTED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "expected.json").read_text())
STREAMS = [name for name in EXPECTED if name.startswith("sse/")]
MESSAGES = [name for name in EXPECTED if name.startswith("json/message")]
AT_US = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp() * 1_000_000)
PRICES = load_default_prices()


def expected(name: str) -> dict[str, Any]:
    want = EXPECTED[name]
    return EXPECTED[want["same_as"]] if "same_as" in want else want


def observe(data: bytes, cuts: random.Random | None = None, most: int = 60) -> tuple[Observed, bytes]:
    observer, out, at = StreamObserver(), b"", 0
    while at < len(data):
        end = at + cuts.randint(1, most) if cuts else len(data)
        out += observer.feed(data[at:end])
        at = end
    out += observer.finish()
    return observer.result(), out


def booked(seen: Observed) -> Settlement:
    return settle(Sent("unknown", 200, True, 0, 0), seen, PRICES, AT_US)


def check(want: dict[str, Any], seen: Observed) -> None:
    usage = seen.usage
    for field, value in {
        "model": seen.model,
        "stop_reason": seen.stop_reason,
        "input_tokens": usage.input_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_5m": usage.cache_write_5m_tokens,
        "cache_1h": usage.cache_write_1h_tokens,
        "output_tokens": usage.output_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "web_search_requests": usage.web_search_requests,
        "output_tokens_reported": usage.output_tokens,
    }.items():
        if field in want:
            assert value == want[field], field
    if want.get("cost_usd") is not None:
        assert booked(seen).cost_nanos == usd_to_nanos(want["cost_usd"])


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_agrees_with_the_oracle(name: str) -> None:
    check(expected(name), observe((FIXTURES / name).read_bytes())[0])


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_agrees_with_the_oracle(name: str) -> None:
    check(expected(name), read_message((FIXTURES / name).read_bytes()))


def test_batch_results_are_billed_at_half() -> None:
    total = 0
    for line in (FIXTURES / "json/batch_results.jsonl").read_text().splitlines():
        result = json.loads(line)["result"]
        if result["type"] == "succeeded":
            message = result["message"]
            message["usage"]["service_tier"] = "batch"
            total += booked(read_message(json.dumps(message).encode())).cost_nanos or 0
    assert total == usd_to_nanos(EXPECTED["json/batch_results.jsonl"]["cost_usd"])


@pytest.mark.parametrize("name", STREAMS)
def test_cuts_change_neither_what_is_seen_nor_what_is_relayed(name: str) -> None:
    data = (FIXTURES / name).read_bytes()
    whole, _ = observe(data)
    for seed in range(60):
        seen, relayed = observe(data, random.Random(seed), 7 if seed % 2 else 400)
        assert seen == whole, f"seed {seed}"
        if seen.complete or seen.failed:
            assert relayed == data, f"seed {seed}"
        else:
            assert data.startswith(relayed)


def test_an_unfinished_event_is_held_back() -> None:
    data = (FIXTURES / "sse/stream_truncated_mid_event.sse").read_bytes()
    _, relayed = observe(data)
    assert relayed.endswith(b"\n\n")
    assert len(relayed) < len(data)


def test_an_interrupted_stream_is_estimated_from_its_characters() -> None:
    seen, _ = observe((FIXTURES / "sse/stream_error_midstream.sse").read_bytes())
    settlement = booked(seen)
    assert settlement.outcome is Outcome.ESTIMATED
    assert settlement.usage.output_tokens == -(-len("Here is the first half of the ans") // 2)
    assert settlement.usage.input_tokens == 1500


def test_an_error_before_anything_is_void() -> None:
    seen, _ = observe((FIXTURES / "sse/stream_error_first_event.sse").read_bytes())
    assert booked(seen).outcome is Outcome.VOIDED


def test_an_unknown_model_is_unpriced_and_never_free() -> None:
    seen, _ = observe((FIXTURES / "sse/stream_compat_minimal.sse").read_bytes())
    settlement = booked(seen)
    assert (settlement.outcome, settlement.cost_nanos) == (Outcome.UNPRICED, None)


def test_a_huge_event_passes_without_being_held() -> None:
    start = b'event: content_block_start\ndata: {"type":"content_block_start","x":"'
    data = start + b"y" * (3 * HELD_BYTES_MAX) + b'"}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
    seen, relayed = observe(data, random.Random(1), 30_000)
    assert relayed == data
    assert seen.complete


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_any_bytes_in_any_cuts_raise_nothing_and_lose_nothing_that_is_whole(chunks: list[bytes]) -> None:
    observer = StreamObserver()
    relayed = b"".join(observer.feed(chunk) for chunk in chunks)
    assert b"".join(chunks).startswith(relayed)
    observer.finish()
    observer.result()


@given(st.binary(max_size=200))
def test_any_body_is_read_without_raising(body: bytes) -> None:
    read_message(body)


@pytest.mark.parametrize(
    "name", ["json/message_text.json", "json/message_nulls.json", "json/message_haiku55_tier_high.json"]
)
def test_genai_prices_agrees_where_it_is_right(name: str) -> None:
    import genai_prices

    document = json.loads((FIXTURES / name).read_text())
    usage = document["usage"]
    total = sum(
        usage.get(field) or 0 for field in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )
    price = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=total,
            output_tokens=usage["output_tokens"],
            cache_write_tokens=usage.get("cache_creation_input_tokens") or 0,
            cache_read_tokens=usage.get("cache_read_input_tokens") or 0,
        ),
        document["model"],
        provider_id="anthropic",
    )
    assert Decimal(booked(read_message(json.dumps(document).encode())).cost_nanos or 0) / 10**9 == price.total_price
