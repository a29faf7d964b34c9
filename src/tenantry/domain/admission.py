"""Admission as one decision: every lane that a request touches gives, or none does (DESIGN 4.5).

Times are seconds of any clock that does not depend on the wall, passed in. A clock that goes back counts as standing
still; one that jumps ahead fills the buckets, and no further than full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tenantry.domain.limits import Limits
from tenantry.domain.lines import Level, Line

# A session ends when some answer ends. Until a lane has seen one, this is the guess for how long that takes, seconds.
FIRST_SESSION_GUESS: Final = 2.0
# What a session counts for in the guess at most, seconds: one that hung for an hour says little of the others.
SESSION_SECONDS_MAX: Final = 600.0
# What a bucket lacks below this is a rounding error of the clock's and the rate's product.
LACK_MIN: Final = 1e-9


class Bucket:
    """A continuous-refill token bucket. `level` may be negative: a debt that is paid before anything else.

    `of_input`: a request needs as much as it has input tokens; of every other bucket it needs one. `told` is how a
    client was told last that `told_remaining` are left and that it is full at `told_second`.
    """

    __slots__ = (
        "at",
        "level",
        "of_input",
        "per_minute",
        "rate",
        "size",
        "told",
        "told_remaining",
        "told_second",
    )

    def __init__(self, per_minute: float, size: float, now: float, of_input: bool = False) -> None:
        self.rate = per_minute / 60.0
        self.per_minute = round(per_minute)
        self.size = size
        self.level = size
        self.at = now
        self.of_input = of_input
        self.told = b""
        self.told_remaining = self.told_second = -1

    def resize(self, per_minute: float, size: float, now: float) -> None:
        """New limits act at once: a smaller bucket holds no more than it can."""
        self.refill(now)
        self.rate = per_minute / 60.0
        self.per_minute = round(per_minute)
        self.size = size
        self.level = min(self.level, size)
        self.told_second = -1

    def refill(self, now: float) -> None:
        if now > self.at:
            self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` can be taken; 0 when it can now. More than a full bucket needs a full bucket."""
        self.refill(now)
        missing = min(amount, self.size) - self.level
        return missing / self.rate if missing > LACK_MIN else 0.0

    def take(self, amount: float) -> None:
        self.level -= amount

    def begin(self, since: float, now: float) -> None:
        """It was empty at `since`, as far as anybody knows, and fills from then on."""
        self.refill(now)
        self.level = min(self.level, max(0.0, now - since) * self.rate)
        self.told_second = -1

    def give(self, amount: float) -> None:
        self.level = min(self.size, self.level + amount)

    def remaining(self) -> int:
        return max(0, math.floor(self.level + LACK_MIN))


# The buckets of a lane, each of a limit `<name>_per_minute`.
BUCKETS = ("requests", "input_tokens", "output_tokens")


class Scope(Enum):
    """Whose lane it is."""

    TENANT = "tenant"
    KEY = "key"
    UPSTREAM = "upstream"  # all that a credential, or an organization, can take
    MODEL = "model"  # what it can take for one model


_LEVELS: Final = {
    Scope.TENANT: Level.FLOW,
    Scope.KEY: Level.SUB,
    Scope.UPSTREAM: Level.ALL,
    Scope.MODEL: Level.BRANCH,
}


@dataclass(init=False, slots=True)
class Obstacle:
    """What is in the way: the limit's name, for how many seconds, and whose limit it is.

    `announced` is the limit's number where it is the upstream that told it, and None where it was declared.
    """

    limit: Final[str]
    seconds: Final[float]
    scope: Final[Scope]
    announced: Final[int | None]

    def __init__(
        self,
        limit: str,
        seconds: float,
        scope: Scope = Scope.TENANT,
        announced: int | None = None,
    ) -> None:
        self.limit = limit
        self.seconds = seconds
        self.scope = scope
        self.announced = announced

    @property
    def is_shared(self) -> bool:
        return self.scope in (Scope.UPSTREAM, Scope.MODEL)


class Lane:
    """The counters of one holder of limits, and the line of those that they hold back.

    A tenant's, a key's, or what an upstream can take (`is_shared`): as configured or, where nothing is configured, as
    it says itself. One class for all: the interpreter is slow where a loop meets several.

    `used_at` is when it last gave something; `waiting` counts those that wait for anything, of a tenant's lane.
    `closed_until`: an upstream asked for a pause. `buckets`: those of the three that there are. `mean_session`: a guess
    of how long sessions last, seconds.
    """

    __slots__ = (
        "buckets",
        "closed_until",
        "counts_tokens",
        "input_tokens",
        "is_logged",
        "is_shared",
        "is_told",
        "learned_at",
        "limits",
        "line",
        "mean_session",
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
        self.is_shared = scope in (Scope.UPSTREAM, Scope.MODEL)
        self.closed_until = -math.inf
        self.learned_at = -math.inf
        self.is_logged = False  # that what it learned holds somebody back
        self.requests: Bucket | None = None
        self.input_tokens: Bucket | None = None
        self.output_tokens: Bucket | None = None
        self.buckets: tuple[Bucket, ...] = ()
        self.counts_tokens = False
        self._size(now)
        self.mean_session = FIRST_SESSION_GUESS

    def apply(self, limits: Limits, now: float) -> None:
        """Go on under other limits. What is in flight stays, even above a lowered limit."""
        if limits is self.limits:
            return
        self.limits = limits
        self.sessions_max = limits.sessions_max
        self._size(now)

    def _size(self, now: float) -> None:
        limits = self.limits
        self.requests = _sized(self.requests, limits.requests_per_minute, limits.request_burst, now)
        per_minute = limits.input_tokens_per_minute
        self.input_tokens = _sized(self.input_tokens, per_minute, per_minute, now, of_input=True)
        per_minute = limits.output_tokens_per_minute
        self.output_tokens = _sized(self.output_tokens, per_minute, per_minute, now)
        self.list_buckets()

    def obstacle(self, input_tokens: int, now: float, ahead: int = 0) -> Obstacle | None:
        """What this lane lacks for a request with `ahead` others before it; the longest wait when it lacks several."""
        if now < self.closed_until:
            return Obstacle("upstream_retry_after", self.closed_until - now, self.scope)
        found = self._lacks(input_tokens, now, ahead)
        if found is not None and getattr(self.limits, found.limit) is None:
            # There is a bucket though nothing was declared: its number is what the upstream told.
            bucket: Bucket = getattr(self, found.limit.removesuffix("_per_minute"))
            return Obstacle(found.limit, found.seconds, found.scope, round(bucket.rate * 60))
        return found

    def _lacks(self, input_tokens: int, now: float, ahead: int) -> Obstacle | None:
        found: Obstacle | None = None
        if self.sessions + ahead >= self.limits.sessions_max:
            turns = (self.sessions + ahead - self.limits.sessions_max) // self.limits.sessions_max + 1
            found = Obstacle("sessions_max", turns * self.mean_session, self.scope)
        bucket = self.requests
        if bucket is not None:
            # Not capped at a full bucket as one request would be: those ahead take theirs one by one.
            bucket.refill(now)
            missing = 1 + ahead - bucket.level
            if missing > LACK_MIN:
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

    def charge(self, now: float) -> None:
        """Count a request that takes no session. Nobody falls further behind than by a bucket that is empty."""
        self.used_at = now
        bucket = self.requests
        if bucket is not None:
            bucket.refill(now)
            bucket.level = max(0.0, bucket.level - 1.0) if bucket.level > 0.0 else bucket.level

    # What an upstream tells

    def close_until(self, then: float) -> None:
        """The upstream asked for a pause."""
        self.closed_until = max(self.closed_until, then)

    def declares(self, limit: str) -> bool:
        """Whether a bucket's limit is configured: then that is obeyed, whatever the upstream says."""
        return getattr(self.limits, f"{limit}_per_minute") is not None

    def learn(self, limit: str, per_minute: int, remaining: int, now: float) -> bool:
        """The upstream said how much of `limit` (a bucket's name) it gives, and has left. True: how much is news.

        A declared limit stays as it is declared; only what is left of it can be less.
        """
        bucket: Bucket | None = getattr(self, limit)
        is_news = bucket is None
        if bucket is None:
            bucket = Bucket(per_minute, per_minute, now, limit == "input_tokens")
            setattr(self, limit, bucket)
            self.list_buckets()
        elif self.declares(limit):
            bucket.refill(now)
        else:
            is_news = bucket.size != per_minute
            bucket.resize(per_minute, per_minute, now)
        bucket.level = min(bucket.level, remaining)
        return is_news

    def unlearn(self, limit: str) -> bool:
        """What the upstream said of `limit` (a bucket's name) counts no more. False: it had said nothing."""
        if self.declares(limit) or getattr(self, limit) is None:
            return False
        setattr(self, limit, None)
        self.list_buckets()
        return True

    def announced(self) -> dict[str, int]:
        """What the upstream gives a minute as it says, by the limit's name, where nothing is declared."""
        return {
            f"{limit}_per_minute": round(bucket.size)
            for limit in BUCKETS
            if not self.declares(limit) and (bucket := getattr(self, limit)) is not None
        }

    # At rest

    @property
    def is_in_use(self) -> bool:
        """Something is in flight, or someone waits."""
        return bool(self.sessions or self.waiting)

    @property
    def is_idle(self) -> bool:
        """Nothing in flight, nobody waits and every bucket is full: forgetting the lane changes nothing."""
        return not (self.sessions or self.waiting or self.line.count) and all(
            bucket.level >= bucket.size for bucket in self.buckets
        )

    def refill(self, now: float) -> None:
        for bucket in self.buckets:
            bucket.refill(now)

    def list_buckets(self) -> None:
        """To be called when a bucket has come or gone."""
        found = (self.requests, self.input_tokens, self.output_tokens)
        self.buckets = tuple(bucket for bucket in found if bucket is not None)
        self.counts_tokens = self.input_tokens is not None or self.output_tokens is not None


class Grant:
    """What one request was given: a session of each of `lanes`, a request and `input_tokens`.

    It comes back in parts as the truth is known, and whole exactly once. `is_open`: it was given and did not come back.
    """

    __slots__ = ("begun_at", "input_tokens", "is_open", "lanes", "output_tokens")

    def __init__(self, input_tokens: int) -> None:
        self.input_tokens = input_tokens
        self.output_tokens = 0
        self.lanes: tuple[Lane, ...] = ()
        self.begun_at = 0.0
        self.is_open = False

    def take(self, lanes: tuple[Lane, ...], now: float) -> bool:
        """Take from every lane, or nothing from any: False where one lacks something, as its `obstacle` tells.

        The whole decision for nearly every request: so nothing is called, and nothing is made. A property test
        (`test_lanes_simulated.py`) holds it equal to the obstacles.
        """
        tokens = self.input_tokens
        for lane in lanes:
            if lane.sessions >= lane.sessions_max or now < lane.closed_until:
                return False
            for bucket in lane.buckets:
                level, size = bucket.level, bucket.size
                if now > bucket.at:
                    level += (now - bucket.at) * bucket.rate
                    bucket.level = level = level if level < size else size
                bucket.at = now
                lacks = (tokens if tokens < size else size) - level if bucket.of_input else 1 - level
                if lacks > LACK_MIN:
                    return False
        for lane in lanes:
            lane.sessions += 1
            lane.used_at = now
            if lane.requests is not None:
                lane.requests.level -= 1
            if lane.input_tokens is not None:
                lane.input_tokens.level -= tokens
        self.lanes = lanes
        self.begun_at = now
        self.is_open = True
        return True

    def settle(self, input_tokens: int, output_tokens: int) -> bool:
        """So much input counts (uncached and cache writes), and so much output has been produced in all, as is known.

        True: less than was taken, so that something came back.
        """
        more_input, more_output = self.input_tokens - input_tokens, self.output_tokens - output_tokens
        self.input_tokens, self.output_tokens = input_tokens, output_tokens
        for lane in self.lanes:
            bucket = lane.input_tokens
            if bucket is not None:
                level = bucket.level + more_input
                bucket.level = level if level < bucket.size else bucket.size
            bucket = lane.output_tokens
            if bucket is not None:
                level = bucket.level + more_output
                bucket.level = level if level < bucket.size else bucket.size
        return more_input > 0 or more_output > 0

    def move(self, shared: tuple[Lane, ...], now: float) -> bool:
        """Go on in these instead of the shared lanes that it has. False: they lack something, and nothing changes."""
        had, begun_at = self.lanes, self.begun_at
        if not self.take(shared, now):
            return False
        self.lanes, self.begun_at = tuple(lane for lane in had if lane.is_shared), begun_at
        for lane in self.lanes:
            if lane.input_tokens is not None:
                lane.input_tokens.give(self.input_tokens)
        self.release(now)
        self.lanes = (*(lane for lane in had if not lane.is_shared), *shared)
        self.is_open = True
        return True

    @property
    def counts_output(self) -> bool:
        """Whether a limit of output tokens holds for it."""
        return any(lane.output_tokens is not None for lane in self.lanes)

    def release(self, now: float) -> bool:
        """Give the sessions back. Again: nothing happens, and False says so."""
        if not self.is_open:
            return False
        self.is_open = False
        seconds = now - self.begun_at
        seconds = 0.0 if seconds < 0.0 else seconds if seconds < SESSION_SECONDS_MAX else SESSION_SECONDS_MAX
        for lane in self.lanes:
            lane.sessions -= 1
            lane.mean_session += (seconds - lane.mean_session) / 8
        return True


def _longer(found: Obstacle | None, limit: str, seconds: float, scope: Scope) -> Obstacle:
    return found if found is not None and found.seconds >= seconds else Obstacle(limit, seconds, scope)


def _sized(
    bucket: Bucket | None, per_minute: int | None, size: int | None, now: float, of_input: bool = False
) -> Bucket | None:
    if per_minute is None or size is None:
        return None
    if bucket is None:
        return Bucket(per_minute, size, now, of_input)
    bucket.resize(per_minute, size, now)
    return bucket
