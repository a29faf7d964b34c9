"""Traffic: the lanes of this process, and who waits for them (DESIGN 4.5).

The decisions are those of `domain/admission` and `domain/fair_queue`. Here they get their state: lanes by tenant, key
and capacity, one queue for each capacity, and a timer for the moment when the next one can go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from tenantry.domain.admission import Capacity, Grant, Lane, Obstacle, Scope, admit, first_obstacle
from tenantry.domain.directory import UNLIMITED, Credential, GatewayKey, Snapshot, Tenant
from tenantry.domain.fair_queue import FairQueue, Served
from tenantry.domain.limits import Limits
from tenantry.wire.http1 import small_number

# A queue looks again at least this often: a session's end may come sooner than its mean says.
LOOK_SECONDS_MAX = 0.5
LOOK_SECONDS_MIN = 0.002
# What an upstream says is read at most so often for each model; between answers our own count goes on.
LEARN_SECONDS = 0.05
# Lanes of models that answers have named. Beyond it the idle ones are forgotten.
MODEL_LANES_MAX = 4096

_LEARNED = (
    ("requests", b"anthropic-ratelimit-requests-limit", b"anthropic-ratelimit-requests-remaining"),
    ("input_tokens", b"anthropic-ratelimit-input-tokens-limit", b"anthropic-ratelimit-input-tokens-remaining"),
    ("output_tokens", b"anthropic-ratelimit-output-tokens-limit", b"anthropic-ratelimit-output-tokens-remaining"),
)

CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class Ask:
    """One request that wants to go upstream. `credential` is None for what costs nothing: it has a lane of its own.

    `on_grant` is called when a request that had to wait gets its turn.
    """

    __slots__ = ("credential", "grant", "input_tokens", "is_new", "key", "model", "on_grant", "queue", "tenant")

    def __init__(
        self,
        tenant: Tenant,
        key: GatewayKey,
        credential: Credential | None,
        model: str,
        input_tokens: int,
        on_grant: Callable[[Grant], None],
    ) -> None:
        self.tenant = tenant
        self.key = key
        self.credential = credential
        self.model = _undated(model)
        self.input_tokens = input_tokens
        self.on_grant = on_grant
        self.grant: Grant | None = None
        self.queue: _Queue | None = None  # where it waits
        self.is_new = True


class _Queue:
    """Those that wait for one capacity."""

    __slots__ = ("flows", "timer")

    def __init__(self) -> None:
        self.flows: FairQueue[Ask] = FairQueue()
        self.timer: asyncio.TimerHandle | None = None


class Traffic:
    """All lanes and queues of this process. `now` and `call_later` are the event loop's, in seconds."""

    def __init__(self, now: Callable[[], float], call_later: CallLater) -> None:
        self._now = now
        self._call_later = call_later
        self._tenants: dict[str, Lane] = {}
        self._free: dict[str, Lane] = {}
        self._keys: dict[str, Lane] = {}
        self._capacities: dict[str, Capacity] = {}
        self._models: dict[tuple[str, str], Capacity] = {}
        self._queues: dict[str, _Queue] = {}

    # Asking

    def ask(self, ask: Ask) -> Grant | Obstacle | None:
        """A grant now, what is in the way of one for longer than the tenant may wait, or None: it waits."""
        name = capacity_name(ask.credential)
        queue = self._queues.get(name)
        now = self._now()
        if queue is None or queue.flows.is_empty:
            found = admit(self._lanes(ask, now), ask.input_tokens, now)
            if isinstance(found, Grant):
                ask.is_new = False
                ask.grant = found
                return found
            return self._wait(ask, found, name)
        depth = queue.flows.depth(ask.tenant.tenant_id)
        obstacle = first_obstacle(self._lanes(ask, now), ask.input_tokens, now, depth)
        return self._wait(ask, obstacle, name)

    def _wait(self, ask: Ask, obstacle: Obstacle | None, name: str) -> Grant | Obstacle | None:
        limits = ask.tenant.limits
        queue = self._queues.get(name)
        depth = queue.flows.depth(ask.tenant.tenant_id) if queue is not None else 0
        if obstacle is not None and (depth >= limits.queue_depth_max or _is_hopeless(obstacle, limits)):
            return obstacle
        if queue is None:
            queue = self._queues[name] = _Queue()
        queue.flows.push(ask.tenant.tenant_id, limits.weight, ask.input_tokens, ask)
        ask.queue = queue
        self._serve(queue)
        ask.is_new = False
        return ask.grant

    def leave(self, ask: Ask) -> Obstacle:
        """Take a request that waits out of its queue; what is still in its way."""
        queue, ask.queue = ask.queue, None
        depth = 0
        if queue is not None:
            queue.flows.remove(ask.tenant.tenant_id, ask)
            depth = queue.flows.depth(ask.tenant.tenant_id)
        now = self._now()
        # Where nothing is in the way any more, it lost its turn to a timer by a hair.
        return first_obstacle(self._lanes(ask, now), ask.input_tokens, now, depth) or Obstacle("sessions_max", 1.0)

    def release(self, ask: Ask) -> bool:
        """Give the sessions of a granted request back; whoever waits for them is served. False the second time."""
        grant = ask.grant
        if grant is None or not grant.release(self._now()):
            return False
        self.look(ask.credential)
        return True

    def look(self, credential: Credential | None) -> None:
        """Something may have become free on the way of `credential`."""
        queue = self._queues.get(capacity_name(credential))
        if queue is not None and not queue.flows.is_empty:
            self._serve(queue)

    def may_move(self, ask: Ask, credential: Credential) -> bool:
        return first_obstacle(self._shared(credential, ask.model, self._now()), ask.input_tokens, self._now()) is None

    def move(self, ask: Ask, credential: Credential) -> bool:
        """Go on with a granted request under another credential, unless that one has no room for it now."""
        now = self._now()
        shared = self._shared(credential, ask.model, now)
        if ask.grant is None or first_obstacle(shared, ask.input_tokens, now) is not None:
            return False
        ask.grant.move(shared, now)
        left, ask.credential = ask.credential, credential
        self.look(left)
        return True

    def _serve(self, queue: _Queue) -> None:
        now = self._now()
        granted: list[Ask] = []
        soonest = LOOK_SECONDS_MAX

        def offer(ask: Ask) -> Served:
            nonlocal soonest
            found = admit(self._lanes(ask, now), ask.input_tokens, now)
            if isinstance(found, Grant):
                ask.grant = found
                ask.queue = None
                granted.append(ask)
                return Served.TAKEN
            soonest = min(soonest, found.seconds)
            return _SERVED[found.scope]

        queue.flows.serve(offer)
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        if not queue.flows.is_empty:
            queue.timer = self._call_later(max(LOOK_SECONDS_MIN, soonest), lambda: self._serve(queue))
        for ask in granted:
            if not ask.is_new and ask.grant is not None:
                ask.on_grant(ask.grant)

    # Lanes

    def _lanes(self, ask: Ask, now: float) -> list[Lane]:
        if ask.credential is None:
            return [self._lane(self._free, ask.tenant.tenant_id, ask.tenant.limits, Scope.TENANT, now)]
        lanes = [self._lane(self._tenants, ask.tenant.tenant_id, ask.tenant.limits, Scope.TENANT, now)]
        if ask.key.limits is not None:
            lanes.append(self._lane(self._keys, ask.key.key_id, ask.key.limits, Scope.KEY, now))
        lanes += self._shared(ask.credential, ask.model, now)
        return lanes

    def _lane(self, lanes: dict[str, Lane], name: str, limits: Limits, scope: Scope, now: float) -> Lane:
        lane = lanes.get(name)
        if lane is None:
            lane = lanes[name] = Lane(limits, now, scope)
        return lane

    def _shared(self, credential: Credential, model: str, now: float) -> list[Lane]:
        name = capacity_name(credential)
        capacity = self._capacities.get(name)
        if capacity is None:
            capacity = self._capacities[name] = Capacity(credential.upstream.capacity, now)
        of_model = self._models.get((name, model))
        return [capacity] if of_model is None else [capacity, of_model]

    # What an upstream says

    def learn(
        self, credential: Credential, model: str, fields: Mapping[bytes, bytes], retry_after: float | None
    ) -> None:
        """Read an answer's rate-limit fields; `retry_after` is set when it asked for a pause, in seconds."""
        key = (capacity_name(credential), _undated(model))
        now = self._now()
        lane = self._models.get(key)
        if lane is None:
            if retry_after is None and b"anthropic-ratelimit-requests-limit" not in fields:
                return
            lane = self._models[key] = Capacity(UNLIMITED, now, Scope.MODEL)
        if retry_after is not None:
            lane.close_until(now + retry_after)
        elif now - lane.learned_at < LEARN_SECONDS:
            return
        lane.learned_at = now
        for bucket, limit_field, remaining_field in _LEARNED:
            limit, remaining = (
                small_number(fields.get(limit_field, b"")),
                small_number(fields.get(remaining_field, b"")),
            )
            # A limit of nothing would never give again; that is what `retry-after` is for.
            if limit and remaining is not None:
                lane.learn(bucket, limit, remaining, now)

    # Changes and upkeep

    def apply(self, snapshot: Snapshot) -> None:
        """Go on under the limits of another snapshot, at once."""
        now = self._now()
        for lanes in (self._tenants, self._free):
            for tenant_id, lane in list(lanes.items()):
                tenant = snapshot.tenants.get(tenant_id)
                if tenant is not None:
                    lane.apply(tenant.limits, now)
        if self._keys:
            own = {key.key_id: key.limits for key in snapshot.keys.values()}
            for key_id, lane in list(self._keys.items()):
                limits = own.get(key_id)
                if limits is not None:
                    lane.apply(limits, now)
        for tenant in snapshot.tenants.values():
            for credential in (tenant.credential, tenant.fallback):
                capacity = self._capacities.get(capacity_name(credential)) if credential is not None else None
                if capacity is not None and credential is not None:
                    capacity.apply(credential.upstream.capacity, now)
        for queue in list(self._queues.values()):
            if not queue.flows.is_empty:
                self._serve(queue)

    def sweep(self) -> None:
        """Forget what is as if it had never been: idle lanes, empty queues."""
        now = self._now()
        for lanes in (self._tenants, self._free, self._keys):
            _drop_idle(lanes, now)
        if len(self._models) > MODEL_LANES_MAX:
            _drop_idle(self._models, now)
        self._queues = {name: queue for name, queue in self._queues.items() if not queue.flows.is_empty}

    def lane_of(self, tenant: Tenant) -> Lane:
        """The lane that a tenant's own rate-limit headers tell of."""
        return self._lane(self._tenants, tenant.tenant_id, tenant.limits, Scope.TENANT, self._now())

    def key_lane_of(self, key: GatewayKey) -> Lane | None:
        return None if key.limits is None else self._lane(self._keys, key.key_id, key.limits, Scope.KEY, self._now())

    def standing(self) -> dict[str, dict[str, Any]]:
        """What each tenant that is not idle uses now."""
        waiting: dict[str, int] = {}
        for queue in self._queues.values():
            for tenant_id in queue.flows.names():
                waiting[tenant_id] = waiting.get(tenant_id, 0) + queue.flows.depth(tenant_id)
        now = self._now()
        found: dict[str, dict[str, Any]] = {}
        for tenant_id, lane in self._tenants.items():
            lane.refill(now)
            if lane.is_idle and tenant_id not in waiting:
                continue
            free = self._free.get(tenant_id)
            found[tenant_id] = {
                "sessions": lane.sessions + (free.sessions if free is not None else 0),
                "waiting": waiting.get(tenant_id, 0),
                "requests_remaining": _remaining(lane, "requests"),
                "input_tokens_remaining": _remaining(lane, "input_tokens"),
                "output_tokens_remaining": _remaining(lane, "output_tokens"),
            }
        return found

    def in_flight(self) -> int:
        """Sessions of every kind of lane; 0 when everything has been given back."""
        kinds = (self._tenants, self._free, self._keys, self._capacities, self._models)
        return sum(lane.sessions for lanes in kinds for lane in lanes.values())

    def waiting(self) -> int:
        """Requests in all queues."""
        return sum(len(queue.flows) for queue in self._queues.values())


_SERVED = {
    Scope.TENANT: Served.FLOW_BLOCKED,
    Scope.KEY: Served.FLOW_BLOCKED,
    Scope.UPSTREAM: Served.ALL_BLOCKED,
    Scope.MODEL: Served.PART_BLOCKED,
}


def _is_hopeless(obstacle: Obstacle, limits: Limits) -> bool:
    """Whether no wait that is allowed can help. When a session ends is a guess, so that is waited for."""
    return limits.queue_wait_ms_max == 0 or (
        obstacle.limit != "sessions_max" and obstacle.seconds * 1000 > limits.queue_wait_ms_max
    )


def capacity_name(credential: Credential | None) -> str:
    """Whose capacity a request uses: a credential's, or its organization's when that is declared."""
    if credential is None:
        return ""
    upstream = credential.upstream
    return upstream.upstream_id if upstream.shares_capacity else credential.credential_id


@lru_cache(maxsize=1024)
def _undated(model: str) -> str:
    """Dated and undated ids are one model (reference 5.6)."""
    return model[:-9] if model[-9:-8] == "-" and model[-8:].isdigit() else model


def _drop_idle(lanes: dict[Any, Any], now: float) -> None:
    for name in [name for name, lane in lanes.items() if lane.sessions == 0 and _is_full(lane, now)]:
        del lanes[name]


def _is_full(lane: Lane, now: float) -> bool:
    lane.refill(now)
    return lane.is_idle


def _remaining(lane: Lane, bucket: str) -> int | None:
    found = getattr(lane, bucket)
    return None if found is None else found.remaining()
