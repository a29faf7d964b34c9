"""Requests of probes by the hundred: what one is, what they come to, and several clients at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from tenantry.control.isolation.cases import MODEL, body_of, key_line
from tenantry.control.isolation.client import Answer, request
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.probes import Probe
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import read_usage
from tenantry.wire.routes import ROUTES

# Listed one by one in the report; more of the same helps nobody.
LISTED_MAX: Final = 10
# Whoever stops a run waits so long for what is under way; what then still waits for an answer ends with the process.
STOP_SECONDS_MAX: Final = 1.0
USED: Final = b"anthropic-ratelimit-unified-overage-utilization"

_MESSAGES = ROUTES[(b"POST", b"/v1/messages")]


def cost_nanos(output_tokens: int) -> int:
    """What a probe's request with so many output tokens costs."""
    usage = read_usage({"input_tokens": 1, "output_tokens": output_tokens})
    return load_default_prices().price(usage, MODEL, datetime.now(UTC)).cost_nanos or 1


def message(
    probe: Probe, tag: str, wait_ms: int = 0, stream: bool = False, tokens: int = 1, asks: str = "", said: str = ""
) -> bytes:
    """A metered request of a probe, on its own path, that keeps the connection.

    `asks`: more of the recording upstream; `said`: more of the prompt.
    """
    body = body_of(_MESSAGES, f"tag={tag} wait={wait_ms} tokens={tokens} {asks} {said}".rstrip(), stream=stream)
    path = f"/t/{probe.holder.slug}/v1/messages".encode()
    return request(b"POST", path, [key_line(probe.holder.key), b"anthropic-version: 2023-06-01"], body)


@dataclass(slots=True)
class Tally:
    """What one tenant's requests came to. `problems` are in words."""

    seen: list[int] = field(default_factory=list[int])
    ms: list[float] = field(default_factory=list[float])
    problems: list[str] = field(default_factory=list[str])
    answers: list[Answer] = field(default_factory=list[Answer])

    @property
    def statuses(self) -> Counter[int]:
        return Counter(self.seen)

    @property
    def p99(self) -> float:
        ordered = sorted(self.ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0

    @property
    def words(self) -> str:
        counted = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return "; ".join([counted or "no answer", *self.problems[:LISTED_MAX]])

    def told(self, group: Group, tried: str, expected: str) -> None:
        """A check: there were answers, and no problem."""
        seen = "; ".join(self.problems[:LISTED_MAX]) or self.words
        group.add(tried, expected, seen, not self.problems and bool(self.statuses))


def together(work: Callable[[int, threading.Event], None], count: int) -> None:
    """`work` in so many threads. Whoever stops the run here stops them: each looks at the event it is given."""
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(number, stop), daemon=True) for number in range(count)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        stop.set()
        until = time.monotonic() + STOP_SECONDS_MAX
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        raise
