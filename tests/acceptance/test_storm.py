"""A storm over four tenants and two upstreams: at its end all are answered, all is given back, and the books agree.

1,500 requests; TENANTRY_STORM=10000 for the whole, TENANTRY_STORM_SEED to repeat one (tests/storm says how).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tenantry.ledger.verification import verify
from tests.stack import Stack, wait_for
from tests.storm.accounting import (
    add_tenant,
    booked_nanos,
    descriptors,
    is_idle,
    resident_bytes,
)
from tests.storm.clients import Answer, Leaving, ask, ask_all
from tests.storm.upstream import Asked, Upstream

REQUESTS = int(os.environ.get("TENANTRY_STORM", "1500"))
SEED = int(os.environ.get("TENANTRY_STORM_SEED") or random.SystemRandom().getrandbits(32))
AT_ONCE = 48
# What a request may keep for good: far below a connection's buffers, far above what an allocator's rounding leaves.
GROWTH_BYTES_MAX = 64 * 1024 * 1024
# Connections to upstreams that stay open for the next request; they expire within half a minute.
IDLE_DESCRIPTORS_MAX = 8
# Faults that hang end here, and not after ten minutes.
ANSWER_SECONDS = 8.0

CALM: dict[str, Any] = {}
# What goes wrong in the storm, by weight.
WEATHER: tuple[tuple[int, dict[str, Any]], ...] = (
    (30, {}),
    (10, {"delay_ms": 100}),
    (10, {"events": 12, "gap_ms": 20}),
    (3, {"hidden_ms": 600, "hidden_tokens_per_second": 140}),
    (3, {"slow_ms": 2}),
    *((1, {"cut": cut, "how": how}) for cut in ("before-body", "after-body", "half-head") for how in ("fin", "rst")),
    *((1, {"cut": cut, "how": how}) for cut in ("after-head", "mid-event", "between") for how in ("fin", "rst")),
    (1, {"cut": "before-stop"}),
    (1, {"cut": "after-body", "how": "hang"}),
    (1, {"length": 30}),
    (1, {"length": -30}),
    (1, {"chunk_garbage": True}),
    (2, {"status": 429, "retry_after": "1"}),
    (1, {"status": 429, "retry_after": "Wed, 25 Nov 2026 00:00:00 GMT"}),
    (1, {"status": 429, "retry_after": "99999999999999999999"}),
    (1, {"status": 429}),
    (2, {"status": 529}),
    (2, {"status": 500}),
    (1, {"status": 503}),
    (4, {"idle_ms": 0}),
    (4, {"idle_ms": 2}),
    (1, {"unasked": True}),
    (1, {"usage": {"output_tokens": 2**53}}),
    (1, {"usage": {"output_tokens": "many"}}),
    (1, {"usage": {"output_tokens": -1.5}}),
    (2, {"text_json": "\\ud83d"}),
    (1, {"bom": True}),
    (1, {"deep": 2000}),
    (1, {"content_type": "Text/Event-Stream"}),
    (1, {"event_field": "event:"}),
)
LEAVINGS = ("before-body", "after-body", "after-head", "mid-stream")


@dataclass(slots=True)
class Planned:
    slug: str
    script: dict[str, Any]
    stream: bool
    leaving: Leaving | None
    pause_ms: int


def plan(number: int, source: random.Random) -> Planned:
    """One request of the storm. The tenant "calm" never meets a fault and never leaves."""
    slug = source.choice(("calm", "wild", "budget", "fallback"))
    stream = source.random() < 0.6
    if slug == "calm":
        return Planned(slug, CALM | {"tag": f"{number}"}, stream, None, 0)
    weights, scripts = zip(*WEATHER, strict=True)
    script = source.choices(scripts, weights)[0] | {"tag": f"{number}"}
    if script.get("status", 200) >= 429 and source.random() < 0.7:
        script["times"] = 1
    leaving = None
    if source.random() < 0.15:
        leaving = Leaving(source.choice(LEAVINGS), source.random() < 0.5, source.choice((0, 5, 60)))
    return Planned(slug, script, stream, leaving, 5 if source.random() < 0.05 else 0)


@pytest.fixture
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    made = Upstream(), Upstream()
    yield made
    for one in made:
        one.close()


def test_after_a_storm_all_are_answered_all_is_given_back_and_the_books_agree(
    own_stack: Stack, upstreams: tuple[Upstream, Upstream]
) -> None:
    print(f"seed {SEED}")
    source = random.Random(SEED)
    site = own_stack.start("gateway", "control")
    first, second = upstreams
    settings = {"answer_seconds": ANSWER_SECONDS}
    keys = {
        "calm": add_tenant(site, "calm", first, upstream_settings=settings),
        "wild": add_tenant(site, "wild", first, upstream_settings=settings, sessions_max=12),
        "budget": add_tenant(site, "budget", second, upstream_settings=settings, budget_nanos=10**12, sessions_max=12),
        "fallback": add_tenant(site, "fallback", first, fallback=second, upstream_settings=settings),
    }
    pid = site.processes["gateway"].pid
    asyncio.run(ask_all(100, lambda _: ask(site.port, keys["calm"]), 20))  # warm: what is kept for good is there
    descriptors_before, resident_before = descriptors(pid), resident_bytes(pid)
    planned = [plan(number, source) for number in range(REQUESTS)]

    async def one(number: int) -> Answer:
        what = planned[number]
        return await ask(
            site.port,
            keys[what.slug],
            what.script,
            leaving=what.leaving,
            pause_ms=what.pause_ms,
            stream=what.stream,
            max_tokens=1000,
        )

    started = time.monotonic()
    answers: list[Answer] = asyncio.run(ask_all(REQUESTS, one, AT_ONCE))
    print(f"{REQUESTS} requests in {time.monotonic() - started:.1f} s")
    everyone_is_answered(planned, answers)
    for slug in keys:
        wait_for(lambda slug=slug: is_idle(site, slug), what=f"what {slug} holds to be given back")
    assert site.processes["gateway"].poll() is None
    wait_for(lambda: descriptors(pid) <= descriptors_before + IDLE_DESCRIPTORS_MAX, what="the descriptors to be closed")
    assert resident_bytes(pid) - resident_before < GROWTH_BYTES_MAX
    the_books_agree(site, keys, first.asked + second.asked)


def everyone_is_answered(planned: list[Planned], answers: list[Answer]) -> None:
    silent = [
        (what.slug, what.script)
        for what, answer in zip(planned, answers, strict=True)
        if answer.status is None and not answer.left
    ]
    assert silent == []
    calm = [answer for what, answer in zip(planned, answers, strict=True) if what.slug == "calm"]
    served = sum(answer.is_served for answer in calm)
    print(f"calm: {served} of {len(calm)} served")
    assert served >= 0.99 * len(calm), Counter((answer.status, answer.error) for answer in calm)
    # A stream that does not end well says so: only a body that its length cuts short may end without a word.
    for what, answer in zip(planned, answers, strict=True):
        if answer.status == 200 and not answer.left and what.stream and answer.error is None:
            assert b"message_stop" in answer.body, what


def the_books_agree(site: Stack, keys: dict[str, str], asked: list[Asked]) -> None:
    billed: Counter[str] = Counter()
    for entry in asked:
        billed[entry.secret.removeprefix("storm-secret-of-").rpartition("-")[0]] += entry.nanos
    for slug in keys:
        wait_for(lambda slug=slug: booked_nanos(site, slug) >= billed[slug], what=f"the bill of {slug} in the ledger")
    bills = {entry.request_id: entry for entry in asked}
    differing = [
        (row["upstream_request_id"], row["outcome"], row["cost_nanos"], bill.nanos)
        for row in site.rows()
        if (bill := bills.get(row["upstream_request_id"])) is not None
        and ((row["cost_nanos"] or 0) < bill.nanos or (bill.told and not bill.lies and row["cost_nanos"] != bill.nanos))
    ]
    assert differing == []
    assert verify(site.site.engine).faults == []
