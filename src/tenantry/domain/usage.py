"""Token usage as the Claude API reports it (reference 4.4 and 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantry.domain.values import value


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


@value
class Usage:
    """What one answer used. Counts are tokens, or requests for the server tools."""

    input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    web_search_requests: int = 0
    web_fetch_requests: int = 0
    speed: str = "standard"
    inference_geo: str = "global"
    service_tier: str = "standard"
    iterations: tuple[Iteration, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt: uncached, written to and read from the cache."""
        return self.input_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens + self.cache_read_tokens


def merge_usage(start: Mapping[str, Any], *deltas: Mapping[str, Any]) -> dict[str, Any]:
    """`message_start` overwritten by every non-null member of each `message_delta`: totals are SET, never added."""
    merged = dict(start)
    for delta in deltas:
        merged.update((name, value) for name, value in delta.items() if value is not None)
    return merged


def read_usage(raw: Mapping[str, Any], *, wants_1h: bool = False) -> Usage:
    """The usage object of an answer. Members that are null, missing or not counts read as 0.

    `wants_1h` says that the request had a one-hour cache breakpoint: writes beyond the reported split are then priced
    as such (reference 4.4).
    """
    write_5m, write_1h = _cache_writes(raw, wants_1h)
    tools = _mapping(raw.get("server_tool_use"))
    entries = _list(raw.get("iterations"))
    return Usage(
        input_tokens=_count(raw.get("input_tokens")),
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        cache_read_tokens=_count(raw.get("cache_read_input_tokens")),
        output_tokens=_count(raw.get("output_tokens")),
        thinking_tokens=_count(_mapping(raw.get("output_tokens_details")).get("thinking_tokens")),
        web_search_requests=_count(tools.get("web_search_requests")),
        web_fetch_requests=_count(tools.get("web_fetch_requests")),
        speed=_word(raw.get("speed"), "standard"),
        inference_geo=_word(raw.get("inference_geo"), "global"),
        service_tier=_word(raw.get("service_tier"), "standard"),
        iterations=tuple(_iteration(_mapping(entry), wants_1h) for entry in entries) if entries else (),
    )


def _iteration(raw: Mapping[str, Any], wants_1h: bool) -> Iteration:
    write_5m, write_1h = _cache_writes(raw, wants_1h)
    model = raw.get("model")
    return Iteration(
        type=_word(raw.get("type"), "message"),
        model=model if isinstance(model, str) and model else None,
        input_tokens=_count(raw.get("input_tokens")),
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        cache_read_tokens=_count(raw.get("cache_read_input_tokens")),
        output_tokens=_count(raw.get("output_tokens")),
    )


def _cache_writes(raw: Mapping[str, Any], wants_1h: bool) -> tuple[int, int]:
    """Tokens written for 5 minutes and for an hour; what the split does not cover goes where the request asked."""
    split = _mapping(raw.get("cache_creation"))
    write_5m = _count(split.get("ephemeral_5m_input_tokens"))
    write_1h = _count(split.get("ephemeral_1h_input_tokens"))
    excess = max(0, _count(raw.get("cache_creation_input_tokens")) - write_5m - write_1h)
    return (write_5m, write_1h + excess) if wants_1h else (write_5m + excess, write_1h)


# No model reads or writes a fraction of this; a larger figure is a fault, and must not overflow a database column.
_COUNT_MAX = 2**53


def _count(value: object) -> int:
    if type(value) is int and 0 <= value <= _COUNT_MAX:  # `type`, for True is an int too
        return value
    return 0


def _word(value: object, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType] -- decoded JSON


_NOTHING: Mapping[str, Any] = {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NOTHING  # pyright: ignore[reportUnknownVariableType] -- JSON objects have string keys
