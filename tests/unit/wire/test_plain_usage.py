"""One typed decode reads what reading member by member reads, and nothing that has a flaw."""

import json
import os
import random
from typing import Any

import pytest

from tenantry.domain.usage import read_usage
from tenantry.wire.loose import decode_loosely
from tenantry.wire.plain_usage import read_plain_usage

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)

ODD: list[Any] = [None, 0, 1, 7, 10**12, 10**12 + 1, -1, 1.0, 1.5, "3", True, [], {}, "", "standard", "fast", "us", "é"]
PLAIN: dict[str, list[Any]] = {
    "input_tokens": [0, 25, 10**12],
    "output_tokens": [0, 1, 4096],
    "cache_creation_input_tokens": [None, 0, 100],
    "cache_read_input_tokens": [None, 0, 2048],
    "cache_creation": [None, {}, {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60}],
    "server_tool_use": [None, {"web_search_requests": 2}, {"web_search_requests": None, "web_fetch_requests": 1}],
    "output_tokens_details": [None, {"thinking_tokens": 5}],
    "speed": [None, "standard", "fast"],
    "inference_geo": [None, "global", "us", "not_available", ""],
    "service_tier": [None, "standard", "batch", "priority"],
    "iterations": [None, [], [{"type": "message", "input_tokens": 1}]],
    "other": [None, 3, {"a": "é"}],
}


def some_usage(chance: random.Random) -> bytes:
    usage = {name: chance.choice(values) for name, values in PLAIN.items() if chance.random() < 0.6}
    for _ in range(chance.choice((0, 0, 0, 1))):
        usage[chance.choice(list(PLAIN))] = chance.choice(ODD)
    return json.dumps(usage).encode()


def test_what_is_read_at_once_is_what_is_read_by_members() -> None:
    print(f"TENANTRY_SEED={SEED}")
    chance, read = random.Random(SEED), 0
    for _ in range(20_000):
        raw, wants_1h = some_usage(chance), chance.random() < 0.3
        usage = read_plain_usage(raw, wants_1h)
        if usage is None:
            continue
        read += 1
        flaws: list[str] = []
        told: Any = decode_loosely(raw)
        assert (usage, flaws) == (read_usage(told, wants_1h=wants_1h, flaws=flaws), []), raw
    assert read > 2_000


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"input_tokens":1}',
        b'{"input_tokens":1,"output_tokens":2.0}',
        b'{"input_tokens":1,"output_tokens":"2"}',
        b'{"input_tokens":1,"output_tokens":-2}',
        b'{"input_tokens":1,"output_tokens":true}',
        b'{"input_tokens":1,"output_tokens":2,"iterations":[]}',
        b'{"input_tokens":1,"output_tokens":2,"speed":"\\ud83d"}',
        b'{"input_tokens":1,"output_tokens":2',
    ],
)
def test_what_is_not_plain_is_left_to_the_reader_by_members(raw: bytes) -> None:
    assert read_plain_usage(raw, wants_1h=False) is None
