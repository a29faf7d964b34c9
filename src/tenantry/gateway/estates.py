"""Rates and health as values, from one gateway to the one that takes its place.

Both are processes of one machine, under one clock (CLOCK_MONOTONIC): times need no translation.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from tenantry.domain.admission import BUCKETS, Bucket, Lane, Scope
from tenantry.domain.asks import Ask, capacity_name
from tenantry.domain.directory import UNLIMITED, Credential, Snapshot
from tenantry.gateway.handover import BucketState, LaneState, RunningAttempt, RunningRequest, StandingState
from tenantry.gateway.parts import Parts


class Part:
    """Of all that a gateway grants for, some cells with their tenants."""

    __slots__ = ("cells", "tenants")

    def __init__(self, cells: Collection[str], tenants: Collection[str]) -> None:
        self.cells = cells
        self.tenants = tenants


def lanes_of(parts: Parts, part: Part | None = None) -> list[LaneState]:
    """The lanes that are not as if they had never been. Sessions are not in it: they belong to requests."""
    register, now = parts.lanes.register, parts.clock.now()
    own, capacities = register.own(), register.shared.values()
    if part is not None:
        keys = {key.lane_name: key.tenant_id for key in parts.latest.snapshot.keys.values()}
        own = ((kind, lane) for kind, lane in own if keys.get(lane.name, lane.name) in part.tenants)
        capacities = [shared for shared in capacities if shared.name in part.cells]
    found = [_state(kind, lane.name, "", lane, now) for kind, lane in own]
    for shared in capacities:
        if shared.capacity is not None:
            found.append(_state("capacity", shared.name, "", shared.capacity, now))
        found += [_state("model", shared.name, model, lane, now) for model, lane in shared.models.items()]
    return [one for one in found if one is not None]


def running_request(name: bytes, ask: Ask, attempt: RunningAttempt | None) -> RunningRequest:
    """What another gateway has to know of a request that goes on here."""
    return RunningRequest(
        name,
        ask.tenant.tenant_id,
        ask.key.digest,
        ask.credential.credential_id if ask.credential is not None else None,
        ask.model,
        ask.input_tokens,
        ask.output_tokens,
        ask.begun_at,
        ask.is_open,
        attempt,
    )


def _state(kind: str, name: str, model: str, lane: Lane, now: float) -> LaneState | None:
    lane.refill(now)
    buckets = [
        BucketState(one, bucket.per_minute, bucket.size, bucket.level, bucket.at)
        for one in BUCKETS
        if (bucket := _bucket(lane, one)) is not None
    ]
    is_full = all(bucket.level >= bucket.size for bucket in buckets)
    if is_full and lane.closed_until <= now and lane.scope is not Scope.MODEL and not lane.sessions:
        return None
    return LaneState(kind, name, model, max(0.0, lane.closed_until), lane.mean_session, buckets)


def _bucket(lane: Lane, name: str) -> Bucket | None:
    return {"requests": lane.requests, "input_tokens": lane.input_tokens, "output_tokens": lane.output_tokens}[name]


def take_lanes(parts: Parts, states: list[LaneState]) -> None:
    """Go on from these. Of whom the directory does not know any more nothing is kept."""
    snapshot, register, now = parts.latest.snapshot, parts.lanes.register, parts.clock.now()
    keys = {key.key_id: key for key in snapshot.keys.values()}
    credentials = {capacity_name(one): one for one in credentials_of(snapshot)}
    for state in states:
        lane: Lane | None = None
        if state.kind in ("tenant", "free") and (tenant := snapshot.tenants.get(state.name)) is not None:
            lane = register.tenant_lane(tenant, state.kind == "tenant", now)
        elif state.kind == "key" and (key := keys.get(state.name)) is not None:
            lane = register.key_lane_of(key, now)
        elif state.kind in ("capacity", "model") and (credential := credentials.get(state.name)) is not None:
            shared = register.shared_of(credential, now)
            lane = shared.capacity
            if state.kind == "model":
                made = Lane(UNLIMITED, now, Scope.MODEL, f"{shared.name} {state.model}")
                lane = shared.models.setdefault(state.model, made)
        if lane is not None:
            _restore(lane, state, now)


def _restore(lane: Lane, state: LaneState, now: float) -> None:
    """Of several gateways before this one, the one that has counted for it last says the least that is left."""
    lane.mean_session = state.mean_session
    if state.closed_until > now:
        lane.close_until(state.closed_until)
    for one in state.buckets:
        bucket = _bucket(lane, one.name)
        if bucket is None and lane.scope is Scope.MODEL:
            lane.learn(one.name, int(one.per_minute), math.ceil(one.size), now)
            bucket = _bucket(lane, one.name)
        if bucket is not None:
            before, bucket.level, bucket.at = bucket.level, min(bucket.size, one.level), one.at
            bucket.refill(now)
            bucket.level = min(bucket.level, before)


def shift_lanes(states: list[LaneState], seconds: float) -> None:
    """Tell their times by a clock that is so far ahead."""
    for state in states:
        if state.closed_until:
            state.closed_until += seconds
        for bucket in state.buckets:
            bucket.at += seconds


def standings_of(parts: Parts, part: Part | None = None) -> list[StandingState]:
    """What is known of credentials at their upstreams."""
    health, drawn = parts.health, [*credentials_of(parts.latest.snapshot)]
    if part is not None:
        drawn = [one for one in drawn if capacity_name(one) in part.cells]
    names = {one.credential_id for one in drawn}
    found = {
        name: StandingState(name, one.breaker.state(), one.retries.fifths)
        for name, one in health.standings()
        if part is None or name in names
    }
    for credential in drawn:
        until = health.dead_until(credential)
        if until is not None:
            state = found.setdefault(credential.credential_id, StandingState(credential.credential_id))
            state.dead_until, state.is_spent = until.timestamp(), health.is_spent(credential)
    return list(found.values())


def take_standings(parts: Parts, states: list[StandingState]) -> None:
    """Go on from these."""
    credentials = {one.credential_id: one for one in credentials_of(parts.latest.snapshot)}
    for state in states:
        credential = credentials.get(state.credential_id)
        if credential is None:
            continue
        if state.breaker is not None:
            standing = parts.health.of(credential)
            standing.breaker.restore(state.breaker)
            standing.retries.restore(state.retry_fifths)
        if state.dead_until is not None:
            until = datetime.fromtimestamp(state.dead_until, UTC)
            parts.health.mark_dead(credential, until, is_spent=state.is_spent)


def credentials_of(snapshot: Snapshot) -> Iterator[Credential]:
    """Each credential that a tenant uses, once."""
    seen: set[str] = set()
    for tenant in snapshot.tenants.values():
        for credential in (tenant.credential, tenant.fallback):
            if credential is not None and credential.credential_id not in seen:
                seen.add(credential.credential_id)
                yield credential
