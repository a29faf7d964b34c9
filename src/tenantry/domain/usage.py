"""Token usage as the Claude API reports it (reference 4.4 and 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantry.domain.values import value

# No model reads or writes a millionth of it; a larger figure is a fault of the upstream, and must overflow no column.
COUNT_MAX: Final = 10**12
# Each is a request that took upstream a second; at $10 a thousand, a count as above would be $10 billion.
TOOL_REQUESTS_MAX: Final = 10**6
# An answer has a handful (reference 5.1): one for each compaction, advice and fallback.
ITERATIONS_MAX: Final = 1_000
# Models and tiers are some 30 characters long.
WORD_CHARS_MAX: Final = 128

# A count that is no count, a word that is no word, an entry that is no object.
USAGE_MALFORMED: Final = "usage_malformed"
# A count that is less than what the same answer told before: they are totals, and only grow (reference 4.4).
USAGE_FELL: Final = "usage_fell"
# What message_start tells of the output is a placeholder, "1..few" (reference 4.4): the final count may be below it.
OUTPUT_PLACEHOLDER_MAX: Final = 64


@value
class Iteration:
    """One entry of `usage.iterations`: a step that is billed at its own `model` (None: the response's model)."""

    type: str
    model: str | None
    input_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    cache_read_tokens: int
    output_tokens: int

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens + self.cache_read_tokens


@dataclass(init=False, slots=True)
class Usage:
    """What one answer used. Counts are tokens, or requests for the server tools."""

    input_tokens: int = field(default=0)
    cache_write_5m_tokens: int = field(default=0)
    cache_write_1h_tokens: int = field(default=0)
    cache_read_tokens: int = field(default=0)
    output_tokens: int = field(default=0)
    thinking_tokens: int = field(default=0)
    web_search_requests: int = field(default=0)
    web_fetch_requests: int = field(default=0)
    speed: str = field(default="standard")
    inference_geo: str = field(default="global")
    service_tier: str = field(default="standard")
    iterations: tuple[Iteration, ...] = field(default=())

    def __init__(
        self,
        input_tokens: int = 0,
        cache_write_5m_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        cache_read_tokens: int = 0,
        output_tokens: int = 0,
        thinking_tokens: int = 0,
        web_search_requests: int = 0,
        web_fetch_requests: int = 0,
        speed: str = "standard",
        inference_geo: str = "global",
        service_tier: str = "standard",
        iterations: tuple[Iteration, ...] = (),
    ) -> None:
        self.input_tokens = input_tokens
        self.cache_write_5m_tokens = cache_write_5m_tokens
        self.cache_write_1h_tokens = cache_write_1h_tokens
        self.cache_read_tokens = cache_read_tokens
        self.output_tokens = output_tokens
        self.thinking_tokens = thinking_tokens
        self.web_search_requests = web_search_requests
        self.web_fetch_requests = web_fetch_requests
        self.speed = speed
        self.inference_geo = inference_geo
        self.service_tier = service_tier
        self.iterations = iterations

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt: uncached, written to and read from the cache."""
        return self.input_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens + self.cache_read_tokens


def merge_usage(start: Mapping[str, Any], *deltas: Mapping[str, Any]) -> dict[str, Any]:
    """`message_start` overwritten by every non-null member of each `message_delta`: totals are SET, never added."""
    merged = dict(start)
    for delta in deltas:
        for name, told in delta.items():
            if told is not None:
                merged[name] = told
    return merged


def read_usage(raw: Mapping[str, Any], *, wants_1h: bool = False, flaws: list[str] | None = None) -> Usage:
    """The usage object of an answer. Members that are null or missing read as 0 (reference 5.1).

    So do members that are not counts (fractions, texts, negatives, truth values, more than `COUNT_MAX`), and then
    `USAGE_MALFORMED` is added to `flaws`.

    `wants_1h` says that the request had a one-hour cache breakpoint: writes beyond the reported split are then priced
    as such (reference 4.4).
    """
    found: list[str] = []
    get = raw.get
    # What is not told needs no look: this is read for each answer, and most tell four members.
    split = _NOTHING if get("cache_creation") is None else _mapping(get("cache_creation"), found)
    write_5m, write_1h = _cache_writes(get("cache_creation_input_tokens"), split, wants_1h, found)
    tools = _NOTHING if get("server_tool_use") is None else _mapping(get("server_tool_use"), found)
    details = _NOTHING if get("output_tokens_details") is None else _mapping(get("output_tokens_details"), found)
    entries = get("iterations")
    usage = Usage(
        _count(raw.get("input_tokens"), found),
        write_5m,
        write_1h,
        _count(raw.get("cache_read_input_tokens"), found),
        _count(raw.get("output_tokens"), found),
        _count(details.get("thinking_tokens"), found) if details else 0,
        _count(tools.get("web_search_requests"), found, TOOL_REQUESTS_MAX) if tools else 0,
        _count(tools.get("web_fetch_requests"), found, TOOL_REQUESTS_MAX) if tools else 0,
        "standard" if get("speed") is None else _word(get("speed"), "standard", found),
        "global" if get("inference_geo") is None else _word(get("inference_geo"), "global", found),
        "standard" if get("service_tier") is None else _word(get("service_tier"), "standard", found),
        _iterations(entries, wants_1h, found) if entries is not None else (),
    )
    if found and flaws is not None:
        flaws.append(USAGE_MALFORMED)
    return usage


def usage_document(usage: Usage) -> dict[str, Any]:
    """A usage object that reads as `usage`: what the ledger keeps where the text that came cannot be kept."""
    document = _counts_document(usage) | {
        "output_tokens_details": {"thinking_tokens": usage.thinking_tokens},
        "server_tool_use": {
            "web_search_requests": usage.web_search_requests,
            "web_fetch_requests": usage.web_fetch_requests,
        },
        "speed": usage.speed,
        "inference_geo": usage.inference_geo,
        "service_tier": usage.service_tier,
    }
    if usage.iterations:
        document["iterations"] = [
            {"type": step.type, "model": step.model} | _counts_document(step) for step in usage.iterations
        ]
    return document


def _counts_document(counts: Usage | Iteration) -> dict[str, Any]:
    write_5m, write_1h = counts.cache_write_5m_tokens, counts.cache_write_1h_tokens
    return {
        "input_tokens": counts.input_tokens,
        "cache_creation_input_tokens": min(COUNT_MAX, write_5m + write_1h),
        "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
        "cache_read_input_tokens": counts.cache_read_tokens,
        "output_tokens": counts.output_tokens,
    }


def has_fallen(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a later usage of an answer tells less than an earlier one: of output, of the whole prompt, of searches.

    Tokens of a prompt may move between uncached and cached. What is no count is told elsewhere.
    """
    output = _plain_count(before, "output_tokens")
    return (
        (output > OUTPUT_PLACEHOLDER_MAX and _plain_count(after, "output_tokens") < output)
        or sum([_plain_count(after, name) for name in _PROMPT_COUNTS])
        < sum([_plain_count(before, name) for name in _PROMPT_COUNTS])
        or _searches(after) < _searches(before)
    )


_PROMPT_COUNTS: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def _plain_count(usage: Mapping[str, Any], name: str) -> int:
    told = usage.get(name)
    return told if isinstance(told, int) and is_count(told) else 0


def _searches(usage: Mapping[str, Any]) -> int:
    tools = usage.get("server_tool_use")
    return _plain_count(tools, "web_search_requests") if isinstance(tools, dict) else 0  # pyright: ignore[reportUnknownArgumentType] -- decoded JSON


def is_count(value: object) -> bool:
    """Whether it can be a count of tokens. `type`, for True is an int too."""
    return type(value) is int and 0 <= value <= COUNT_MAX


def as_word(value: object) -> str | None:
    """A short printable text, or None: what goes into a column and onto a screen is never an upstream's novel."""
    return value if isinstance(value, str) and 0 < len(value) <= WORD_CHARS_MAX and value.isprintable() else None


def _iterations(entries: object, wants_1h: bool, found: list[str]) -> tuple[Iteration, ...]:
    if not isinstance(entries, list):
        found.append(USAGE_MALFORMED)
        return ()
    told: list[Any] = entries  # pyright: ignore[reportUnknownVariableType] -- decoded JSON
    if len(told) > ITERATIONS_MAX:
        found.append(USAGE_MALFORMED)
    return tuple([_iteration(_mapping(entry, found), wants_1h, found) for entry in told[:ITERATIONS_MAX]])


def _iteration(raw: Mapping[str, Any], wants_1h: bool, found: list[str]) -> Iteration:
    split = _mapping(raw.get("cache_creation"), found)
    write_5m, write_1h = _cache_writes(raw.get("cache_creation_input_tokens"), split, wants_1h, found)
    return Iteration(
        _word(raw.get("type"), "message", found),
        _word(raw.get("model"), "", found) or None,
        _count(raw.get("input_tokens"), found),
        write_5m,
        write_1h,
        _count(raw.get("cache_read_input_tokens"), found),
        _count(raw.get("output_tokens"), found),
    )


def _cache_writes(total: object, split: Mapping[str, Any], wants_1h: bool, found: list[str]) -> tuple[int, int]:
    """Tokens written for 5 minutes and for an hour; what the split does not cover goes where the request asked."""
    write_5m = _count(split.get("ephemeral_5m_input_tokens"), found) if split else 0
    write_1h = _count(split.get("ephemeral_1h_input_tokens"), found) if split else 0
    excess = _count(total, found) - write_5m - write_1h
    if excess <= 0:
        return write_5m, write_1h
    return (write_5m, write_1h + excess) if wants_1h else (write_5m + excess, write_1h)


def _count(value: object, found: list[str], most: int = COUNT_MAX) -> int:
    if type(value) is int and 0 <= value <= most:
        return value
    if value is not None:
        found.append(USAGE_MALFORMED)
    return 0


def _word(value: object, default: str, found: list[str]) -> str:
    if value is None or value == "":
        return default
    word = as_word(value)
    if word is None:
        found.append(USAGE_MALFORMED)
        return default
    return word


_NOTHING: Mapping[str, Any] = {}


def _mapping(value: object, found: list[str]) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType] -- JSON objects have string keys
    if value is not None:
        found.append(USAGE_MALFORMED)
    return _NOTHING
