"""Requests and answers that are plain, and what is nearly that: for the tests of both readers and for fuzzing."""

from __future__ import annotations

import json
import random
from typing import Any

TEXTS: tuple[Any, ...] = (
    "",
    "hello",
    'a "quoted" \\ line\n\t',
    "é \U0001f600 \u2028",
    "x" * 40,
    "\x7f",
    [{"type": "text", "text": "a"}],
    None,
    7,
)
WORDS: tuple[Any, ...] = ("claude-haiku-5-5", "claude-haiku-5-5", "claude-haiku-5-5", "é", "", "a\n", 'a"b', None, 5)
COUNTS: tuple[Any, ...] = (0, 1, 25, 4096, 10**9, 10**9 + 1, 10**12, 10**12 + 1, -1, 1.0, 1e3, "3", None, True)
ANY: tuple[Any, ...] = (None, 0.5, -1e9, "a", [], {}, [[{"a": [1, {}]}], "]"], {"a": {"b": [True, False]}}, ["stop"])
USAGE: dict[str, tuple[Any, ...]] = {
    "cache_creation_input_tokens": COUNTS,
    "cache_read_input_tokens": COUNTS,
    "cache_creation": (None, {}, *({"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": n} for n in COUNTS)),
    "server_tool_use": (None, {}, {"web_search_requests": 0, "web_fetch_requests": None}, {"web_search_requests": 1}),
    "output_tokens_details": (None, {"thinking_tokens": 5, "other": ANY}, {"thinking_tokens": -1}),
    "speed": (None, "standard", "fast", "slow"),
    "inference_geo": (None, "global", "us", ""),
    "service_tier": (None, "standard", "batch", 3),
    "iterations": (None, None, [], [{"type": "message", "input_tokens": 500, "output_tokens": 50}]),
    "other": (*ANY, "é", "\\"),
}
REQUEST: dict[str, tuple[Any, ...]] = {
    "stream": (True, False, None, 1),
    "system": TEXTS,
    "temperature": ANY,
    "metadata": ANY,
    "stop_sequences": ANY,
    "top_p": ANY,
    "top_k": ANY,
    "thinking": ANY,
}
OTHERS: dict[str, tuple[Any, ...]] = {"tools": ([], [{"name": "a"}]), "speed": ("fast",), "unknown": ANY, "é": ANY}
BREAKS = (b"", b" ", b"\n", b",", b":", b'"', b"\\", b"\\u0061", b"\\ud83d", b"\\udc00", b"{", b"}", b"[", b"]")
MORE = (b"0", b"00", b"-", b".5", b"e9", b"\x00", b"\x1f", b"\x7f", b"\x80", b"\xff", b"null", b'"model":"b",', b"1")


def some(rng: random.Random, members: dict[str, tuple[Any, ...]], share: float) -> dict[str, Any]:
    """Some of the members; mostly with the values that come first."""
    return {
        name: rng.choice(values[: 3 if rng.random() < 0.8 else None])
        for name, values in members.items()
        if rng.random() < share
    }


def written(rng: random.Random, document: dict[str, Any]) -> bytes:
    """In any order, with spaces or without, as one of those who write JSON does; now and then not quite."""
    members = list(document.items())
    rng.shuffle(members)
    separators = (",", ":") if rng.random() < 0.7 else rng.choice(((", ", ": "), (" ,\n", "\t:\r")))
    raw = json.dumps(dict(members), separators=separators, ensure_ascii=rng.random() < 0.5).encode()
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        at = rng.randrange(len(raw) + 1)
        raw = raw[:at] + rng.choice(BREAKS + MORE) + raw[at + rng.choice((0, 0, 1, 2)) :]
    return raw[: rng.randrange(len(raw))] if rng.random() < 0.05 else raw


def some_request(rng: random.Random) -> bytes:
    def turn() -> dict[str, Any]:
        more = some(rng, {"cache_control": ANY}, 0.02)
        return {"role": "user", "content": rng.choice(TEXTS[: 6 if rng.random() < 0.9 else None]), **more}

    document: dict[str, Any] = {
        "model": rng.choice(WORDS[: 3 if rng.random() < 0.9 else None]),
        "max_tokens": rng.choice(COUNTS[: 5 if rng.random() < 0.9 else None]),
        "messages": [turn() for _ in range(rng.choice((0, 1, 1, 3)))],
    }
    document |= some(rng, REQUEST, 0.2) | some(rng, OTHERS, 0.02)
    if rng.random() < 0.05:
        document.pop(rng.choice(list(document)))
    return written(rng, document)


def some_answer(rng: random.Random) -> bytes:
    usage: dict[str, Any] = {
        "input_tokens": rng.choice(COUNTS[: 5 if rng.random() < 0.9 else None]),
        "output_tokens": rng.choice(COUNTS[: 5 if rng.random() < 0.9 else None]),
    } | some(rng, USAGE, 0.4)
    document: dict[str, Any] = {
        "model": rng.choice(WORDS[: 3 if rng.random() < 0.9 else None]),
        "stop_reason": rng.choice(("end_turn", "end_turn", None, *WORDS)),
        "usage": usage if rng.random() < 0.97 else rng.choice(ANY),
        "content": [{"type": "text", "text": rng.choice(TEXTS)}, *ANY],
    }
    if rng.random() < 0.05:
        document.pop(rng.choice(list(document)))
    return written(rng, document)


def cases(rng: random.Random) -> tuple[str, tuple[object, ...]]:
    """One call, and its arguments."""
    if rng.random() < 0.5:
        return "plain_request", (some_request(rng),)
    return "plain_answer", (some_answer(rng), rng.random() < 0.3)
