"""What is held covers what is billed, and leaves a small budget usable."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.charges import (
    ADVICE_TOKENS,
    CONTEXT_TOKENS,
    IMAGE_TOKENS,
    TOOL_RESULT_TOKENS,
    TOOL_USES_UNDECLARED,
    TYPED_TOOL_TOKENS,
    context_tokens,
)
from tenantry.domain.estimates import (
    MARGIN_TOKENS,
    OUTPUT_TOKENS_FIRST,
    OUTPUT_TOKENS_HIGH,
    OUTPUT_TOKENS_LOW,
    TOKENS_PER_SECOND,
    Histories,
    History,
    StreamMeter,
    bound_of,
    produced_tokens,
    rough_input_bound,
)
from tenantry.domain.holds import Account, Hold, place
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Usage

PRICES = load_default_prices()
AT = datetime(2026, 11, 24, tzinfo=UTC)
AT_US = int(AT.timestamp()) * 1_000_000
USD = 1_000_000_000
MODELS = PRICES.models()


def asked(model: str = "claude-sonnet-5-5", max_tokens: int = 1000, **more: object) -> MessageFields:
    fields = MessageFields(model, max_tokens, False, False)
    for name, value in {"inference_geo": "global", **more}.items():
        setattr(fields, name, value)
    return fields


def most_nanos(fields: MessageFields, prompt_tokens: int) -> int:
    """What is held for a request that is not streamed."""
    return bound_of(PRICES, fields, 0, AT_US, None, prompt_tokens).nanos


@pytest.mark.parametrize(
    ("fields", "nanos"),
    [
        (asked(), 10_000 * 2_000 + 1_000 * 10_000),
        (asked(has_cache_control=True), 10_000 * 2_500 + 1_000 * 10_000),
        (asked(has_cache_control=True, wants_1h=True), 10_000 * 4_000 + 1_000 * 10_000),
        (asked(inference_geo="us"), 10_000 * 2_200 + 1_000 * 11_000),
        (asked(inference_geo=None), 10_000 * 2_200 + 1_000 * 11_000),  # the workspace may say us
        (asked("claude-opus-5-5", speed="fast"), 10_000 * 8_000 + 1_000 * 40_000),
        (asked(max_tokens=0), 10_000 * 2_000),
        (asked(fallbacks=("claude-fable-5-1",)), 2 * (10_000 * 10_000 + 1_000 * 50_000) + 2_000 * 10_000),
        (
            asked(fallbacks=("claude-haiku-5-5",), fallback_max_tokens=4000),
            2 * (10_000 * 2_000 + 4_000 * 10_000) + 8_000 * 2_000,
        ),
        (asked(fallbacks_default=True), 2 * (10_000 * 15_000 + 1_000 * 75_000) + 2_000 * 15_000),
        (
            asked(server_tools=(ServerTool("web_search_20250305", 3),)),
            11_000 * 4 * 2_000 - 1_000 * 2_000 + 1_000 * 10_000 + 3 * 10_000_000 + 6 * TOOL_RESULT_TOKENS * 2_000,
        ),
        (
            asked(server_tools=(ServerTool("web_search_20250305"),)),
            11_000 * 11 * 2_000
            - 1_000 * 2_000
            + 1_000 * 10_000
            + TOOL_USES_UNDECLARED * 10_000_000
            + 55 * TOOL_RESULT_TOKENS * 2_000,
        ),
        (
            asked(server_tools=(ServerTool("advisor_20260301", 2, "claude-opus-5-5"),)),
            11_000 * 3 * 2_000
            - 1_000 * 2_000
            + 1_000 * 10_000
            + 3 * ADVICE_TOKENS * 2_000
            + 2 * ((11_000 + 2 * ADVICE_TOKENS) * 4_000 + ADVICE_TOKENS * 20_000),
        ),
        (asked("claude-tomorrow-1"), 10_000 * 15_000 + 1_000 * 75_000),  # the dearest known
    ],
)
def test_worst_case(fields: MessageFields, nanos: int) -> None:
    assert most_nanos(fields, 10_000) == nanos


def test_a_long_prompt_is_held_at_its_own_price() -> None:
    fields = asked("claude-haiku-5-5")
    assert most_nanos(fields, 100_000) == 100_000 * 100 + 1_000 * 500
    assert most_nanos(fields, 100_001) == 100_001 * 500 + 1_000 * 2_500


@given(
    model=st.sampled_from(MODELS),
    split=st.tuples(*[st.integers(0, 60_000)] * 4),
    output=st.integers(0, 5_000),
    spare=st.integers(0, 10_000),
    is_1h=st.booleans(),
    is_us=st.booleans(),
    searches=st.integers(0, 5),
)
def test_no_bill_within_the_bounds_passes_the_worst_case(
    model: str, split: tuple[int, ...], output: int, spare: int, is_1h: bool, is_us: bool, searches: int
) -> None:
    plain, write_5m, write_1h, read = split
    usage = Usage(
        plain, write_5m, write_1h if is_1h else 0, read, output, web_search_requests=searches,
        inference_geo="us" if is_us else "global",
    )  # fmt: skip
    fields = asked(model, output + spare, has_cache_control=True, wants_1h=is_1h)
    fields.inference_geo = "us" if is_us else None
    fields.server_tools = (ServerTool("web_search_20260318", searches),)
    cost = PRICES.price(usage, model, AT).cost_nanos
    assert cost is not None
    assert cost <= most_nanos(fields, usage.prompt_tokens + spare)


@pytest.mark.parametrize(("body_bytes", "low"), [(0, 0), (1000, 1000), (10**9, CONTEXT_TOKENS)])
def test_bytes_bound_tokens(body_bytes: int, low: int) -> None:
    assert low <= rough_input_bound(body_bytes, asked()) <= CONTEXT_TOKENS


@pytest.mark.parametrize("flag", ["has_sources", "has_thread"])
def test_what_bytes_do_not_bound_is_a_whole_context(flag: str) -> None:
    assert rough_input_bound(100, asked(**{flag: True})) == CONTEXT_TOKENS
    assert rough_input_bound(100, asked("claude-haiku-4-5-20251001", **{flag: True})) == 200_000


@given(
    model=st.sampled_from(("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5-20251001", "claude-tomorrow-1")),
    max_tokens=st.integers(1, 128_000),
    body_bytes=st.integers(0, 3_000_000),
    counted=st.none() | st.integers(0, 1_000_000),
    excess=st.none() | st.integers(1, 40),
)
def test_a_simple_request_is_bound_as_any_other(
    model: str, max_tokens: int, body_bytes: int, counted: int | None, excess: int | None
) -> None:
    history = None
    if excess is not None:
        history = History()
        history.learn_excess(10, excess)
    simple, other = (
        bound_of(
            PRICES,
            asked(model, max_tokens, inference_geo=None, is_simple=is_simple),
            body_bytes,
            AT_US,
            history,
            counted,
        )
        for is_simple in (True, False)
    )
    assert simple == other


def test_an_image_counts_by_its_size_limit_not_by_its_bytes() -> None:
    bound = rough_input_bound(1_000_000, asked(images=2, image_bytes=999_000))
    assert 1000 + 2 * IMAGE_TOKENS <= bound < 1200 + 2 * IMAGE_TOKENS


def test_context_windows() -> None:
    assert context_tokens("claude-opus-5-5") == CONTEXT_TOKENS
    assert context_tokens("claude-sonnet-4-6") == CONTEXT_TOKENS


def claude_code() -> MessageFields:
    """Reference 7.5: 49 kB to say hello."""
    return asked("claude-opus-5-5", 128_000, has_cache_control=True, inference_geo=None, has_tools=True, stream=True)


def test_claude_code_is_usable_on_five_dollars() -> None:
    acme = Account("tenant acme", Budget((Cap("month", 5 * USD, ()),), "hard"), ZoneInfo("UTC"), {}, AT_US)
    history = History()
    for _ in range(100):
        fields = claude_code()
        meter = StreamMeter(PRICES, fields, rough_input_bound(49_000, fields), history, AT_US)
        hold = place([acme], meter.first_bound().nanos, AT_US)
        assert isinstance(hold, Hold)
        usage = Usage(cache_read_tokens=12_000, input_tokens=100)
        assert hold.resize(meter.started(PRICES, "claude-opus-5-5", usage, AT_US), AT_US)
        assert hold.held_nanos < USD // 10
        cost = PRICES.price(Usage(cache_read_tokens=12_000, input_tokens=100, output_tokens=200), fields.model, AT)
        assert cost.cost_nanos is not None
        hold.settle(cost.cost_nanos, AT_US)
        history.learn(200, 12_100, 49_000)
    assert acme.excess_nanos == acme.held_nanos == 0
    assert acme.spent["month"] < USD


@given(
    max_tokens=st.integers(1, 128_000),
    steps=st.lists(st.tuples(st.integers(0, 1900), st.integers(0, 5_000_000)), max_size=60),
    bound=st.integers(0, 1_000_000),
)
def test_a_stream_is_always_covered_by_a_margin(max_tokens: int, steps: list[tuple[int, int]], bound: int) -> None:
    meter = StreamMeter(PRICES, asked(max_tokens=max_tokens, stream=True), bound, None, AT_US)
    started = meter.started(PRICES, "claude-sonnet-5-5", Usage(input_tokens=500), AT_US)
    assert started <= meter.first_bound().nanos or bound < 500
    held, chars, elapsed_us = started, 0, 0
    for more_chars, more_us in steps:
        chars, elapsed_us = chars + more_chars, elapsed_us + more_us
        wanted = meter.produced(chars, elapsed_us)
        if wanted is not None:
            assert wanted > held
            held = wanted
        covered = min(max_tokens, produced_tokens(chars, elapsed_us) + MARGIN_TOKENS)
        assert held >= 500 * 2_000 + covered * 10_000
        assert held <= 500 * 2_000 + max_tokens * 10_000


def test_hidden_thinking_is_counted_by_time() -> None:
    meter = StreamMeter(PRICES, asked(max_tokens=100_000), 0, None, AT_US)
    assert meter.produced(0, 1_000_000) is None
    assert meter.produced(0, 60_000_000) is not None
    assert meter.held_tokens >= 60 * TOKENS_PER_SECOND


def test_told_output_tokens_count_when_they_are_more() -> None:
    assert produced_tokens(10, 0, 500) == 500
    assert produced_tokens(10_000, -5, 500) == 5_000
    assert produced_tokens(0, 0) == 0


def test_with_fallbacks_the_first_bound_stays() -> None:
    meter = StreamMeter(PRICES, asked(fallbacks=("claude-fable-5-1",)), 1000, None, AT_US)
    assert meter.started(PRICES, "claude-sonnet-5-5", Usage(input_tokens=1), AT_US) == meter.first_bound().nanos


def test_a_served_model_without_a_price_is_held_at_the_dearest() -> None:
    meter = StreamMeter(PRICES, asked(max_tokens=1), 10, None, AT_US)
    assert meter.started(PRICES, "claude-tomorrow-1", Usage(input_tokens=10), AT_US) == 10 * 15_000 + 75_000


def test_history_learns_within_its_bounds() -> None:
    history = History()
    assert history.output_tokens == OUTPUT_TOKENS_FIRST
    for _ in range(50):
        history.learn(2)
    assert history.output_tokens == OUTPUT_TOKENS_LOW
    for _ in range(50):
        history.learn(10**12)
    assert history.output_tokens == OUTPUT_TOKENS_HIGH
    history.learn(-5, -1, -1)
    for _ in range(60):
        history.learn(2_000)
    assert 2_000 <= history.output_tokens < 2_200


def test_histories_are_apart_and_bounded() -> None:
    histories = Histories(entries_max=2)
    histories.of("tnt_a", "m").learn(5)
    assert histories.of("tnt_b", "m").answers == 0
    assert histories.of("tnt_a", "m").answers == 1
    histories.of("tnt_c", "m")
    assert histories.of("tnt_a", "m").answers == 1
    assert histories.of("tnt_b", "m").answers == 0


def test_a_tenant_that_names_any_models_does_not_push_out_what_others_use() -> None:
    histories = Histories(entries_max=100)
    for tenant in range(50):
        histories.of(f"tnt_{tenant}", "m").learn(5)
    for number in range(10_000):
        histories.of("tnt_noisy", f"m{number}").learn(5)
        for tenant in range(50):
            assert histories.of(f"tnt_{tenant}", "m").answers == 1
    assert len(histories._row) == sum(map(len, histories._by_tenant.values())) == 100


def test_where_all_histories_are_in_use_one_goes_all_the_same() -> None:
    histories = Histories(entries_max=1_000)
    for _ in range(2):
        for tenant in range(1_000):
            histories.of(f"tnt_{tenant}", "m")
    histories.of("tnt_new", "m")
    assert len(histories._row) == sum(map(len, histories._by_tenant.values())) == 1_000


@pytest.mark.parametrize("concurrent", [1, 8, 64, 200, 512])
@pytest.mark.parametrize("seed", range(3))
def test_streams_together_never_pass_the_budget(concurrent: int, seed: int) -> None:
    """Streams that grow at random; one whose next step does not fit ends there, and costs what it has written."""
    chance = random.Random(seed)
    amount = 2 * USD
    acme = Account("tenant acme", Budget((Cap("month", amount, ()),), "hard"), ZoneInfo("UTC"), {}, AT_US)
    fields = asked(max_tokens=128_000, stream=True)
    running: list[tuple[Hold, StreamMeter, list[int]]] = []
    cut = 0
    for _ in range(3_000):
        if len(running) < concurrent:
            meter = StreamMeter(PRICES, fields, 4_000, None, AT_US)
            hold = place([acme], meter.first_bound().nanos, AT_US)
            if isinstance(hold, Hold):
                assert hold.resize(meter.started(PRICES, fields.model, Usage(input_tokens=1_000), AT_US), AT_US)
                running.append((hold, meter, [0]))
        if not running:
            break
        which = chance.randrange(len(running))
        hold, meter, written = running[which]
        written[0] += chance.randrange(MARGIN_TOKENS)  # at one token for two characters, the worst that is promised
        wanted = meter.produced(2 * written[0], 0)
        fits = wanted is None or hold.resize(wanted, AT_US)
        if not fits or chance.random() < 0.1:
            cut += not fits
            cost = PRICES.price(Usage(input_tokens=1_000, output_tokens=written[0]), fields.model, AT).cost_nanos
            assert cost is not None
            hold.settle(cost, AT_US)
            del running[which]
        assert acme.spent["month"] + acme.held_nanos <= amount
    for hold, _, _ in running:
        hold.void()
    assert (acme.excess_nanos, acme.held_nanos) == (0, 0)
    assert cut or acme.spent["month"] < amount


def test_the_ratio_goes_up_at_once_and_down_slowly() -> None:
    history = History()
    assert history.input_tokens(300) == 100
    history.learn(1, 1_000, 4_000)
    assert history.input_tokens(4_000) == 1_000
    history.learn(1, 2_000, 4_000)
    assert history.input_tokens(4_000) == 2_000
    history.learn(1, 2_000, 100)  # what a tiny body says is no ratio of text
    assert history.input_tokens(4_000) == 2_000
    history.learn(1, 1_000, 4_000)
    assert 1_800 < history.input_tokens(4_000) < 2_000


def test_rates_follow_the_date_and_the_multipliers() -> None:
    before = datetime(2026, 10, 1, tzinfo=UTC)
    assert PRICES.rates("claude-sonnet-5-5", 1, before) == (2_000, 2_500, 4_000, 200, 10_000)
    assert PRICES.rates("claude-sonnet-5-5", 1, AT) == (2_000, 2_500, 4_000, 100, 10_000)
    assert PRICES.rates("claude-haiku-4-5-20251001", 1, AT, is_us=True) == (1_000, 1_250, 2_000, 100, 5_000)
    assert PRICES.rates("claude-haiku-5-5", 1, AT, is_us=True) == (110, 138, 220, 11, 550)  # rounded up
    assert PRICES.rates("claude-sonnet-5-5", 1, AT, speed="fast") == (4_000, 5_000, 8_000, 200, 20_000)
    assert PRICES.rates("claude-tomorrow-1", 1, AT) is None


def test_an_excess_makes_later_holds_larger_and_is_forgotten_slowly() -> None:
    history = History()
    history.learn_excess(100, 100)
    assert history.scale(1_000) == 1_000
    history.learn_excess(100, 250)
    assert history.scale(1_000) == 2_500
    history.learn_excess(250, 200)
    assert 2_400 < history.scale(1_000) < 2_500
    history.learn_excess(100, 10**15)
    assert history.scale(1_000) == 16_000
    history.learn_excess(0, 5)
    for _ in range(1_000):
        history.learn_excess(100, 1)
    assert history.scale(1_000) == 1_000
    worse = History()
    worse.learn_excess(100, 200)
    meter, scaled = (StreamMeter(PRICES, asked(), 1_000, each, AT_US) for each in (None, worse))
    assert scaled.first_bound().nanos == 2 * meter.first_bound().nanos
    assert (
        bound_of(PRICES, asked(), 1_000, AT_US, worse).nanos == 2 * bound_of(PRICES, asked(), 1_000, AT_US, None).nanos
    )


def test_a_long_conversation_with_one_search_is_held_at_the_long_price() -> None:
    fields = asked("claude-haiku-5-5", server_tools=(ServerTool("web_search_20260318", 1),))
    usage = Usage(input_tokens=190_000, output_tokens=1_000, web_search_requests=1)
    cost = PRICES.price(usage, fields.model, AT).cost_nanos
    assert cost is not None
    assert most_nanos(fields, 90_000) >= cost


def test_a_fallback_with_a_larger_window_bounds_the_prompt() -> None:
    fields = asked("claude-haiku-4-5", fallbacks=("claude-opus-5-5",), has_sources=True)
    assert rough_input_bound(100, fields) == CONTEXT_TOKENS


def test_a_typed_tool_of_the_client_is_a_description_in_the_prompt() -> None:
    assert rough_input_bound(100, asked(has_tools=True, typed_tools=2)) >= 2 * TYPED_TOOL_TOKENS


def test_what_a_cut_stream_may_have_written_is_never_more_than_was_asked_for() -> None:
    meter = StreamMeter(PRICES, asked(max_tokens=1_000), 10, None, AT_US)
    assert meter.produced_tokens(100, 0) == 50
    assert meter.produced_tokens(100, 3_600_000_000) == 1_000
    assert meter.produced_tokens(100, 0, 2_000) == 2_000
    assert meter.produced(0, 0, 900) is None
