"""Retry decisions as tables."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.retry import (
    Failure,
    RetryBudget,
    next_delay,
    read_failure,
    read_retry_after,
    regain_at,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MONTH = 31 * 86400
SPEND_CAP = (
    b'{"type":"error","error":{"type":"rate_limit_error","message":"You have reached your API usage limits: '
    b'the monthly cap. You will regain access on 2026-12-01 at 00:00 UTC.",'
    b'"details":{"error_code":"enforced_spend_limit_reached"}}}'
)


@pytest.mark.parametrize(
    ("failure", "made", "elapsed", "delay"),
    [
        (Failure(None), 1, 0, 0.25),
        (Failure(529), 1, 0, 0.25),
        (Failure(529), 2, 0, 0.5),
        (Failure(500), 3, 0, None),
        (Failure(400), 1, 0, None),
        (Failure(404), 1, 0, None),
        (Failure(400, should_retry=True), 1, 0, 0.25),
        (Failure(529, should_retry=False), 1, 0, None),
        (Failure(429, retry_after=7), 1, 0, 7),
        (Failure(429, retry_after=0), 1, 0, 0),
        (Failure(429, retry_after=29), 1, 2, None),
        (Failure(429, retry_after=3600), 1, 0, None),
        (Failure(429, spend_cap=True), 1, 0, None),
        (Failure(503), 1, 29.9, None),
    ],
)
def test_next_delay(failure: Failure, made: int, elapsed: float, delay: float | None) -> None:
    assert next_delay(failure, made, 3, elapsed, 0.5) == delay


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 2))
def test_backoff_has_full_jitter_within_its_bounds(chance: float, made: int) -> None:
    delay = next_delay(Failure(529), made, 3, 0, chance)
    assert delay is not None
    assert 0 <= delay < 0.5 * 2 ** (made - 1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"3"}, 3),
        ({b"retry-after": b"0.5"}, 0.5),
        ({b"retry-after": b"3", b"retry-after-ms": b"250"}, 0.25),
        ({b"retry-after-ms": b"x", b"retry-after": b"2"}, 2),
        ({b"retry-after": b"Tue, 24 Nov 2026 12:00:30 GMT"}, 30),
        ({b"retry-after": b"Tue, 24 Nov 2026 11:00:00 GMT"}, 0),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"inf"}, MONTH),
        ({b"retry-after": b"1e30"}, MONTH),
        ({b"retry-after": b"2678401"}, MONTH),
        ({b"retry-after": b"Fri, 31 Dec 9999 23:59:59 -2359"}, MONTH),
        ({b"retry-after": b"Fri, 31 Dec 99999 23:59:59 GMT"}, MONTH),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b"\xff"}, None),
    ],
)
def test_retry_after(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert read_retry_after(headers, NOW) == seconds


def test_a_spend_cap_is_a_429_without_retry_after_that_says_so() -> None:
    assert read_failure(429, {}, SPEND_CAP, NOW).spend_cap
    assert not read_failure(429, {b"retry-after": b"1"}, SPEND_CAP, NOW).spend_cap
    assert not read_failure(400, {}, SPEND_CAP, NOW).spend_cap
    assert not read_failure(429, {}, b"slow down", NOW).spend_cap
    assert regain_at(SPEND_CAP, NOW) == datetime(2026, 12, 1, tzinfo=UTC)
    assert regain_at(b"nothing", NOW).hour == 13
    assert regain_at(b"regain access on 2026-13-45", NOW).hour == 13


@pytest.mark.parametrize("requests", [1, 10, 100, 1000])
def test_retries_never_exceed_their_budget(requests: int) -> None:
    budget, attempts = RetryBudget(), 0
    for _ in range(requests):
        budget.sent()
        attempts += 1
        while budget.may_retry:
            budget.take()
            attempts += 1
    assert 5 * attempts <= 6 * requests + 15


def test_credit_of_quiet_hours_is_bounded() -> None:
    budget = RetryBudget()
    for _ in range(100_000):
        budget.sent()
    taken = 0
    while budget.may_retry:
        budget.take()
        taken += 1
    assert taken == 100
