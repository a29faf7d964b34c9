"""Admission as one decision: every lane that a request touches gives, or none does (DESIGN 4.5).

Times are seconds of any clock that does not depend on the wall, passed in. A clock that goes back counts as standing
still; one that jumps ahead fills the buckets, and no further than full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

from tenantry.domain.limits import Limits
from tenantry.domain.lines import Level, Line
from tenantry.domain.values import value

# A session ends when some answer ends. Until a lane has seen one, this is the guess for how long that takes, seconds.
FIRST_SESSION_GUESS = 2.0


class Bucket:
    """A continuous-refill token bucket. `level` may be negative: a debt that is paid before anything else."""

    __slots__ = ("at", "level", "rate", "size")

    def __init__(self, per_minute: float, size: float, now: float) -> None:
        self.rate = per_minute / 60.0
        self.size = size
        self.level = size
        self.at = now

    def resize(self, per_minute: float, size: float, now: float) -> None:
        """New limits act at once: a smaller bucket holds no more than it can."""
        self.refill(now)
        self.rate = per_minute / 60.0
        self.size = size
        self.level = min(self.level, size)

    def refill(self, now: float) -> None:
        if now > self.at:
            self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` can be taken; 0 when it can now. More than a full bucket needs a full bucket."""
        self.refill(now)
        missing = min(amount, self.size) - self.level
        return missing / self.rate if missing > 1e-9 else 0.0

    def take(self, amount: float) -> None:
        self.level -= amount

    def give(self, amount: float) -> None:
        self.level = min(self.size, self.level + amount)

    def remaining(self) -> int:
        return max(0, math.floor(self.level + 1e-9))

    def seconds_to_full(self) -> float:
        return max(0.0, (self.size - self.level) / self.rate)


class Scope(Enum):
    """Whose lane it is."""

    TENANT = "tenant"
    KEY = "key"
    UPSTREAM = "upstream"  # all that a credential, or an organization, can take
    MODEL = "model"  # what it can take for one model


_LEVELS = {
    Scope.TENANT: Level.FLOW,
    Scope.KEY: Level.SUB,
    Scope.UPSTREAM: Level.ALL,
    Scope.MODEL: Level.BRANCH,
}


@value
class Obstacle:
    """What is in the way: the limit's name, for how many seconds, and whose limit it is.

    `announced` is the limit's number where it is the upstream that told it, and None where it was declared.
    """

    limit: str
    seconds: float
    scope: Scope = Scope.TENANT
    announced: int | None = None

    @property
    def is_shared(self) -> bool:
        return self.scope in (Scope.UPSTREAM, Scope.MODEL)


class Lane:
    """The counters of one holder of limits, and the line of those that they hold back.

    `used_at` is when it last gave something; `waiting` counts those that wait for anything, of a tenant's lane.
    """

    __slots__ = (
        "_mean_session",
        "input_tokens",
        "is_told",
        "limits",
        "line",
        "name",
        "output_tokens",
        "requests",
        "scope",
        "sessions",
        "sessions_max",
        "used_at",
        "waiting",
    )

    def __init__(self, limits: Limits, now: float, scope: Scope = Scope.TENANT, name: str = "") -> None:
        self.limits = limits
        self.scope = scope
        self.name = name
        self.line = Line(_LEVELS[scope])
        self.used_at = now
        self.waiting = 0
        self.is_told = False  # among those whose use is told to people
        self.sessions_max = limits.sessions_max
        self.sessions = 0
        self.requests = _bucket(limits.requests_per_minute, limits.request_burst, now)
        self.input_tokens = _bucket(limits.input_tokens_per_minute, limits.input_tokens_per_minute, now)
        self.output_tokens = _bucket(limits.output_tokens_per_minute, limits.output_tokens_per_minute, now)
        self._mean_session = FIRST_SESSION_GUESS

    def apply(self, limits: Limits, now: float) -> None:
        """Go on under other limits. What is in flight stays, even above a lowered limit."""
        if limits is self.limits:
            return
        self.limits = limits
        self.sessions_max = limits.sessions_max
        self.requests = _resized(self.requests, limits.requests_per_minute, limits.request_burst, now)
        per_minute = limits.input_tokens_per_minute
        self.input_tokens = _resized(self.input_tokens, per_minute, per_minute, now)
        per_minute = limits.output_tokens_per_minute
        self.output_tokens = _resized(self.output_tokens, per_minute, per_minute, now)

    def may(self, input_tokens: int, now: float) -> bool:
        """Whether `obstacle` would be None for the first in line: one look at the numbers, for each request."""
        if self.sessions >= self.sessions_max:
            return False
        bucket = self.requests
        if bucket is not None:
            if now > bucket.at:
                level = bucket.level + (now - bucket.at) * bucket.rate
                bucket.level = level if level < bucket.size else bucket.size
            bucket.at = now
            if 1 - bucket.level > 1e-9:
                return False
        bucket = self.input_tokens
        if bucket is not None and bucket.wait(input_tokens, now) > 0:
            return False
        bucket = self.output_tokens
        return bucket is None or bucket.wait(1, now) <= 0

    def obstacle(self, input_tokens: int, now: float, ahead: int = 0) -> Obstacle | None:
        """What this lane lacks for a request with `ahead` others before it; the longest wait when it lacks several."""
        found: Obstacle | None = None
        if self.sessions + ahead >= self.limits.sessions_max:
            turns = (self.sessions + ahead - self.limits.sessions_max) // self.limits.sessions_max + 1
            found = Obstacle("sessions_max", turns * self._mean_session, self.scope)
        bucket = self.requests
        if bucket is not None:
            # Not capped at a full bucket as one request would be: those ahead take theirs one by one.
            bucket.refill(now)
            missing = 1 + ahead - bucket.level
            if missing > 1e-9:
                found = _longer(found, "requests_per_minute", missing / bucket.rate, self.scope)
        bucket = self.input_tokens
        if bucket is not None:
            seconds = bucket.wait(input_tokens, now)
            if seconds > 0:
                found = _longer(found, "input_tokens_per_minute", seconds, self.scope)
        bucket = self.output_tokens
        if bucket is not None:
            seconds = bucket.wait(1, now)
            if seconds > 0:
                found = _longer(found, "output_tokens_per_minute", seconds, self.scope)
        return found

    def take(self, input_tokens: int, now: float) -> None:
        self.sessions += 1
        self.used_at = now
        bucket = self.requests
        if bucket is not None:
            bucket.level -= 1
        bucket = self.input_tokens
        if bucket is not None:
            bucket.level -= input_tokens

    def charge(self, now: float) -> None:
        """Count a request that takes no session. Nobody falls further behind than by a bucket that is empty."""
        self.used_at = now
        bucket = self.requests
        if bucket is not None:
            bucket.refill(now)
            bucket.level = max(0.0, bucket.level - 1.0) if bucket.level > 0.0 else bucket.level

    def end_session(self, seconds: float) -> None:
        self.sessions -= 1
        self._mean_session += ((seconds if seconds < 600.0 else 600.0) - self._mean_session) / 8

    def give_input(self, tokens: int) -> None:
        """Input that was taken and not used; below 0: more was used than taken."""
        bucket = self.input_tokens
        if bucket is not None:
            bucket.give(tokens)

    @property
    def is_idle(self) -> bool:
        """Nothing in flight, nobody waits and every bucket is full: forgetting the lane changes nothing."""
        buckets = (self.requests, self.input_tokens, self.output_tokens)
        return not (self.sessions or self.waiting or self.line.count) and all(
            bucket is None or bucket.level >= bucket.size for bucket in buckets
        )

    def refill(self, now: float) -> None:
        for bucket in (self.requests, self.input_tokens, self.output_tokens):
            if bucket is not None:
                bucket.refill(now)


class Capacity(Lane):
    """What an upstream can take, as configured or, where nothing is configured, as it says itself."""

    __slots__ = ("closed_until", "learned_at")

    def __init__(self, limits: Limits, now: float, scope: Scope = Scope.UPSTREAM, name: str = "") -> None:
        super().__init__(limits, now, scope, name)
        self.closed_until = 0.0
        self.learned_at = -math.inf

    def may(self, input_tokens: int, now: float) -> bool:
        return now >= self.closed_until and super().may(input_tokens, now)

    def obstacle(self, input_tokens: int, now: float, ahead: int = 0) -> Obstacle | None:
        if now < self.closed_until:
            return Obstacle("upstream_retry_after", self.closed_until - now, self.scope)
        found = super().obstacle(input_tokens, now, ahead)
        if found is not None and getattr(self.limits, found.limit) is None:
            # There is a bucket though nothing was declared: its number is what the upstream told.
            bucket: Bucket = getattr(self, found.limit.removesuffix("_per_minute"))
            return Obstacle(found.limit, found.seconds, found.scope, round(bucket.rate * 60))
        return found

    def close_until(self, then: float) -> None:
        """The upstream asked for a pause."""
        self.closed_until = max(self.closed_until, then)

    def declares(self, limit: str) -> bool:
        """Whether a bucket's limit is configured: then that is obeyed, whatever the upstream says."""
        return getattr(self.limits, f"{limit}_per_minute") is not None

    def learn(self, limit: str, per_minute: int, remaining: int, now: float) -> None:
        """The upstream said how much of `limit` (a bucket's name) it gives, and has left.

        A declared limit stays as it is declared; only what is left of it can be less.
        """
        bucket: Bucket | None = getattr(self, limit)
        if bucket is None:
            bucket = Bucket(per_minute, per_minute, now)
            setattr(self, limit, bucket)
        elif self.declares(limit):
            bucket.refill(now)
        else:
            bucket.resize(per_minute, per_minute, now)
        bucket.level = min(bucket.level, remaining)


class Grant:
    """What one request was given. It comes back in parts as the truth is known, and whole exactly once."""

    __slots__ = ("_begun_at", "_input", "_output", "is_open", "lanes")

    def __init__(self, lanes: Sequence[Lane], input_tokens: int, now: float) -> None:
        self.lanes = lanes
        self._input = input_tokens
        self._output = 0
        self._begun_at = now
        self.is_open = True

    def correct_input(self, tokens: int) -> int:
        """The input that counts is known: uncached and cache writes. So much came back; below 0: more was taken."""
        too_much, self._input = self._input - tokens, tokens
        if too_much:
            for lane in self.lanes:
                lane.give_input(too_much)
        return too_much

    def produced(self, tokens: int) -> int:
        """So many output tokens have been produced in all. So much came back of what was estimated too high."""
        more, self._output = tokens - self._output, tokens
        if more:
            for lane in self.lanes:
                if lane.output_tokens is not None:
                    lane.output_tokens.give(-more)
        return -more

    def move(self, shared: Sequence[Lane], now: float) -> None:
        """Leave the shared lanes for these: the request goes to another upstream or credential."""
        own: list[Lane] = []
        for lane in self.lanes:
            if not isinstance(lane, Capacity):
                own.append(lane)
                continue
            lane.end_session(max(0.0, now - self._begun_at))
            lane.give_input(self._input)
        for lane in shared:
            lane.take(self._input, now)
        self.lanes = (*own, *shared)

    @property
    def counts_output(self) -> bool:
        return any(lane.output_tokens is not None for lane in self.lanes)

    def release(self, now: float) -> bool:
        """Give the sessions back. Again: nothing happens, and False says so."""
        if not self.is_open:
            return False
        self.is_open = False
        seconds = now - self._begun_at
        if seconds < 0.0:
            seconds = 0.0
        for lane in self.lanes:
            lane.end_session(seconds)
        return True


def admit(lanes: Sequence[Lane], input_tokens: int, now: float) -> Grant | Obstacle:
    """Take one session, one request and the estimated input from every lane, or nothing from any."""
    found = first_obstacle(lanes, input_tokens, now)
    if found is not None:
        return found
    for lane in lanes:
        lane.take(input_tokens, now)
    return Grant(lanes, input_tokens, now)


def first_obstacle(lanes: Sequence[Lane], input_tokens: int, now: float, ahead: int = 0) -> Obstacle | None:
    """What is longest in the way of a request with `ahead` others before it."""
    found: Obstacle | None = None
    for lane in lanes:
        obstacle = lane.obstacle(input_tokens, now, ahead)
        if obstacle is not None and (found is None or obstacle.seconds > found.seconds):
            found = obstacle
    return found


def _longer(found: Obstacle | None, limit: str, seconds: float, scope: Scope) -> Obstacle:
    return found if found is not None and found.seconds >= seconds else Obstacle(limit, seconds, scope)


def _bucket(per_minute: int | None, size: int | None, now: float) -> Bucket | None:
    return None if per_minute is None or size is None else Bucket(per_minute, size, now)


def _resized(bucket: Bucket | None, per_minute: int | None, size: int | None, now: float) -> Bucket | None:
    if bucket is None or per_minute is None or size is None:
        return _bucket(per_minute, size, now)
    bucket.resize(per_minute, size, now)
    return bucket
