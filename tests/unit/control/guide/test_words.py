"""Every limit and every error has its words, and the words carry the limits' own figures."""

import pytest

from tenantry.control.guide.errors import ADVICE
from tenantry.control.guide.words import expectations, limits_in_words, seconds
from tenantry.domain.errors import ApiError
from tenantry.domain.limits import LIMITS, Limits


def value(limits: Limits, name: str) -> str:
    return next(row.value for row in limits_in_words(limits) if name in row.limits)


def test_every_limit_is_put_into_words_once() -> None:
    told = [name for row in limits_in_words(Limits()) for name in row.limits]
    assert sorted(told) == sorted(LIMITS)


def every_error(of: type[ApiError] = ApiError) -> list[type[ApiError]]:
    return [of, *(found for child in of.__subclasses__() for found in every_error(child))]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_every_error_of_the_gateway_has_its_advice(error: type[ApiError]) -> None:
    assert any((row.status, row.error_type) == (error.status, error.error_type) for row in ADVICE)


def test_advice_is_sorted_and_told_once() -> None:
    rows = [(row.status, row.error_type) for row in ADVICE]
    assert len(rows) == len(set(rows))
    assert [status for status, _ in rows] == sorted(status for status, _ in rows)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("sessions_max", {"sessions_max": 1500}, "1,500 at once"),
        ("requests_per_minute", {"requests_per_minute": None}, "no limit of your own"),
        ("request_burst", {}, "60 a minute; 10 may come at once"),
        ("input_tokens_per_minute", {"input_tokens_per_minute": 400_000}, "400,000 a minute"),
        ("output_tokens_per_minute", {}, "no limit of your own"),
        ("max_tokens_cap", {"max_tokens_cap": 8192}, "at most 8,192"),
        ("models", {"models": ("claude-haiku-*", "claude-sonnet-5-5")}, "`claude-haiku-*`, `claude-sonnet-5-5`"),
        ("server_tools", {"server_tools": ("-",)}, "none"),
        ("server_tools", {}, "all"),
        ("queue_depth_max", {}, "up to 64 requests, 10 seconds each"),
        ("queue_wait_ms_max", {"queue_wait_ms_max": 0}, "none"),
        ("weight", {"weight": 3}, "weight 3"),
        ("context_tokens_max", {"context_tokens_max": 200_000}, "at most 200,000 tokens"),
        ("context_tokens_warn", {"context_tokens_warn": 100_000}, "no limit but the model's; a warning above 100,000"),
        ("tool_depth_alert", {"tool_depth_alert": 40}, "watched from 40 in a row"),
        ("auto_cache_system", {"auto_cache_system": "on"}, "added for you"),
    ],
)  # fmt: skip
def test_a_limit_is_told_with_its_figure(name: str, changes: dict[str, object], words: str) -> None:
    assert value(Limits().with_changes(changes), name) == words


def test_a_cap_says_what_happens_above_it() -> None:
    def meaning(policy: str) -> str:
        limits = Limits(max_tokens_cap=1000, max_tokens_policy=policy)
        return next(row.meaning for row in limits_in_words(limits) if "max_tokens_cap" in row.limits)

    assert "is served with this many" in meaning("cap")
    assert "answered 400" in meaning("refuse")


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (0.25, "0.3 seconds"),
        (1, "1 second"),
        (10, "10 seconds"),
        (90, "1.5 minutes"),
        (3600, "1 hour"),
        (600_000, "166.7 hours"),
    ],
)
def test_a_span_of_time_is_rounded_up(amount: float, words: str) -> None:
    assert seconds(amount) == words


def test_expectations_come_from_the_slowest_of_the_limits() -> None:
    by_requests = expectations(Limits(requests_per_minute=60), False)
    assert "50 requests: about 50 seconds at best" in by_requests[1].takes
    by_tokens = expectations(Limits(requests_per_minute=60, input_tokens_per_minute=50_000), False)
    assert "about 10 minutes at best" in by_tokens[1].takes
    assert "up to 5 of them a minute" in by_tokens[0].takes
    free = expectations(Limits(requests_per_minute=None), True)
    assert "as fast as the models answer" in free[2].takes
    assert "it costs half" in free[2].how


def test_a_scan_leaves_room_for_other_work_but_never_none() -> None:
    assert "At most 7 requests at once" in expectations(Limits(sessions_max=15), False)[1].how
    assert "At most 1 request at once" in expectations(Limits(sessions_max=1), False)[1].how
