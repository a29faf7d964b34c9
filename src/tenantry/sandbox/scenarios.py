"""What the sandbox can be asked to do, by the header `x-sandbox-scenario` or behind `+` in the model's name.

Parts are joined by `;`: `chunks=100;chunk-ms=20`. docs/sandbox.md lists them for users.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# name -> what it does; a name that ends in `=` takes a whole number.
SCENARIOS = {
    "error=": "answer with this HTTP status and an error body: 400 401 402 403 404 413 429 500 503 504 529",
    "retry-after=": "with error=429: the seconds in retry-after",
    "fail-times=": "a fault of this list comes only for the first N requests with the same x-sandbox-tag",
    "spend-cap": "answer 429 as an organization does whose money is used up",
    "limit-rpm=": "take N requests a minute for each credential, then 429 with retry-after; the quota fields say so",
    "head-ms=": "wait before the response head",
    "chunks=": "number of text deltas",
    "chunk-ms=": "wait between events",
    "answer-bytes=": "size of the answer's text",
    "thinking": "begin with a thinking block",
    "tool-use": "end with a call of a tool",
    "web-search": "use the web search server tool once",
    "cache": "remember system prompts that carry a cache breakpoint: the second time they are read, not written",
    "refusal": "decline before any output",
    "fast-us": "say speed fast and inference_geo us",
    "drop-before-head": "close the connection without an answer",
    "half-head": "close it in the middle of the response head",
    "drop-midstream": "close it half-way through the answer, between events",
    "cut-after=": "close it after N events of the stream",
    "drop-mid-event": "close it half-way through an event",
    "no-message-stop": "end a stream without message_stop",
    "error-first-event": "a stream whose first event is an error",
    "error-midstream": "an error event half-way",
    "bad-length": "promise more bytes than come",
    "garbage": "answer something that is not HTTP",
    "hang": "accept the request and never answer",
}


class UnknownScenario(Exception):
    """The message lists the scenarios there are."""


@dataclass(frozen=True, slots=True)
class Scenario:
    flags: frozenset[str] = frozenset()
    numbers: dict[str, int] = field(default_factory=dict[str, int])

    def __contains__(self, flag: str) -> bool:
        return flag in self.flags

    def number(self, name: str, default: int) -> int:
        return self.numbers.get(name, default)


def parse_scenario(text: str) -> Scenario:
    """Raises: UnknownScenario."""
    flags: set[str] = set()
    numbers: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = part.partition("=")
        if name + equals not in SCENARIOS or (equals and not value.isdigit()):
            known = ", ".join(f"{known}N" if known.endswith("=") else known for known in SCENARIOS)
            raise UnknownScenario(f"sandbox: unknown scenario {part!r}; there are: {known}")
        if equals:
            numbers[name] = min(int(value), 100_000_000)
        else:
            flags.add(name)
    return Scenario(frozenset(flags), numbers)
