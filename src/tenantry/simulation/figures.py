"""What a run of a scenario has shown: waits, refusals, use of limits, money, and which limit was in the way."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tenantry.domain.admission import Lane

# A picture of a run has so many points.
SLOTS = 72


def percentile(values: array[float], share: float) -> float:
    """The value below which `share` of them lie; 0 of none. `values` is sorted."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


@dataclass(slots=True)
class Obstacles:
    """How often one limit was in the way: `whose` it is, since when (seconds), of how many, and for how long."""

    limit: str
    scope: str
    whose: str
    first_at: float
    waited: int = 0
    refused: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "limit": self.limit,
            "scope": self.scope,
            "whose": self.whose,
            "first_at_seconds": round(self.first_at, 3),
            "requests_waited": self.waited,
            "requests_refused": self.refused,
            "waited_seconds": round(self.seconds, 1),
        }


@dataclass(slots=True)
class Use:
    """How far one limit was used: means and peaks of samples, as shares of it."""

    limit: str
    scope: str
    whose: str
    allowed: int
    samples: int = 0
    total: float = 0.0
    peak: float = 0.0
    full: int = 0  # samples at 95 % or more

    def add(self, share: float) -> None:
        self.samples += 1
        self.total += share
        self.peak = max(self.peak, share)
        self.full += share >= 0.95

    def as_json(self) -> dict[str, Any]:
        samples = max(1, self.samples)
        return {
            "limit": self.limit,
            "scope": self.scope,
            "whose": self.whose,
            "allowed": self.allowed,
            "mean_percent": round(100 * self.total / samples, 1),
            "peak_percent": round(100 * self.peak, 1),
            "full_percent_of_time": round(100 * self.full / samples, 1),
        }


@dataclass(slots=True)
class TenantFigures:
    """Of one tenant. `waits` are of the requests that were served, seconds; `slots`: asked, refused, longest wait."""

    slug: str
    tier: str
    asked: int = 0
    served: int = 0
    refusals: Counter[str] = field(default_factory=Counter[str])
    waits: array[float] = field(default_factory=lambda: array("d"))
    cost_nanos: int = 0
    asked_in: list[int] = field(default_factory=lambda: [0] * SLOTS)
    refused_in: list[int] = field(default_factory=lambda: [0] * SLOTS)
    wait_in: list[float] = field(default_factory=lambda: [0.0] * SLOTS)

    @property
    def refused(self) -> int:
        return sum(self.refusals.values())

    def wait(self, share: float) -> float:
        return percentile(self.waits, share)

    def as_json(self) -> dict[str, Any]:
        return {
            "tenant": self.slug,
            "tier": self.tier,
            "asked": self.asked,
            "served": self.served,
            "refused": self.refused,
            "refusals": dict(self.refusals.most_common()),
            "wait_p50_seconds": round(self.wait(0.5), 3),
            "wait_p99_seconds": round(self.wait(0.99), 3),
            "wait_max_seconds": round(self.waits[-1], 3) if self.waits else 0.0,
            "cost_nanos": self.cost_nanos,
        }


@dataclass(slots=True)
class Figures:
    """Of a whole run, of `seconds` of simulated time."""

    seconds: float
    tenants: dict[str, TenantFigures]
    uses: dict[tuple[str, str, str], Use] = field(default_factory=dict[tuple[str, str, str], Use])
    obstacles: dict[tuple[str, str, str], Obstacles] = field(default_factory=dict[tuple[str, str, str], Obstacles])
    upstream_refusals: dict[str, int] = field(default_factory=dict[str, int])
    requests: int = 0
    fleet: dict[str, Any] | None = None  # where several gateways serve: what is passed on, and asked of the store

    def slot(self, at: float) -> int:
        return min(SLOTS - 1, int(at / self.seconds * SLOTS))

    def in_the_way(self, limit: str, scope: str, whose: str, at: float) -> Obstacles:
        key = limit, scope, whose
        found = self.obstacles.get(key)
        if found is None:
            found = self.obstacles[key] = Obstacles(limit, scope, whose, at)
        return found

    def sample(self, lane: Lane, whose: str, now: float) -> None:
        """How far a lane is used now."""
        lane.refill(now)
        scope = lane.scope.value
        self._use("sessions_max", scope, whose, lane.sessions_max).add(lane.sessions / lane.sessions_max)
        for bucket, name in (
            (lane.requests, "requests_per_minute"),
            (lane.input_tokens, "input_tokens_per_minute"),
            (lane.output_tokens, "output_tokens_per_minute"),
        ):
            if bucket is not None:
                self._use(name, scope, whose, bucket.per_minute).add(min(1.0, 1.0 - bucket.level / bucket.size))

    def _use(self, limit: str, scope: str, whose: str, allowed: int) -> Use:
        key = limit, scope, whose
        found = self.uses.get(key)
        if found is None:
            found = self.uses[key] = Use(limit, scope, whose, allowed)
        return found

    def finish(self) -> None:
        for one in self.tenants.values():
            one.waits = array("d", sorted(one.waits))
        for key in self.obstacles:  # a peak between two samples
            use = self.uses.get(key)
            if use is not None:
                use.peak = 1.0

    @property
    def ranked(self) -> list[Obstacles]:
        """What was in the way, the worst first: a refusal counts as a wait of half a minute."""
        return sorted(self.obstacles.values(), key=lambda one: (-(one.seconds + 30.0 * one.refused), one.first_at))

    @property
    def first(self) -> Obstacles | None:
        """What was in the way first."""
        return min(self.obstacles.values(), key=lambda one: one.first_at, default=None)

    def as_json(self) -> dict[str, Any]:
        first = self.first
        return {
            "simulated_seconds": self.seconds,
            "requests": self.requests,
            "tenants": [one.as_json() for one in self.tenants.values()],
            "limits": [one.as_json() for one in self.uses.values() if one.allowed < 1_000_000 or one.peak > 0.01],
            "binds_first": first.as_json() if first is not None else None,
            "in_the_way": [one.as_json() for one in self.ranked],
            "refused_by_organizations": self.upstream_refusals,
            "fleet": self.fleet,
        }
