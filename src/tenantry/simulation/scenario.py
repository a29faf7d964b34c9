"""What is simulated: organizations, tiers, tenants and their traffic, read from a small TOML.

Every fault of a file is told at once, each with the place where it stands.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.ceilings import ENVELOPE_NANOS_MIN
from tenantry.domain.directory import NO_BUDGET, UNLIMITED
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import CAPACITY_LIMITS, SHIPPED_SESSIONS, BadLimit, Limits, first_limits, read_limits
from tenantry.domain.money import BadAmount, read_amount
from tenantry.domain.near import did_you_mean
from tenantry.domain.prices import load_default_prices
from tenantry.simulation.upstream import Manner

OFFICE: Final = "office"
# A balancer sends a tenant's requests to the same gateway, or each to any.
BY_TENANT: Final = "tenant"
BALANCERS: Final = (BY_TENANT, "any")
SHAPES: Final = ("steady", OFFICE, "bursts")
# A year of an agency's traffic takes an hour; nobody waits for more.
DAYS_MAX: Final = 366.0
NANOS_PER_USD: Final = 1_000_000_000
# What one process can be told of in a simulation that is to end today.
TENANTS_MAX: Final = 2_000


# Each renews its lease and looks at what it owns, all the time; a day of so many is some minutes of CPU.
GATEWAYS_MAX: Final = 1_000


class BadScenario(Exception):
    """The message has a line for each fault."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """One stream of requests. Sizes are medians in tokens; `spread` is that of their logarithm.

    `shape`: steady; office (between `from_hour` and `to_hour`, Monday to Friday, in the site's time zone); bursts
    (`burst_requests` at once, every `burst_minutes` on average).
    """

    shape: str = "steady"
    requests_per_hour: float = 60.0
    model: str = "claude-haiku-5-5"
    prompt_tokens: int = 2_000
    answer_tokens: int = 300
    spread: float = 0.6
    max_tokens: int = 4_096
    stream: bool = False
    cached_percent: float = 0.0
    from_hour: float = 8.0
    to_hour: float = 18.0
    burst_requests: int = 50
    burst_minutes: float = 60.0


@dataclass(frozen=True, slots=True)
class Organization:
    """What an organization gives; `declared`: the gateway is told, as `tenantry.toml` can; else it learns."""

    limits: Limits = UNLIMITED
    manner: Manner = field(default_factory=Manner)
    declared: bool = True


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """A tenant; its limits are those of its tier with its own."""

    limits: Limits
    organization: str
    tier: str
    budget: Budget = NO_BUDGET
    traffic: tuple[Traffic, ...] = ()


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many gateways share the tenants, and how a balancer in front of them chooses."""

    gateways: int = 1
    balancer: str = BY_TENANT
    lease_seconds: float = 30.0
    envelope_nanos: int = ENVELOPE_NANOS_MIN


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a run needs; `start` is aware, `days` how long it goes on."""

    days: float
    start: datetime
    zone: ZoneInfo
    seed: int
    organizations: dict[str, Organization]
    tenants: dict[str, TenantPlan]
    fleet: Fleet = field(default_factory=Fleet)

    @property
    def seconds(self) -> float:
        return self.days * 86_400.0

    @property
    def start_us(self) -> int:
        return int(self.start.timestamp() * 1_000_000)

    def with_limits(self, tenant: str, changes: Mapping[str, Any]) -> Scenario:
        """The same, with another limit of a tenant."""
        plan = self.tenants[tenant]
        changed = replace(plan, limits=plan.limits.with_changes(changes))
        return replace(self, tenants={**self.tenants, tenant: changed})

    def with_budget(self, tenant: str, budget: Budget) -> Scenario:
        return replace(self, tenants={**self.tenants, tenant: replace(self.tenants[tenant], budget=budget)})

    def with_capacity(self, organization: str, changes: Mapping[str, Any]) -> Scenario:
        """The same, with another limit of an organization."""
        found = self.organizations[organization]
        changed = replace(found, limits=found.limits.with_changes(changes))
        return replace(self, organizations={**self.organizations, organization: changed})


def read_scenario(data: bytes) -> Scenario:
    """Raises: BadScenario."""
    try:
        raw = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadScenario(f"this is no TOML: {error}") from error
    return _Reader(raw).read()


# What a field may be: its kind, and the least and the most of a number.
_Field = tuple[type, float, float]
_SITE: Final[dict[str, _Field]] = {
    "days": (float, 0.0001, DAYS_MAX),
    "start": (str, 0, 0),
    "time_zone": (str, 0, 0),
    "seed": (int, 0, 2**62),
    "gateways": (int, 1, GATEWAYS_MAX),
    "balancer": (str, 0, 0),
    "lease_seconds": (float, 2, 300),
    "envelope_usd": (float, 0.01, 1_000_000),
}
_MANNER: Final[dict[str, _Field]] = {
    "first_byte_ms": (float, 1, 600_000),
    "first_byte_spread": (float, 0, 3),
    "tokens_per_second": (float, 1, 150),
    "error_percent": (float, 0, 100),
}
_TRAFFIC: Final[dict[str, _Field]] = {
    "shape": (str, 0, 0),
    "requests_per_hour": (float, 0.001, 3_600_000),
    "model": (str, 0, 0),
    "prompt_tokens": (int, 1, 1_000_000),
    "answer_tokens": (int, 1, 128_000),
    "spread": (float, 0, 3),
    "max_tokens": (int, 1, 128_000),
    "stream": (bool, 0, 0),
    "cached_percent": (float, 0, 100),
    "from_hour": (float, 0, 24),
    "to_hour": (float, 0, 24),
    "burst_requests": (int, 1, 100_000),
    "burst_minutes": (float, 0.01, 100_000),
}
_KINDS: Final = {float: "a number", int: "a whole number", str: "a text", bool: "true or false", dict: "a table"}


@dataclass(slots=True)
class _Reader:
    raw: dict[str, Any]
    problems: list[str] = field(default_factory=list[str])

    def read(self) -> Scenario:
        self._names("", self.raw, ("simulation", "organizations", "tiers", "tenants"))
        site = self._fields("simulation", self._table("", "simulation", self.raw), _SITE)
        zone = self._zone(site.get("time_zone", "UTC"))
        organizations = {
            name: self._organization(f"organizations.{name}", block)
            for name, block in self._tables("organizations", self.raw)
        } or {"anthropic": Organization()}
        tiers = {name: first_limits(name) for name in SHIPPED_SESSIONS}
        for name, block in self._tables("tiers", self.raw):
            tiers[name] = first_limits(name).with_changes(self._limits(f"tiers.{name}", block))
        tenants: dict[str, TenantPlan] = {}
        for name, block in self._tables("tenants", self.raw):
            self._tenant(name, block, organizations, tiers, tenants)
        if not tenants and not self.problems:
            self.problems.append("there is no tenant: write [tenants.acme] and below it [[tenants.acme.traffic]]")
        if len(tenants) > TENANTS_MAX:
            self.problems.append(f"there are {len(tenants):,} tenants; a simulation takes {TENANTS_MAX:,}")
        fleet = Fleet(
            site.get("gateways", 1),
            self._one_of("simulation.balancer", site.get("balancer", BY_TENANT), BALANCERS),
            float(site.get("lease_seconds", 30.0)),
            round(site.get("envelope_usd", 1.0) * NANOS_PER_USD),
        )
        start = self._start(site.get("start", "2026-12-07T00:00"), zone)
        if self.problems:
            raise BadScenario("\n".join(self.problems))
        days, seed = float(site.get("days", 1.0)), site.get("seed", 1)
        return Scenario(days, start, zone, seed, organizations, tenants, fleet)

    def _zone(self, name: str) -> ZoneInfo:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            words = f"there is no time zone {name!r}; write one such as Europe/Berlin"
            self.problems.append(f"simulation.time_zone: {words}")
            return ZoneInfo("UTC")

    def _start(self, text: str, zone: ZoneInfo) -> datetime:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            self.problems.append(f"simulation.start must be a day or a time, such as 2026-12-07T08:00, not {text!r}")
            return datetime(2026, 12, 7, tzinfo=UTC)
        return found if found.tzinfo is not None else found.replace(tzinfo=zone)

    def _organization(self, place: str, block: dict[str, Any]) -> Organization:
        own = ("declared", *_MANNER)
        self._names(place, block, (*own, *CAPACITY_LIMITS))
        limits = self._limits(place, {name: value for name, value in block.items() if name in CAPACITY_LIMITS})
        if "request_burst" not in limits and limits.get("requests_per_minute"):
            limits["request_burst"] = limits["requests_per_minute"]  # Anthropic's buckets hold a minute's worth
        told = self._fields(
            place, {name: block[name] for name in own if name in block}, {**_MANNER, "declared": (bool, 0, 0)}
        )
        manner = Manner(
            told.get("first_byte_ms", 800.0) / 1000,
            told.get("first_byte_spread", 0.4),
            told.get("tokens_per_second", 70.0),
            told.get("error_percent", 0.0) / 100,
        )
        return Organization(UNLIMITED.with_changes(limits), manner, told.get("declared", True))

    def _tenant(
        self,
        name: str,
        block: dict[str, Any],
        organizations: Mapping[str, Organization],
        tiers: Mapping[str, Limits],
        into: dict[str, TenantPlan],
    ) -> None:
        place = f"tenants.{name}"
        self._names(place, block, ("tier", "organization", "copies", "limits", "budget", "traffic"))
        told = self._fields(
            place,
            {one: block[one] for one in ("tier", "organization", "copies") if one in block},
            {"tier": (str, 0, 0), "organization": (str, 0, 0), "copies": (int, 1, TENANTS_MAX)},
        )
        tier = self._one_of(f"{place}.tier", told.get("tier", "standard"), tiers)
        organization = self._one_of(
            f"{place}.organization", told.get("organization", next(iter(organizations))), organizations
        )
        own = self._limits(f"{place}.limits", self._table(place, "limits", block))
        if not is_slug(name):
            self.problems.append(f"{place}: a tenant's name is written with a-z, 0-9 and inner hyphens")
        plan = TenantPlan(
            tiers[tier].with_changes(own) if tier in tiers else Limits(),
            organization,
            tier,
            self._budget(place, self._table(place, "budget", block)),
            self._traffic(place, block.get("traffic")),
        )
        copies = told.get("copies", 1)
        for number in range(1, copies + 1):
            into[name if copies == 1 else f"{name}-{number}"] = plan

    def _budget(self, place: str, block: dict[str, Any]) -> Budget:
        self._names(f"{place}.budget", block, ("day", "week", "month", "mode"))
        mode = self._one_of(f"{place}.budget.mode", block.get("mode", "hard"), ("hard", "soft"))
        caps: list[Cap] = []
        for period in ("day", "week", "month"):
            if period in block:
                try:
                    caps.append(Cap(period, read_amount(str(block[period])), ()))
                except BadAmount as error:
                    self.problems.append(f"{place}.budget.{period}: {error}")
        return Budget(tuple(caps), mode) if caps else NO_BUDGET

    def _traffic(self, place: str, raw: object) -> tuple[Traffic, ...]:
        if not isinstance(raw, list) or not raw:
            self.problems.append(f"{place} has no traffic: write [[{place}.traffic]] below it")
            return ()
        found: list[Traffic] = []
        for number, block in enumerate(cast("list[Any]", raw), 1):
            where = f"{place}.traffic[{number}]"
            told = self._fields(where, cast("dict[str, Any]", block) if isinstance(block, dict) else {}, _TRAFFIC)
            one = Traffic(**told)
            self._one_of(f"{where}.shape", one.shape, SHAPES)
            if one.shape == OFFICE and one.to_hour <= one.from_hour:
                self.problems.append(
                    f"{where}.to_hour must be later than from_hour, {one.from_hour:g}: a night is two of them, "
                    "to 24 and from 0"
                )
            if load_default_prices().of(one.model) is None:
                self.problems.append(
                    f"{where}.model: {one.model!r} has no price; `tenantry prices list` shows those that have"
                )
            found.append(one)
        return tuple(found)

    # What every block needs

    def _tables(self, name: str, raw: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        found: list[tuple[str, dict[str, Any]]] = []
        for key, block in self._table("", name, raw).items():
            if isinstance(block, dict):
                found.append((key, cast("dict[str, Any]", block)))
            else:
                self.problems.append(f"{name}.{key} must be a table: write [{name}.{key}]")
        return found

    def _table(self, place: str, name: str, raw: Mapping[str, Any]) -> dict[str, Any]:
        block = raw.get(name, {})
        if isinstance(block, dict):
            return cast("dict[str, Any]", block)
        self.problems.append(f"{f'{place}.' if place else ''}{name} must be a table")
        return {}

    def _names(self, place: str, block: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in block:
            if name not in known:
                where = f"{place}.{name}" if place else name
                near = did_you_mean(name, known, f"there are: {', '.join(known)}")
                self.problems.append(f"{where} is not known; {near}")

    def _fields(self, place: str, block: Mapping[str, Any], known: Mapping[str, _Field]) -> dict[str, Any]:
        self._names(place, block, tuple(known))
        found: dict[str, Any] = {}
        for name, value in block.items():
            if name not in known:
                continue
            kind, low, high = known[name]
            is_kind = isinstance(value, (int, float) if kind is float else kind)
            if not is_kind or (isinstance(value, bool) and kind is not bool):
                self.problems.append(f"{place}.{name} must be {_KINDS[kind]}, not {value!r}")
            elif kind in (int, float) and not low <= value <= high:
                self.problems.append(f"{place}.{name} must be from {low:,} to {high:,}, not {value!r}")
            else:
                found[name] = value
        return found

    def _limits(self, place: str, block: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return read_limits(block)
        except BadLimit as error:
            self.problems += [f"{place}: {line}" for line in str(error).splitlines()]
            return {}

    def _one_of(self, place: str, value: Any, known: Any) -> str:
        if value not in known:
            self.problems.append(f"{place}: there is no {value!r}; there are: {', '.join(known)}")
        return str(value)
