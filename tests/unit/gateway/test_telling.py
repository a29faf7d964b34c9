"""What a client is told of its quota: rendered when it is another, and never anything else than it would be anew."""

from __future__ import annotations

import random
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from tenantry.domain.admission import Lane, Obstacle, Scope
from tenantry.domain.directory import GatewayKey, KeyStatus, Tenant, TenantStatus
from tenantry.domain.limits import Limits
from tenantry.gateway.authentication import Principal
from tenantry.gateway.telling import Telling

OPEN = Limits(sessions_max=1000, requests_per_minute=None)
START_US = 1_795_608_000_000_000


def some_limits(chance: random.Random) -> Limits:
    return replace(
        OPEN,
        requests_per_minute=chance.choice((None, 60, 600)),
        request_burst=chance.choice((1, 10)),
        input_tokens_per_minute=chance.choice((None, 6000)),
        output_tokens_per_minute=chance.choice((None, 6000)),
    )


def told_anew(lane: Lane, key_lane: Lane | None, now: float, wall_us: int) -> bytes:
    """What is told where nothing has been told before."""
    for each in (lane, key_lane):
        for bucket in each.buckets if each is not None else ():
            bucket.told_second = -1
    return Telling(ZoneInfo("UTC"), "").quota_lines(lane, key_lane, now, wall_us)


def test_what_was_told_before_is_told_again_only_where_it_is_still_true() -> None:
    chance = random.Random(9)
    telling, again = Telling(ZoneInfo("UTC"), ""), 0
    for _ in range(50):
        now = 100.0
        lane = Lane(some_limits(chance), now)
        key_lane = Lane(some_limits(chance), now, Scope.KEY) if chance.random() < 0.5 else None
        lanes = [each for each in (lane, key_lane) if each is not None]
        before = b""
        for _ in range(60):
            now += chance.choice((0.0, 0.0, 0.001, 0.3, 1.0, 100.0))
            one = chance.choice(lanes)
            if chance.random() < 0.1:
                one.apply(some_limits(chance), now)
            for bucket in one.buckets:
                bucket.level = chance.choice((bucket.level, bucket.level - 1, -5.0, 0.0, bucket.size))
            wall_us = START_US + int(now * 1_000_000)
            told = telling.quota_lines(lane, key_lane, now, wall_us)
            again += told == before
            before = told
            assert told == told_anew(lane, key_lane, now, wall_us)
            assert told == telling.quota_lines(lane, key_lane, now, wall_us)
    assert again > 100


def test_the_holder_that_has_less_left_is_told_and_what_is_not_limited_is_not() -> None:
    lane = Lane(replace(OPEN, requests_per_minute=600, request_burst=100), 0.0)
    key_lane = Lane(replace(OPEN, requests_per_minute=60, request_burst=10), 0.0, Scope.KEY)
    lines = Telling(ZoneInfo("UTC"), "").quota_lines(lane, key_lane, 0.0, START_US)
    assert lines.split(b"\r\n")[:2] == [
        b"anthropic-ratelimit-requests-limit: 60",
        b"anthropic-ratelimit-requests-remaining: 10",
    ]
    assert b"tokens" not in lines
    assert Telling(ZoneInfo("UTC"), "").quota_lines(Lane(OPEN, 0.0), None, 0.0, START_US) == b""


NONE, RATE, BURST = frozenset[str](), frozenset({"requests_per_minute"}), frozenset({"request_burst"})


@pytest.mark.parametrize(
    ("own", "of_key", "scope", "words"),
    [
        (NONE, None, Scope.TENANT, "Tenant acme is limited to 7 requests a minute, 2 at once (tier standard)."),
        (
            RATE,
            None,
            Scope.TENANT,
            "Tenant acme is limited to 7 requests a minute, 2 at once (a limit of its own).",
        ),
        (
            BURST,
            None,
            Scope.TENANT,
            "Tenant acme is limited to 7 requests a minute, 2 at once (a limit of its own).",
        ),
        (NONE, RATE, Scope.KEY, "This key is limited to 7 requests a minute, 2 at once."),
        (NONE, NONE, Scope.KEY, "This key is limited to 7 requests a minute, 2 at once (tier standard)."),
        (RATE, NONE, Scope.KEY, "This key is limited to 7 requests a minute, 2 at once (a limit of its own)."),
        (RATE, None, Scope.UPSTREAM, "The upstream's requests per minute are used up (it announces 50 a minute)."),
    ],
)
def test_a_refusal_says_whose_limit_it_is(
    own: frozenset[str], of_key: frozenset[str] | None, scope: Scope, words: str
) -> None:
    limits = replace(OPEN, requests_per_minute=7, request_burst=2)
    tenant = Tenant("tnt_1", "acme", "Acme", TenantStatus.ACTIVE, "standard", limits, None, own_limits=own)
    key = GatewayKey("key_1", "tnt_1", b"", KeyStatus.ACTIVE)
    if of_key is not None:
        key = replace(key, limits=limits, own_limits=of_key)
    obstacle = Obstacle("requests_per_minute", 3.0, scope, 50 if scope is Scope.UPSTREAM else None)
    refusal = Telling(ZoneInfo("UTC"), "").limit_refusal(obstacle, Principal(tenant, key))
    assert refusal.message == f"{words[:-1]}. Try again in 3 s."
