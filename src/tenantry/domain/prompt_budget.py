"""Prompt budgeting: contexts that are too large, tool loops that run away, system prompts that nobody caches."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from tenantry.domain.asked import MessageFields
from tenantry.domain.errors import PolicyBlocked
from tenantry.domain.limits import Limits
from tenantry.domain.prices import Rates
from tenantry.domain.usage import Usage
from tenantry.domain.values import value

# The field that carries a warning to the client.
WARNING_FIELD: Final = b"x-tenantry-warning"
# An entry is some 200 bytes: 2 MB at most.
SESSIONS_MAX: Final = 10_000
# How long upstream keeps a cached prefix, and with it how long a repetition counts (reference 5.1).
REPEAT_US: Final = 300 * 1_000_000


@value
class Warn:
    """The request passes; its answer says so."""

    message: str


def check_context(limits: Limits, key_limits: Limits | None, input_tokens: int) -> PolicyBlocked | Warn | None:
    """Whether a prompt of some `input_tokens` is too large. The count is an estimate unless upstream has counted."""
    most = _lowest(limits.context_tokens_max, key_limits.context_tokens_max if key_limits is not None else None)
    if most is not None and input_tokens > most:
        return PolicyBlocked(
            f"The prompt has about {input_tokens:,} tokens, and {most:,} are allowed. "
            "Start a new conversation, or compact this one."
        )
    warn = _lowest(limits.context_tokens_warn, key_limits.context_tokens_warn if key_limits is not None else None)
    if warn is not None and input_tokens > warn:
        return Warn(f"prompt of about {input_tokens} tokens is above {warn}")
    return None


def _lowest(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


@value
class RunawayLoop:
    """A session has sent `depth` tool results in a row without a word of its user."""

    session_id: str
    depth: int


class ToolLoops:
    """How deep each session is in its tool loop. Of more than `sessions_max`, the longest idle are forgotten."""

    __slots__ = ("_depths", "_sessions_max")

    def __init__(self, sessions_max: int = SESSIONS_MAX) -> None:
        self._depths: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._sessions_max = sessions_max

    def seen(
        self, tenant_id: str, session_id: str | None, fields: MessageFields, alert_at: int | None
    ) -> RunawayLoop | None:
        """Count one request. The alert comes once a loop: with the request that reaches `alert_at`.

        A request that repeats the last one (a retry) counts again: it costs again.
        """
        if alert_at is None or not session_id:
            return None
        key = (tenant_id, session_id)
        if not fields.ends_in_tool_result:
            self._depths.pop(key, None)
            return None
        depth = self._depths.get(key, 0) + 1
        self._depths[key] = depth
        self._depths.move_to_end(key)
        if len(self._depths) > self._sessions_max:
            self._depths.popitem(last=False)
        return RunawayLoop(session_id, depth) if depth == alert_at else None

    def depth(self, tenant_id: str, session_id: str) -> int:
        return self._depths.get((tenant_id, session_id), 0)

    def __len__(self) -> int:
        return len(self._depths)


class Repeats:
    """Which prefixes came lately: only what is repeated is worth the dearer write to the cache."""

    __slots__ = ("_entries_max", "_seen_us")

    def __init__(self, entries_max: int = SESSIONS_MAX) -> None:
        self._seen_us: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._entries_max = entries_max

    def is_repeated(self, tenant_id: str, fingerprint: bytes, at_us: int) -> bool:
        """Whether this tenant sent it within the last five minutes; notes it."""
        key = (tenant_id, fingerprint)
        before = self._seen_us.get(key)
        self._seen_us[key] = at_us
        self._seen_us.move_to_end(key)
        if len(self._seen_us) > self._entries_max:
            self._seen_us.popitem(last=False)
        return before is not None and at_us - before <= REPEAT_US


def saved_by_caching_nanos(usage: Usage, rates: Rates) -> int:
    """What the cache saved of the prompt at these rates; below 0 when what was written has not been read yet."""
    plain, write_5m, write_1h, read, _ = rates
    return (
        (plain - read) * usage.cache_read_tokens
        - (write_5m - plain) * usage.cache_write_5m_tokens
        - (write_1h - plain) * usage.cache_write_1h_tokens
    )
