"""What a cell of the table says of a run, and which of two cells is worse."""

from __future__ import annotations

import re
from typing import Final

from tests.clients.catalog import NO_CALL, OWN_COUNT, OWN_LIST, STREAMS_ONLY
from tests.clients.running import Run

COLUMNS: Final = ("plain", "stream", "tools", "count tokens", "models", "at rate limit", "over budget", "revoked key")
# The operation and the state of the tenant that each column takes.
OPERATIONS: Final = {"count tokens": "count"}
STATES: Final = {"at rate limit": "limited", "over budget": "spent", "revoked key": "revoked"}

WORKS: Final = "works"
WAITS: Final = "waits, works"
STOPS: Final = "stops, says why"
NOT_INSTALLED: Final = "not installed"

_SHOWN: Final = {"plain": "simulated", "stream": "simulated", "tools": "simulated"}
_REASONS: Final = {"over budget": "budget of", "revoked key": "revoked"}
_AGAIN: Final = re.compile(r"(\d+) requests, says why$")
_SILENT: Final = re.compile(r"(\d+) requests?, does not say why$")
_WORDS_MAX: Final = 60


def cell(column: str, run: Run) -> str:
    """The cell for `run`."""
    if column in _REASONS:
        return _refused(_REASONS[column], run)
    if column == "at rate limit":
        return _limited(run)
    why = _failure(column, run)
    return f"fails: {why}" if why else WORKS


def _refused(reason: str, run: Run) -> str:
    if run.code is None:
        return f"{run.messages} requests, does not end"
    says = reason in run.words
    if run.messages == 1 and says:
        return STOPS
    number = f"{run.messages} request{'' if run.messages == 1 else 's'}"
    return f"{number}, {'says why' if says else 'does not say why'}"


def _limited(run: Run) -> str:
    why = _failure("plain", run)
    if why:
        return f"gives up after {run.messages}"
    statuses = [one.status for one in run.seen if one.is_message]
    return WAITS if 429 in statuses else "fails: met no limit"


def _failure(column: str, run: Run) -> str:
    """Why it did not work; nothing where it did."""
    if run.code is None:
        return "does not end"
    if run.code != 0:
        return _last_words(run.told) or f"exit code {run.code}"
    if _SHOWN.get(column, "") not in run.told:
        return "no answer shown"
    return _not_asked(column, run)


def _not_asked(column: str, run: Run) -> str:
    """Whether the gateway was asked for what the column means: an exit code alone proves nothing."""
    asked = [one for one in run.seen if one.status == 200]
    bodies = [one.body for one in asked if one.is_message]
    asks = {
        "plain": bool(bodies),
        "stream": any(re.search(rb'"stream"\s*:\s*true', body) for body in bodies),
        "tools": any(b'"tool_result"' in body for body in bodies),
        "count tokens": any(one.path.endswith("/v1/messages/count_tokens") for one in asked),
        "models": any(one.path.endswith("/v1/models") for one in asked),
    }
    return "" if asks[column] else "the gateway was not asked"


def _last_words(told: str) -> str:
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\S+\.)?\w*(Error|Exception)\b", line)] or lines
    words = re.sub(r"[^\x20-\x7e]|[|`]", "", errors[-1]) if errors else ""
    return words[:_WORDS_MAX]


def is_worse(now: str, before: str) -> bool:
    """Whether `now` is less than `before` for who uses the client. A client that was never installed lost nothing."""
    return _rank(now) > _rank(before)


def _rank(text: str) -> int:
    if text in (WORKS, WAITS, STOPS):
        return 0
    again, silent = _AGAIN.match(text), _SILENT.match(text)
    if again:
        return int(again[1])
    if silent:
        return 100 + int(silent[1])
    if text in (NO_CALL, STREAMS_ONLY, OWN_COUNT, OWN_LIST):
        return 200
    if text.startswith("gives up"):
        return 300
    return 500 if text == NOT_INSTALLED else 400
