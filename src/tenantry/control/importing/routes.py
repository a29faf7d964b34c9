"""`tenant-routes.json` of the classic set-up."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tenantry.control.importing.json_lines import DEPTH_MAX, Places, find_places
from tenantry.control.importing.report import Report
from tenantry.control.toml_out import Key
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import BadLimit, read_limit

DEFAULT_TIER = "standard"

# These stand at the top of the file, or below `routing`.
_SECTIONS = ("session_limits", "rate_limiting", "telemetry")
_RATES = {"requests_per_minute": "requests_per_minute", "burst_allowance": "request_burst"}


@dataclass(slots=True)
class Routes:
    """What the file says. `tiers` are all that may be named; `sessions` and `rates` become limits of tiers."""

    tiers: list[str]
    default_tier: str = DEFAULT_TIER
    sessions: dict[str, int] = field(default_factory=dict[str, int])
    rates: dict[str, int] = field(default_factory=dict[str, int])

    def tier_entries(self, used: Collection[str]) -> dict[str, dict[str, Any]]:
        """The `[tiers]` of `tenants.toml`: those that have limits here or serve a tenant."""
        entries: dict[str, dict[str, Any]] = {}
        for name in self.tiers:
            sessions = {"sessions_max": self.sessions[name]} if name in self.sessions else {}
            limits = {**sessions, **self.rates} if sessions or name in used else {}
            if limits:
                entries[name] = limits
        return entries


@dataclass(slots=True)
class _Reading:
    source: str
    places: Places
    report: Report
    routes: Routes

    def line(self, path: Key) -> int:
        return self.places.lines.get(path, 0)

    def problem(self, path: Key, text: str) -> None:
        self.report.problem(self.source, self.line(path), f"{'.'.join(path)} {text}")


def read_routes(file: tuple[str, str] | None, shipped: Sequence[str], report: Report) -> Routes:
    """The routes in the text of `file`, which comes with its name; what is wrong goes into the report."""
    routes = Routes(list(shipped))
    if file is None:
        return routes
    source, text = file
    text = text.removeprefix("\ufeff")
    places = find_places(text)
    if places.too_deep:
        report.problem(source, 0, f"is nested deeper than {DEPTH_MAX} levels")
        return routes
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 0
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        report.problem(source, line, f"is not valid JSON: {reason}")
        return routes
    if not isinstance(document, dict):
        report.problem(source, 0, "must hold an object with routing, session_limits, rate_limiting, telemetry")
        return routes
    for line, name in places.repeated:
        report.problem(source, line, f"the name {name!r} is there twice in one object")
    _read(_Reading(source, places, report, routes), cast("dict[str, Any]", document))
    return routes


def _read(reading: _Reading, document: dict[str, Any]) -> None:
    leaves = list(_leaves((), document))
    # Tiers first: the default must be one of them.
    for path, value in leaves:
        if _section(path) == "session_limits":
            _read_sessions(reading, path, value)
    for path, value in leaves:
        match _section(path):
            case "session_limits":
                continue
            case "rate_limiting":
                _read_rate(reading, path, value)
            case "telemetry":
                _read_telemetry(reading, path, value)
            case _ if path == ("routing", "default_tier"):
                _read_default_tier(reading, path, value)
            case _:
                why = "no setting of the classic proxy, and none of this gateway"
                reading.report.not_here(reading.source, reading.line(path), ".".join(path), why)


def _leaves(path: Key, value: Any) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in cast("dict[str, Any]", value).items():
            yield from _leaves((*path, name), inner)
    else:
        yield path, value


def _section(path: Key) -> str:
    """The section that a leaf of two levels belongs to, "" for none."""
    inner = path[1:] if path[:1] == ("routing",) else path
    return inner[0] if len(inner) == 2 and inner[0] in _SECTIONS else ""


def _read_sessions(reading: _Reading, path: Key, value: Any) -> None:
    tier = path[-1].lower()
    if not is_slug(tier):
        reading.problem(path, "is no tier's name: use a-z, 0-9 and inner hyphens")
        return
    try:
        number = read_limit("sessions_max", value)
    except BadLimit as error:
        reading.problem(path, f"cannot be read: {error}")
        return
    if reading.routes.sessions.setdefault(tier, number) != number:
        reading.problem(path, f"differs from the other limit of tier {tier}")
        return
    if tier not in reading.routes.tiers:
        reading.routes.tiers.append(tier)
    becomes = f"tenants.toml: tiers.{tier}.sessions_max = {number}"
    reading.report.taken(reading.source, reading.line(path), ".".join(path), becomes)


def _read_rate(reading: _Reading, path: Key, value: Any) -> None:
    where = (reading.source, reading.line(path), ".".join(path))
    if path[-1] == "backoff_strategy":
        told = value if isinstance(value, str) and len(value) <= 40 else "this one"
        why = "exponential backoff with full jitter, and `retry-after` to the second, for everyone"
        if "exponential" in str(told).lower():
            reading.report.built_in(*where, why)
        else:
            reading.report.not_here(*where, f"{told!r} cannot be chosen: the gateway always has {why}")
        return
    limit = _RATES.get(path[-1])
    if limit is None:
        reading.report.not_here(*where, "no rate limit of the classic proxy; tenants.toml has more: docs/import.md")
        return
    try:
        number = read_limit(limit, value)
    except BadLimit as error:
        reading.problem(path, f"cannot be read: {error}")
        return
    if number is None:
        reading.problem(path, "must be a whole number")
    elif reading.routes.rates.setdefault(limit, number) != number:
        reading.problem(path, "is there twice, with different values")
    else:
        reading.report.taken(*where, f"tenants.toml: {limit} = {number} in every tier that is used")


def _read_telemetry(reading: _Reading, path: Key, value: Any) -> None:
    where = (reading.source, reading.line(path), ".".join(path))
    name, off = path[-1], value in (False, "off", "none", "false", None)
    if name in ("token_tracking", "cost_calculation"):
        kept = {"token_tracking": "every token class", "cost_calculation": "the cost"}[name]
        why = f"the ledger has {kept} of every request within a second of its end"
        reading.report.built_in(*where, f"{why}; it cannot be switched off" if off else why)
    elif name == "export_format":
        if str(value).lower() == "csv":
            reading.report.built_in(*where, "exports on schedule are CSV")
        else:
            reading.report.not_here(
                *where, "exports on schedule are CSV; on demand: `tenantry export --format json` or `parquet`"
            )
    else:
        reading.report.not_here(*where, "no telemetry of the classic proxy, and none of this gateway")


def _read_default_tier(reading: _Reading, path: Key, value: Any) -> None:
    tier = value.strip().lower() if isinstance(value, str) else value
    if tier not in reading.routes.tiers:
        known = ", ".join(reading.routes.tiers)
        reading.problem(path, f"is no tier: there are {known}")
        return
    reading.routes.default_tier = tier
    becomes = f"the tier of tenants without TENANT_<NAME>_TIER: {tier}"
    reading.report.taken(reading.source, reading.line(path), ".".join(path), becomes)
