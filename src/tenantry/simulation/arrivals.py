"""When requests come, and how large they are. Each stream draws from a generator of its own, named by the seed: what
one tenant asks for is the same whatever happens to others, so that two runs differ by what was changed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from random import Random
from zoneinfo import ZoneInfo

from tenantry.simulation.clock import Clock
from tenantry.simulation.gateway import Wants
from tenantry.simulation.scenario import Traffic

# The share of an office's busiest hour that its other hours have: little early and late, a dip at noon.
_OFFICE_DAY = (0.45, 0.9, 1.0, 0.8, 0.75, 1.0, 0.95, 0.8, 0.6, 0.35)
_SATURDAY = 5
# Requests of one burst come within so many seconds.
BURST_SECONDS = 5.0


class Arrivals:
    """One stream of requests of one tenant. `ask` is called with what is wanted, as it comes."""

    def __init__(
        self, traffic: Traffic, random: Random, clock: Clock, start: datetime, ask: Callable[[Wants], None]
    ) -> None:
        self._traffic = traffic
        self._random = random
        self._clock = clock
        self._start = start.timestamp()
        self._zone = start.tzinfo if isinstance(start.tzinfo, ZoneInfo) else ZoneInfo("UTC")
        self._ask = ask
        self._hour_of: tuple[int, float] = (-1, 0.0)

    def begin(self) -> None:
        self._wait_for_next()

    def _wait_for_next(self) -> None:
        traffic = self._traffic
        if traffic.shape == "bursts":
            self._clock.call_later(self._random.expovariate(1 / (traffic.burst_minutes * 60)), self._burst)
        else:
            self._clock.call_later(self._random.expovariate(traffic.requests_per_hour / 3600), self._come)

    def _come(self) -> None:
        # A Poisson stream of the busiest hour, thinned to the hour it is.
        if self._traffic.shape == "steady" or self._random.random() < self._share_now():
            self._ask(self._draw())
        self._wait_for_next()

    def _burst(self) -> None:
        for _ in range(self._traffic.burst_requests):
            wants = self._draw()
            self._clock.call_later(self._random.random() * BURST_SECONDS, lambda wants=wants: self._ask(wants))
        self._wait_for_next()

    def _share_now(self) -> float:
        at = self._start + self._clock.now
        hour = int(at // 900)
        if hour != self._hour_of[0]:
            local = datetime.fromtimestamp(at, self._zone)
            self._hour_of = hour, self._share_at(local)
        return self._hour_of[1]

    def _share_at(self, local: datetime) -> float:
        traffic = self._traffic
        hour = local.hour + local.minute / 60
        if local.weekday() >= _SATURDAY or not traffic.from_hour <= hour < traffic.to_hour:
            return 0.0
        part = (hour - traffic.from_hour) / (traffic.to_hour - traffic.from_hour)
        return _OFFICE_DAY[min(len(_OFFICE_DAY) - 1, int(part * len(_OFFICE_DAY)))]

    def _draw(self) -> Wants:
        traffic = self._traffic
        prompt = self._size(traffic.prompt_tokens, 1_000_000)
        return Wants(
            traffic.model,
            prompt,
            self._size(traffic.answer_tokens, traffic.max_tokens),
            traffic.max_tokens,
            traffic.stream,
            int(prompt * traffic.cached_percent / 100),
        )

    def _size(self, median: int, most: int) -> int:
        return max(1, min(most, round(median * math.exp(self._random.gauss(0.0, self._traffic.spread)))))
