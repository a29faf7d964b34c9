"""What an upstream has told is owed: never is less held for a stream, nor would less be booked if its gateway died now.

The upstream here answers in several steps, as it does with server tools, advice and summaries (reference 5.1), tells in
between how far it has come, and uses more than anything that the body says lets one expect.
"""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tenantry.domain.orphans import end_of_orphan
from tenantry.domain.plausible import could_be
from tenantry.domain.usage import merge_usage, read_usage
from tenantry.wire.inspect import inspect_message
from tests.unit.gateway.playbook import MODEL, PRICES, START_US, World, event, message, text_event

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
STREAMS = 150
BUDGET_NANOS = 10**11
TOOLS: list[dict[str, Any]] = [
    {},
    {"tools": [{"type": "web_search_20260318", "name": "web_search", "max_uses": 2}]},
    {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5", "max_uses": 1}]},
    {"context_management": {"edits": [{"type": "compact_20260112"}]}},
    {"fallbacks": [{"model": "claude-sonnet-5-5"}]},
]


class Telling:
    """A stream whose upstream tells more and more, and what is owed by what it has told."""

    def __init__(self, world: World, body: dict[str, Any]) -> None:
        world.client().ask(body)
        world.turn()
        world.connecting[0].made()
        self.world = world
        self.connection = world.sent[0]
        self.connection.head(200, {"content-type": "text/event-stream"})
        self.fields = inspect_message(json.dumps(body).encode())
        self.told: dict[str, Any] = {}

    def start(self, **usage: Any) -> None:
        self.told = usage
        said = {"id": "msg_1", "model": MODEL, "content": [], "usage": usage}
        self._say(event("message_start", message=said))

    def tell(self, reason: str | None = None, **usage: Any) -> None:
        self.told = merge_usage(self.told, usage)
        self._say(event("message_delta", delta={"stop_reason": reason}, usage=usage))

    def _say(self, data: bytes) -> None:
        if self.connection.sink is not None:
            self.connection.body(data)
        self.world.turn()

    def stop(self) -> None:
        self._say(event("message_stop"))
        self.connection.end()
        self.world.turn()

    def text(self) -> None:
        self._say(text_event("some words " * 50))

    @property
    def is_running(self) -> bool:
        return self.connection.sink is not None

    @property
    def owed(self) -> int:
        usage, _ = could_be(read_usage(self.told), self.fields, MODEL)
        cost = PRICES.price(usage, MODEL, datetime.fromtimestamp(START_US / 1e6, UTC)).cost_nanos
        assert cost is not None
        return cost

    def of_orphan(self) -> int:
        """What would be booked if the gateway died now."""
        events = dict(self.world.disk.events)
        end = end_of_orphan(events["begin"], events.get("progress"), PRICES, START_US)
        assert end.cost_nanos is not None
        return end.cost_nanos

    def require_floor(self) -> None:
        owed = self.owed
        if self.is_running:
            assert self.world.parts.till.held_nanos() >= 2 * owed  # by the tenant's account and by the key's
            assert self.of_orphan() >= owed
        else:
            (end,) = [one for kind, one in self.world.disk.events if kind == "end"]
            assert end.cost_nanos >= owed


def step(kind: str, rng: random.Random, prompt: int, output: int) -> dict[str, Any]:
    model = {"model": "claude-opus-5-5"} if kind == "advisor_message" else {}
    return {"type": kind, "input_tokens": rng.randrange(prompt), "output_tokens": rng.randrange(output)} | model


def test_neither_hold_nor_orphan_is_ever_below_what_was_told(tmp_path: Path) -> None:
    print(f"TENANTRY_SEED={SEED}")
    rng, raised = random.Random(SEED), 0
    for number in range(STREAMS):
        (tmp_path / str(number)).mkdir()
        world = World(tmp_path / str(number), budget_nanos=BUDGET_NANOS)
        most = rng.choice([1, 100, 4_000])
        stream = Telling(world, message("hi", most, stream=True) | rng.choice(TOOLS))
        prompt, output = rng.choice([0, 10, 5_000, 800_000]), 1
        steps: list[dict[str, Any]] = []
        stream.start(input_tokens=prompt, output_tokens=output)
        stream.require_floor()
        for _ in range(rng.randrange(1, 6)):
            for _ in range(rng.randrange(3)):
                stream.text()
                stream.require_floor()
            prompt, output = prompt + rng.randrange(200_000), output + rng.randrange(2 * most)
            for _ in range(rng.randrange(3)):
                kind = rng.choice(["message", "message", "compaction", "advisor_message"])
                steps.append(step(kind, rng, 300_000, most + 1))
            before = world.parts.till.held_nanos()
            stream.tell(input_tokens=prompt, output_tokens=output, **({"iterations": steps} if steps else {}))
            stream.require_floor()
            raised += world.parts.till.held_nanos() > before
        stream.tell("end_turn", output_tokens=output)
        stream.require_floor()
        if stream.is_running:
            stream.stop()
        stream.require_floor()
        assert world.leftovers() == []
        (end,) = [one for kind, one in world.disk.events if kind == "end"]
        account = world.parts.till.account_of("tnt_acme")
        assert account is not None
        assert account.spent["month"] == end.cost_nanos
    assert raised > STREAMS // 4, raised


def test_more_answers_than_the_body_explains_are_booked_as_told_and_flagged(tmp_path: Path) -> None:
    """An answer of several steps, each within `max_tokens`: reference 5.2 rule 1 bills their sum."""
    world = World(tmp_path)
    stream = Telling(world, message(max_tokens=100, stream=True))
    stream.start(input_tokens=10, output_tokens=1)
    one = {"type": "message", "input_tokens": 400_000, "output_tokens": 90}
    stream.tell("end_turn", input_tokens=1_200_000, output_tokens=270, iterations=[one, one, one])
    stream.stop()
    (end,) = [one for kind, one in world.disk.events if kind == "end"]
    assert end.flaws == ("output_above_max_tokens",)
    assert end.cost_nanos >= stream.owed >= 3 * 400_000 * 100
    assert len(end.usage.iterations) == 3


def test_a_stream_that_is_whole_is_not_cut_for_what_it_told_last(tmp_path: Path) -> None:
    """It is owed all the same: the client gets what was paid for, and the next request is refused."""
    world = World(tmp_path, budget_nanos=5_000_000)
    stream = Telling(world, message(max_tokens=100, stream=True))
    stream.start(input_tokens=10, output_tokens=1)
    stream.tell("end_turn", input_tokens=500_000, output_tokens=20)
    stream.require_floor()
    stream.stop()
    assert "answer 200" in world.told
    account = world.parts.till.account_of("tnt_acme")
    assert account is not None
    assert (account.spent["month"], account.excess_nanos > 0) == (stream.owed, True)
    assert world.leftovers() == []


def test_a_stream_ends_when_what_it_has_told_passes_the_budget(tmp_path: Path) -> None:
    world = World(tmp_path, budget_nanos=3 * 10**9)
    stream = Telling(world, message(max_tokens=100, stream=True) | TOOLS[1])
    stream.start(input_tokens=10, output_tokens=1)
    stream.tell(input_tokens=2_000_000, output_tokens=200)
    assert stream.is_running
    stream.tell(input_tokens=12_000_000, output_tokens=300)
    assert not stream.is_running
    assert "answer 200 interrupted" in world.told
    stream.require_floor()
    assert world.leftovers() == []


def test_a_bill_above_what_was_reckoned_makes_the_next_hold_larger_though_it_was_told_on_the_way(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, budget_nanos=BUDGET_NANOS)
    first = Telling(world, message(max_tokens=100, stream=True) | TOOLS[1])
    bound = world.parts.till.held_nanos()
    first.start(input_tokens=10, output_tokens=1)
    first.tell(input_tokens=1_000_000, output_tokens=50)
    first.tell("end_turn", output_tokens=60)
    first.stop()
    world.client().ask(message(max_tokens=100, stream=True) | TOOLS[1])
    world.turn()
    assert world.parts.till.held_nanos() > 2 * bound


@pytest.mark.parametrize("told", [0, 7])
def test_a_prompt_that_is_told_as_nothing_stays_held_at_its_bound(tmp_path: Path, told: int) -> None:
    """Servers that speak the API may tell the prompt with the end alone."""
    world = World(tmp_path, budget_nanos=BUDGET_NANOS)
    stream = Telling(world, message("x" * 50_000, 100, stream=True))
    before = world.parts.till.held_nanos()
    stream.start(input_tokens=told, output_tokens=1)
    assert (world.parts.till.held_nanos() == before) is (told == 0)
