"""The limits of a tier, and what a tenant or a key may change of them.

One table, `LIMITS`, says for each limit how it is read, what it may be and what it means; the store, the command line
and the docs follow it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

# Above any organization's limits (reference 6), and far below what would overflow a counter.
NUMBER_MAX: Final = 1_000_000_000
# The word for "no limit", or "every".
NO_LIMIT: Final = "none"
# The pattern that allows everything, as no patterns do; and, alone, the one that no server tool's type matches.
EVERY: Final = "*"
NO_TOOLS: Final = "-"


_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")


class BadLimit(ValueError):
    """A limit has a value that it cannot have; the message names the limit, the value and what it may be."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tier, tenant or key may use. None means no limit; an empty tuple of patterns means everything."""

    sessions_max: int = 5
    requests_per_minute: int | None = 60
    request_burst: int = 10
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    max_tokens_cap: int | None = None
    max_tokens_policy: str = "cap"
    models: tuple[str, ...] = ()
    speeds: tuple[str, ...] = ()
    inference_geos: tuple[str, ...] = ()
    service_tiers: tuple[str, ...] = ()
    server_tools: tuple[str, ...] = ()
    queue_depth_max: int = 64
    queue_wait_ms_max: int = 10_000
    weight: int = 1
    context_tokens_warn: int | None = None
    context_tokens_max: int | None = None
    tool_depth_alert: int | None = None
    auto_cache_system: str = "off"

    def with_changes(self, changes: Mapping[str, Any]) -> Limits:
        """These limits with some replaced. `changes` has been read by `read_limits`."""
        return replace(self, **changes) if changes else self

    def as_json(self) -> dict[str, Any]:
        """Every limit by name; patterns as lists."""
        return {name: as_json(getattr(self, name)) for name in LIMITS}


def as_json(value: object) -> object:
    """A limit's value as JSON has it: patterns are a list."""
    return list(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else value


# The tiers that ship, with their sessions; everything else in them is the default.
SHIPPED_SESSIONS: Final = {"standard": 5, "premium": 15, "enterprise": 50}


def first_limits(name: str) -> Limits:
    """What a tier has where nothing else is said."""
    sessions_max = SHIPPED_SESSIONS.get(name)
    return Limits() if sessions_max is None else Limits(sessions_max=sessions_max)


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of the table. `option` is its name on the command line."""

    option: str
    help: str
    low: int = 0
    high: int = NUMBER_MAX
    optional: bool = False
    choices: tuple[str, ...] = ()
    patterns: bool = False


LIMITS: dict[str, Limit] = {
    "sessions_max": Limit("sessions", "requests in flight at once", low=1, high=1_000_000),
    "requests_per_minute": Limit("rpm", "requests a minute, refilled continuously", low=1, optional=True),
    "request_burst": Limit("burst", "requests that may come at once", low=1, high=1_000_000),
    "input_tokens_per_minute": Limit(
        "itpm", "input tokens a minute: uncached and cache writes, not cache reads", low=1, optional=True
    ),
    "output_tokens_per_minute": Limit("otpm", "output tokens a minute, as they are produced", low=1, optional=True),
    "max_tokens_cap": Limit("max-tokens", "the largest max_tokens of a request", low=1, optional=True),
    "max_tokens_policy": Limit(
        "max-tokens-policy", "above it: cap the request, or refuse it", choices=("cap", "refuse")
    ),
    "models": Limit("models", "models that may be asked for, such as claude-haiku-*,claude-sonnet-5-5", patterns=True),
    "speeds": Limit("speeds", "values of speed: standard, fast", patterns=True),
    "inference_geos": Limit("geos", "values of inference_geo: global, us", patterns=True),
    "service_tiers": Limit("service-tiers", "values of service_tier: auto, standard_only", patterns=True),
    "server_tools": Limit("server-tools", "server tools by type, such as web_search_*; - for not any", patterns=True),
    "queue_depth_max": Limit("queue-depth", "requests that may wait", high=10_000),
    "queue_wait_ms_max": Limit("queue-wait-ms", "milliseconds that a request may wait", high=600_000),
    "weight": Limit("weight", "share of an upstream's capacity when it is short", low=1, high=1000),
    "context_tokens_warn": Limit("context-warn", "prompt tokens above which an answer warns", low=1, optional=True),
    "context_tokens_max": Limit("context-max", "prompt tokens above which a request is refused", low=1, optional=True),
    "tool_depth_alert": Limit(
        "tool-depth-alert", "tool results in a row in one session that raise an alert", low=1, optional=True
    ),
    "auto_cache_system": Limit(
        "auto-cache-system", "add cache_control to a repeated, uncached system prompt: off, on", choices=("off", "on")
    ),
}


def read_limit(name: str, raw: object) -> Any:
    """One limit from a command line, a file or the store.

    Raises:
        BadLimit: there is no such limit, or it cannot be that.
    """
    limit = LIMITS.get(name)
    if limit is None:
        raise BadLimit(f"there is no limit {name!r}; there are: {', '.join(LIMITS)}")
    if limit.patterns:
        return _patterns(name, raw)
    if limit.choices:
        if raw not in limit.choices:
            raise BadLimit(f"{name} must be {' or '.join(limit.choices)}, not {raw!r}")
        return raw
    if limit.optional and (raw is None or raw == NO_LIMIT):
        return None
    wanted = f"a whole number from {limit.low:,} to {limit.high:,}"
    if limit.optional:
        wanted += f", or {NO_LIMIT}"
    # `int` reads 1_000 and digits of every script, which nobody means.
    number = (int(raw) if _WHOLE.fullmatch(raw) else None) if isinstance(raw, str) else raw
    if not isinstance(number, int) or isinstance(number, bool) or not limit.low <= number <= limit.high:
        raise BadLimit(f"{name} must be {wanted}, not {raw!r}")
    return number


def _patterns(name: str, raw: object) -> tuple[str, ...]:
    if raw is None or raw == NO_LIMIT or raw == [] or raw == ():
        return ()
    parts: Sequence[object] = raw.split(",") if isinstance(raw, str) else ()
    if isinstance(raw, list | tuple):
        parts = cast("Sequence[object]", raw)
    found = tuple(part.strip() for part in parts if isinstance(part, str) and part.strip())
    if not found or len(found) != len(parts) or len(found) > 100:
        raise BadLimit(
            f"{name} must be one or more names or patterns with commas between them, or {NO_LIMIT}, not {raw!r}"
        )
    return () if found == (EVERY,) else found


def find_limit(word: str) -> str:
    """A limit by its name, or by its option on the command line.

    Raises:
        BadLimit: there is no such limit.
    """
    for name, limit in LIMITS.items():
        if word.removeprefix("--") in (name, limit.option):
            return name
    raise BadLimit(f"there is no limit {word!r}; there are: {', '.join(limit.option for limit in LIMITS.values())}")


def read_limits(raw: Mapping[str, object]) -> dict[str, Any]:
    """Several limits.

    Raises:
        BadLimit: the message has a line for each that is wrong.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in raw.items():
        try:
            values[name] = read_limit(name, value)
        except BadLimit as error:
            problems.append(str(error))
    if problems:
        raise BadLimit("\n".join(problems))
    return values


# What a key may have of its own. The rest belongs to the tenant: it is one client, with one queue and one weight.
KEY_LIMITS: Final = (
    "sessions_max",
    "requests_per_minute",
    "request_burst",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "max_tokens_cap",
    "models",
    "context_tokens_warn",
    "context_tokens_max",
)


# What a plan that throttles lowers beyond its included usage. Which models may be asked for, and how long a request may
# wait for its turn, stays the tenant's.
LOWERED_LIMITS: Final = (
    "sessions_max",
    "requests_per_minute",
    "request_burst",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "max_tokens_cap",
    "weight",
)


# What can be said of an upstream's capacity.
CAPACITY_LIMITS: Final = (
    "sessions_max",
    "requests_per_minute",
    "request_burst",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
)


def exceeds(own: Mapping[str, Any], tenant: Limits, whose: str = "key") -> list[str]:
    """Which of a key's own limits lie above its tenant's, in words; or of a slot's."""
    problems: list[str] = []
    for name, value in own.items():
        most = getattr(tenant, name)
        if LIMITS[name].patterns:
            # A pattern of the key is within one of the tenant's when that matches its text.
            problems += [
                f"{name} of a {whose} must be within its tenant's {', '.join(most)}; {pattern} is not"
                for pattern in value or ("*",)
                if not allowed(most, pattern)
            ]
            continue
        if most is None:
            continue
        if value is None or value > most:
            problems.append(f"{name} of a {whose} cannot be above its tenant's {most}, not {value or NO_LIMIT}")
    return problems


def allowed(patterns: tuple[str, ...], value: str) -> bool:
    """Whether one of the patterns (`*`, `?`, `[...]`, case matters) matches; no patterns allow everything."""
    return not patterns or any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)
