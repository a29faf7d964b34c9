"""A simulated organization at the Messages API: what it gives a minute, how fast it answers, and how it fails.

It counts for itself, with counters of its own, and keeps what it has billed: that is what promises are held against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Protocol

from tenantry.domain.admission import Grant, Lane, Scope
from tenantry.domain.limits import Limits
from tenantry.simulation.clock import Clock, Timer

# Of a streamed answer: the most and the least that two answers differ from the pace that is said, as a share.
PACE_SPREAD = 0.3
# A request reaches it on a connection that is kept: seconds, of a near region.
SEND_SECONDS = 0.002
# Before an answer begins.
NEVER_SECONDS = math.inf


class Weather(Enum):
    """How an organization is just now."""

    FAIR = "fair"
    OVERLOADED = "overloaded"  # 529 to everything
    UNREACHABLE = "unreachable"  # no connection
    SILENT = "silent"  # takes requests, answers none
    RESETTING = "resetting"  # breaks connections off, new and old ones


@dataclass(frozen=True, slots=True)
class Manner:
    """How it answers: seconds to the first byte (median, and the spread of its logarithm), tokens a second, faults."""

    first_byte_seconds: float = 0.8
    first_byte_spread: float = 0.4
    tokens_per_second: float = 70.0
    error_share: float = 0.0


class Sink(Protocol):
    """Who is told how an attempt goes at the organization."""

    def on_connected(self) -> None: ...
    def on_answer(self, status: int, fields: Mapping[bytes, bytes], retry_after: float | None) -> None: ...
    def on_end(self) -> None: ...
    def on_broken(self, reason: str) -> None: ...


@dataclass(slots=True)
class Billed:
    """What the organization bills for an attempt."""

    attempt_id: str
    input_tokens: int
    output_tokens: int


@dataclass(slots=True)
class Job:
    """One attempt at the organization. `output_tokens`: what the whole answer has."""

    attempt_id: str
    sink: Sink
    input_tokens: int
    output_tokens: int
    grant: Grant | None = None
    timer: Timer | None = None
    began_at: float = NEVER_SECONDS
    pace: float = 1.0
    is_over: bool = False


@dataclass(slots=True)
class Log:
    """What it has seen: attempts in their order of arrival, and what was billed."""

    attempts: dict[str, int] = field(default_factory=dict[str, int])
    billed: dict[str, Billed] = field(default_factory=dict[str, Billed])


class Organization:
    """`limits` are what it enforces; `keeps_log`: every attempt is remembered, for who checks promises."""

    def __init__(
        self, name: str, limits: Limits, manner: Manner, clock: Clock, random: Random, *, keeps_log: bool = False
    ) -> None:
        self.name = name
        self.manner = manner
        self.weather = Weather.FAIR
        self.lane = Lane(limits, clock.now, Scope.UPSTREAM, name)
        self.log = Log()
        self.refused = 0
        self.jobs: dict[str, Job] = {}
        self._clock = clock
        self._random = random
        self._keeps_log = keeps_log

    def connect(self, job: Job) -> None:
        """Connect, and send the request. The sink is told in later turns."""
        self.jobs[job.attempt_id] = job
        if self.weather is Weather.UNREACHABLE:
            self._later(job, 1.0, lambda: self._break(job, "connect_failed"))
            return
        self._later(job, SEND_SECONDS, lambda: self._take(job))

    def _later(self, job: Job, seconds: float, call: Callable[[], None]) -> None:
        job.timer = self._clock.call_later(seconds, call)

    def _take(self, job: Job) -> None:
        job.sink.on_connected()
        if job.is_over:
            return
        if self._keeps_log:
            attempts = self.log.attempts
            attempts[job.attempt_id] = attempts.get(job.attempt_id, 0) + 1
        if self.weather is Weather.SILENT:
            return
        if self.weather is Weather.RESETTING:
            self._later(job, 0.05, lambda: self._break(job, "upstream_dropped"))
            return
        if self.weather is Weather.OVERLOADED or self._random.random() < self.manner.error_share:
            self._later(job, 0.2, lambda: self._refuse(job, 529, None))
            return
        now = self._clock.now
        grant = Grant(job.input_tokens)
        if not grant.take((self.lane,), now):
            obstacle = self.lane.obstacle(job.input_tokens, now)
            seconds = float(math.ceil(obstacle.seconds)) if obstacle is not None else 1.0
            self.refused += 1
            self._later(job, 0.05, lambda: self._refuse(job, 429, max(1.0, seconds)))
            return
        job.grant = grant
        wait = self.manner.first_byte_seconds * math.exp(self._random.gauss(0.0, self.manner.first_byte_spread))
        self._later(job, wait, lambda: self._answer(job))

    def _answer(self, job: Job) -> None:
        job.began_at = self._clock.now
        job.pace = self.manner.tokens_per_second * (1.0 + PACE_SPREAD * (2.0 * self._random.random() - 1.0))
        job.sink.on_answer(200, self.told(), None)
        if not job.is_over:
            self._later(job, job.output_tokens / job.pace, lambda: self._end(job))

    def _refuse(self, job: Job, status: int, retry_after: float | None) -> None:
        self._close(job)
        job.sink.on_answer(status, self.told(), retry_after)
        job.sink.on_end()

    def _end(self, job: Job) -> None:
        self._bill(job, job.output_tokens)
        self._close(job)
        job.sink.on_end()

    def _break(self, job: Job, reason: str) -> None:
        self.cut(job)
        job.sink.on_broken(reason)

    def cut(self, job: Job) -> None:
        """The connection is gone: what was generated is billed, and no more."""
        if job.is_over:
            return
        if job.grant is not None:
            self._bill(job, self.produced(job))
        self._close(job)

    def reset_all(self) -> None:
        """Every connection breaks off."""
        for job in list(self.jobs.values()):
            if not job.is_over:
                self._break(job, "upstream_dropped")

    def produced(self, job: Job) -> int:
        """Output tokens that it has generated so far."""
        seconds = self._clock.now - job.began_at
        return min(job.output_tokens, int(seconds * job.pace)) if seconds > 0 else 0

    def _bill(self, job: Job, output_tokens: int) -> None:
        if self._keeps_log:
            self.log.billed[job.attempt_id] = Billed(job.attempt_id, job.input_tokens, output_tokens)
        if job.grant is not None:
            job.grant.settle(job.input_tokens, output_tokens)

    def _close(self, job: Job) -> None:
        job.is_over = True
        self.jobs.pop(job.attempt_id, None)
        if job.timer is not None:
            job.timer.cancel()
        if job.grant is not None:
            job.grant.release(self._clock.now)

    def told(self) -> dict[bytes, bytes]:
        """The fields of an answer that say what it gives, and has left."""
        found: dict[bytes, bytes] = {}
        for name, bucket in (
            (b"requests", self.lane.requests),
            (b"input-tokens", self.lane.input_tokens),
            (b"output-tokens", self.lane.output_tokens),
        ):
            if bucket is not None:
                bucket.refill(self._clock.now)
                found[b"anthropic-ratelimit-%b-limit" % name] = b"%d" % bucket.per_minute
                found[b"anthropic-ratelimit-%b-remaining" % name] = b"%d" % bucket.remaining()
        return found
