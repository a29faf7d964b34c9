"""The straight way of a request does what the way through every step does.

The same answer is given to two gateways: to one in a single read, to the other head, body and end apart.
"""

from __future__ import annotations

import json
import os
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenantry.domain.life import TABLE, Do, Event, State, straight
from tenantry.gateway import exchange
from tests.unit.gateway.playbook import MODEL, OPEN, World, end_events, message, start_event

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
ROUNDS = 400
# Comes with the percentage that it is told of.
THRESHOLD = re.compile(rb"anthropic-ratelimit-unified-overage-surpassed-threshold: [0-9.]+\r\n")
# Names that are drawn; and what is left of limits: an answer in one read is told after it has been counted.
DIFFERS = re.compile(
    rb"(?m)(?<=^request-id: ).*$|(?<=req_)[0-9A-Za-z]+|(?<=-remaining: ).*$|(?<=-reset: ).*$|(?<=-utilization: ).*$"
    rb"|(?<=-status: ).*$"
)

USAGES: dict[str, list[Any]] = {
    "input_tokens": [0, 10, 5_000, 190_000, 10**12, None, "7"],
    "output_tokens": [0, 5, 90, 200_000, None, 1.5],
    "cache_creation_input_tokens": [None, 0, 300],
    "cache_read_input_tokens": [None, 0, 4_000],
    "cache_creation": [None, {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}],
    "server_tool_use": [None, {"web_search_requests": 0}, {"web_search_requests": 2}],
    "output_tokens_details": [None, {"thinking_tokens": 3}],
    "speed": [None, "standard", "fast"],
    "inference_geo": [None, "global", "us"],
    "service_tier": [None, "standard", "batch", "priority", "ünusual"],
    "iterations": [None, [], [{"type": "message", "model": MODEL, "input_tokens": 5, "output_tokens": 5}]],
    "unknown": [1, "a\\b", {"deep": ["é"]}],
}


def some_answer(chance: random.Random) -> tuple[int, bytes]:
    usage = {"input_tokens": 10, "output_tokens": 5}
    for name in chance.sample(list(USAGES), chance.choice((0, 0, 1, 2, 4))):
        usage[name] = chance.choice(USAGES[name])
    body: dict[str, Any] = {
        "model": chance.choice((MODEL, MODEL, MODEL + "-20261001", "claude-unheard-of", "", 'odd"one')),
        "stop_reason": chance.choice(("end_turn", "max_tokens", "refusal", None, "x\ty")),
        "usage": usage,
        "content": chance.choice(([], [{"type": "text", "text": "hi"}])),
    }
    raw = json.dumps(body, indent=chance.choice((None, None, 1))).encode()
    status = chance.choice((200, 200, 200, 200, 201, 400, 429, 529))
    return status, chance.choice((raw, raw, raw, raw[:-1], b"", b"{}", b"\xef\xbb\xbf" + raw))


def some_request(chance: random.Random) -> dict[str, Any]:
    body = message("hello" * chance.choice((1, 400)), chance.choice((10, 100, 4_000)))
    if chance.random() < 0.3:
        body["system"] = [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    if chance.random() < 0.1:
        body["speed"] = "standard"
    return body


def answered(tmp_path: Path, seed: int, *, in_one: bool, budget_nanos: int | None) -> list[Any]:
    """Everything that one gateway wrote, counted and told."""
    chance = random.Random(seed)
    limits = replace(OPEN, input_tokens_per_minute=10**9, output_tokens_per_minute=10**9)  # full again in no time
    world = World(tmp_path, limits=limits, budget_nanos=budget_nanos)
    told: list[Any] = []
    levels: list[float] = []  # of each bucket, when answers have just been counted
    for _ in range(6):
        client = world.client()
        client.ask(some_request(chance))
        status, body = some_answer(chance)
        headers = {"content-type": "application/json", "request-id": chance.choice(("req_up", 'r"1', "r\\2"))}
        world.turn()
        for _ in range(8):
            for connecting in list(world.connecting):
                connecting.made()
            for connection in list(world.sent):
                if in_one:
                    connection.whole(status, body, headers)
                else:
                    connection.head(status, headers | {"content-length": str(len(body))})
                    if body:
                        connection.body(body)
                    connection.end()
            levels += [bucket.level for lane in world.parts.lanes.register.lanes() for bucket in lane.buckets]
            world.advance(40)
        told.append((client.answers, DIFFERS.sub(b"", THRESHOLD.sub(b"", client.last))))
    assert world.leftovers() == []
    own, of_key = next(iter(world.parts.till._accounts.values())), list(world.parts.till._accounts.values())[1]
    blank: dict[str, dict[str, Any]] = {  # names are drawn, and so are the pauses before what is tried again
        "begin": {"request_id": "", "begun_at_us": 0},
        "end": {"first_byte_at_us": 0, "ended_at_us": 0},
    }
    events = [
        (kind, replace(event, attempt_id="", **blank[kind])) for kind, event in world.disk.events if kind in blank
    ]
    return [told, levels, events, own.spent, of_key.spent, own.excess_nanos, own.held_nanos]


@pytest.mark.parametrize("budget_nanos", [None, 10**12, 3_000_000])
def test_an_answer_in_one_read_is_booked_and_told_like_one_in_parts(tmp_path: Path, budget_nanos: int | None) -> None:
    print(f"TENANTRY_SEED={SEED}")
    chance = random.Random(SEED)
    settled = 0
    for number in range(ROUNDS // 6):
        seed = chance.randrange(1 << 32)
        folder = tmp_path / str(number)
        straight = answered(folder, seed, in_one=True, budget_nanos=budget_nanos)
        stepwise = answered(folder, seed, in_one=False, budget_nanos=budget_nanos)
        for one, other in zip(straight, stepwise, strict=True):
            assert one == other, seed
        settled += sum(kind == "end" and event.outcome == "settled" for kind, event in straight[2])
    assert settled > 20


def text_event(text: str) -> bytes:
    """As upstream writes it: without blanks."""
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"%b"}}\n\n' % text.encode()
    )


def streamed(tmp_path: Path, texts: list[str], *, in_chunks: bool, budget_nanos: int | None) -> list[Any]:
    """The same of a stream whose deltas come as one whole chunk each, or taken out of their chunks."""
    world = World(tmp_path, limits=replace(OPEN, output_tokens_per_minute=10**9), budget_nanos=budget_nanos)
    client = world.client()
    client.ask(message(max_tokens=60_000, stream=True))
    world.turn()
    world.connecting[0].made()
    connection, levels, wholes = world.sent[0], list[Any](), 0
    connection.head(200, {"content-type": "text/event-stream"})
    connection.body(start_event() + text_event("begun"))
    for text in texts:
        delta, sink = text_event(text), connection.sink
        if in_chunks and sink is not None and sink.on_chunk(b"%x\r\n%b\r\n" % (len(delta), delta)):
            wholes += 1
        elif sink is not None:
            connection.body(delta)
        held = [account.held_nanos for account in world.parts.till._accounts.values()]
        buckets = [bucket.level for lane in world.parts.lanes.register.lanes() for bucket in lane.buckets]
        levels.append((held, buckets))
        world.advance(1)
    if connection.sink is not None:
        connection.body(end_events(output_tokens=900))
        connection.end()
        world.turn()
    assert (wholes > 5) is in_chunks
    assert world.leftovers() == []
    names = ("attempt_id", "request_id")  # which are drawn
    events = [
        (kind, replace(event, **{name: "" for name in names if hasattr(event, name)}))
        for kind, event in world.disk.events
    ]
    return [client.answers, DIFFERS.sub(b"", client.last), levels, events, world.told]


@pytest.mark.parametrize("budget_nanos", [None, 10**12, 8_000_000])
def test_a_stream_in_whole_chunks_is_held_counted_and_told_like_one_taken_out_of_them(
    tmp_path: Path, budget_nanos: int | None
) -> None:
    print(f"TENANTRY_SEED={SEED}")
    chance = random.Random(SEED)
    texts = ["x" * chance.choice((1, 40, 700, 3_000)) for _ in range(60)]
    whole, taken_out = (
        streamed(tmp_path / str(in_chunks), texts, in_chunks=in_chunks, budget_nanos=budget_nanos)
        for in_chunks in (True, False)
    )
    for one, other in zip(whole, taken_out, strict=True):
        assert one == other
    assert sum(kind == "progress" for kind, _ in whole[3]) > 3


@pytest.mark.interpreted
@pytest.mark.parametrize("budget_nanos", [None, 10**12, 3_000_000])
def test_the_first_attempt_is_decided_as_tries_decides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget_nanos: int | None
) -> None:
    def decide(one: exchange.Exchange, _now: float) -> None:
        tries = one._tries_now()
        one._follow(tries, tries.first())

    print(f"TENANTRY_SEED={SEED}")
    chance = random.Random(SEED)
    for number in range(ROUNDS // 12):
        seed = chance.randrange(1 << 32)
        straight = answered(tmp_path / f"{number}", seed, in_one=False, budget_nanos=budget_nanos)
        with monkeypatch.context() as patch:
            patch.setattr(exchange.Exchange, "_decide", decide)
            by_tries = answered(tmp_path / f"{number}", seed, in_one=False, budget_nanos=budget_nanos)
        for one, other in zip(straight, by_tries, strict=True):
            assert one == other, seed


def test_the_straight_way_is_the_tables() -> None:
    assert straight(State.READING, Event.READ, Do.ADMIT) is State.DECIDING
    with pytest.raises(AssertionError, match="says something else"):
        straight(State.READING, Event.READ, Do.RELAY)
    with pytest.raises(AssertionError, match="says something else"):
        straight(State.ENDED, Event.READ, Do.ADMIT)
    assert TABLE[State.SENT][Event.HEAD] is not None
