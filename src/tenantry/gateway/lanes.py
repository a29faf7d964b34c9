"""Lanes: the counters of this process, and who waits for them (DESIGN 4.5).

The decisions are those of `domain/admission` and `domain/fair_queue`. Here they get their state: lanes by tenant, key
and capacity, one queue for each capacity, and one timer for all that only time can help.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from heapq import heappop, heappush
from typing import Any

from tenantry.domain.admission import Capacity, Grant, Lane, Obstacle, Scope
from tenantry.domain.directory import UNLIMITED, Credential, GatewayKey, Snapshot, Tenant
from tenantry.domain.fair_queue import FairQueue, Flow, Line, Sub
from tenantry.domain.limits import Limits
from tenantry.wire.http1 import small_number

# A timer is not set finer than this: an event loop rounds to a millisecond.
TIMER_SECONDS_MIN = 0.002
# What an upstream says is read at most so often for each model; between answers our own count goes on.
LEARN_SECONDS = 0.05
# So many lanes are looked at by one sweep: some 0.1 ms.
SWEEP_LANES = 256
# A lane that was not used for so long, and is full, is forgotten. Longer than any request may wait.
FORGET_SECONDS = 900.0

_LEARNED = (
    ("requests", b"anthropic-ratelimit-requests-limit", b"anthropic-ratelimit-requests-remaining"),
    ("input_tokens", b"anthropic-ratelimit-input-tokens-limit", b"anthropic-ratelimit-input-tokens-remaining"),
    ("output_tokens", b"anthropic-ratelimit-output-tokens-limit", b"anthropic-ratelimit-output-tokens-remaining"),
)

log = logging.getLogger("tenantry.gateway")

CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class Shared(FairQueue["Ask"]):
    """One capacity, and those that wait for it. That of free routes has no `capacity`: only own limits count."""

    __slots__ = ("capacity", "models", "name", "tenant_id")

    def __init__(self, name: str, stirred: list[FairQueue[Ask]], capacity: Capacity | None) -> None:
        super().__init__(stirred, math.inf if capacity is None else capacity.sessions_max)
        self.name = name
        self.capacity = capacity
        self.tenant_id = ""  # the one that used it last
        self.models: dict[str, Capacity] = {}


class Way:
    """The lanes of a tenant, key and credential. Good while `epoch` is that of the lanes."""

    __slots__ = ("epoch", "flow", "key", "lanes", "shared", "tenant")

    def __init__(self, epoch: int, tenant: Lane, key: Lane | None, shared: Shared, flow: Flow[Ask]) -> None:
        self.epoch = epoch
        self.tenant = tenant
        self.key = key
        self.shared = shared
        self.flow = flow
        self.lanes: tuple[Lane, ...] = tuple(lane for lane in (tenant, key, shared.capacity) if lane is not None)


class Ask:
    """One request that wants to go upstream. `credential` is None for what costs nothing: it has a lane of its own.

    `on_grant` is called when a request that had to wait gets its turn; `queue` is not None until then.
    """

    __slots__ = (
        "credential",
        "grant",
        "input_tokens",
        "is_new",
        "key",
        "model",
        "on_grant",
        "queue",
        "sub",
        "tenant",
        "way",
    )

    def __init__(
        self,
        tenant: Tenant,
        key: GatewayKey,
        credential: Credential | None,
        model: str,
        input_tokens: int,
        on_grant: Callable[[Grant], None],
        way: Way | None = None,
    ) -> None:
        self.tenant = tenant
        self.key = key
        self.credential = credential
        self.model = undated(model)
        self.input_tokens = input_tokens
        self.on_grant = on_grant
        self.way = way
        self.grant: Grant | None = None
        self.queue: Shared | None = None
        self.sub: Sub[Ask] | None = None  # where it stands in the queue
        self.is_new = True


class Lanes:
    """All lanes and queues of this process. `now` and `call_later` are the event loop's, in seconds."""

    def __init__(self, now: Callable[[], float], call_later: CallLater) -> None:
        self.epoch = 1
        self._now = now
        self._call_later = call_later
        self._tenants: dict[str, Lane] = {}
        self._free: dict[str, Lane] = {}
        self._keys: dict[str, Lane] = {}
        self._digests: dict[str, bytes] = {}  # of the keys that have a lane
        self._shared: dict[str, Shared] = {}
        self._told: dict[Lane, None] = {}  # tenants' lanes that are not known to be at rest
        self._visits: deque[Lane | Flow[Ask]] = deque()  # what a sweep looks at next
        self._stirred: list[FairQueue[Ask]] = []
        self._granted: deque[Ask] = deque()
        self._is_delivering = False
        self._wakes: list[tuple[float, int, Line, Shared | None]] = []
        self._wake_count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    # Asking

    def resolve(self, tenant: Tenant, key: GatewayKey, credential: Credential | None) -> Way:
        """The way of requests of that key; a connection may keep it."""
        now = self._now()
        own = None
        if credential is None:
            lane = self._lane(self._free, tenant.tenant_id, tenant.limits, Scope.TENANT, now)
        else:
            lane = self._lane(self._tenants, tenant.tenant_id, tenant.limits, Scope.TENANT, now)
            if key.limits is not None:
                own = self._lane(self._keys, key.key_id, key.limits, Scope.KEY, now)
                self._digests[key.key_id] = key.digest
        shared = self._shared_of(credential, now)
        shared.tenant_id = tenant.tenant_id
        flow = shared.flows.get(tenant.tenant_id)
        if flow is None:
            flow = shared.flow(tenant.tenant_id, tenant.limits.weight)
            self._visits.append(flow)
        return Way(self.epoch, lane, own, shared, flow)

    def _shared_of(self, credential: Credential | None, now: float) -> Shared:
        name = capacity_name(credential)
        shared = self._shared.get(name)
        if shared is None:
            capacity = Capacity(credential.upstream.capacity, now, name=name) if credential is not None else None
            shared = self._shared[name] = Shared(name, self._stirred, capacity)
        return shared

    def ask(self, ask: Ask) -> Grant | Obstacle | None:
        """A grant now, what is in the way of one for longer than the tenant may wait, or None: it waits."""
        way = ask.way
        if way is None or way.epoch != self.epoch:
            way = ask.way = self.resolve(ask.tenant, ask.key, ask.credential)
        now = self._now()
        shared = way.shared
        model = shared.models.get(ask.model) if shared.models else None
        if not (way.flow.waiting or shared.is_contended) and _may(way, model, ask.input_tokens, now):
            grant = ask.grant = self._take(ask, way, model, now)
            ask.is_new = False
            shared.take(way.flow)
            return grant
        return self._wait(ask, way, model, now)

    def _take(self, ask: Ask, way: Way, model: Capacity | None, now: float) -> Grant:
        tokens, lanes = ask.input_tokens, way.lanes
        if model is not None:
            lanes = (*lanes, model)
        for lane in lanes:
            lane.take(tokens, now)
        if not way.tenant.is_told:
            way.tenant.is_told = True
            self._told[way.tenant] = None
        return Grant(lanes, tokens, now)

    def _wait(self, ask: Ask, way: Way, model: Capacity | None, now: float) -> Grant | Obstacle | None:
        limits, flow, name = ask.tenant.limits, way.flow, (ask.key.key_id, ask.model)
        obstacle = _longest(way, model, ask.input_tokens, now, flow.waiting, flow.depth(name))
        if obstacle is not None and (flow.waiting >= limits.queue_depth_max or _is_hopeless(obstacle, limits)):
            return obstacle
        if flow.weight != limits.weight:
            way.shared.reweigh(flow, limits.weight)
        ask.queue = way.shared
        way.tenant.waiting += 1
        ask.sub = way.shared.push(flow, name, ask.input_tokens, ask)
        # Still new while the others are told: what they give back may be its turn, which it hears of here.
        self._run()
        ask.is_new = False
        return ask.grant

    def leave(self, ask: Ask) -> Obstacle:
        """Take a request that waits out of its queue; what is still in its way."""
        queue, ask.queue = ask.queue, None
        way = self._way(ask)
        if queue is not None and ask.sub is not None:
            queue.remove(ask.sub, ask)
            ask.sub = None
            way.tenant.waiting -= 1
        elif queue is not None and ask.grant is not None:
            self.release(ask)  # it had its turn and was not told yet
        self._run()
        now, flow = self._now(), way.flow
        model = way.shared.models.get(ask.model)
        ahead = flow.depth((ask.key.key_id, ask.model))
        # Where nothing is in the way any more, it lost its turn to a timer by a hair.
        return _longest(way, model, ask.input_tokens, now, flow.waiting, ahead) or Obstacle("sessions_max", 1.0)

    def release(self, ask: Ask) -> bool:
        """Give the sessions of a granted request back; whoever waits for them is served. False the second time."""
        grant, way = ask.grant, ask.way
        if grant is None or way is None or not grant.release(self._now()):
            return False
        self._freed(grant.lanes, way)
        return True

    def _freed(self, lanes: Iterable[Lane], way: Way) -> None:
        for lane in lanes:
            if lane.line.count:
                lane.line.wake()
        way.shared.give(way.flow)
        if self._stirred:
            self._run()

    def look(self, credential: Credential | None) -> None:
        """Something may have become free on the way of `credential`."""
        shared = self._shared.get(capacity_name(credential))
        if shared is not None and shared.waiting:
            for model in shared.models.values():
                model.line.wake()
            shared.stir()
            self._run()

    def may_move(self, ask: Ask, credential: Credential) -> bool:
        """Whether `move` would succeed; nothing is taken."""
        if ask.grant is None or not ask.grant.is_open:
            return False
        way = self.resolve(ask.tenant, ask.key, credential)
        return _has_room(way.shared, ask, self._now())

    def move(self, ask: Ask, credential: Credential) -> bool:
        """Go on with a granted request under another credential, unless that one has no room for it now."""
        grant, left, now = ask.grant, ask.way, self._now()
        if grant is None or left is None or not grant.is_open:
            return False
        way = self.resolve(ask.tenant, ask.key, credential)
        if not _has_room(way.shared, ask, now):
            return False
        model = way.shared.models.get(ask.model)
        lanes = [lane for lane in grant.lanes if isinstance(lane, Capacity)]
        grant.move([lane for lane in (way.shared.capacity, model) if lane is not None], now)
        ask.way, ask.credential = way, credential
        way.shared.take(way.flow)
        self._freed(lanes, left)
        return True

    # Turns

    def _way(self, ask: Ask) -> Way:
        way = ask.way
        if way is None or way.epoch != self.epoch:
            way = ask.way = self.resolve(ask.tenant, ask.key, ask.credential)
        return way

    def _offer(self, ask: Ask, sub: Sub[Ask]) -> Line | None:
        """Grant it, or say in whose line it stands: its own limits first, so that it holds nobody else up."""
        way, now = self._way(ask), self._now()
        shared = way.shared
        model = shared.models.get(ask.model)
        if way.tenant.line.is_closed_to(sub.flow):
            return way.tenant.line
        for lane in (way.key, model):
            if lane is not None and lane.line.is_closed_to(sub):
                return lane.line
        for lane in (way.tenant, way.key, model, shared.capacity):
            if lane is not None and not lane.may(ask.input_tokens, now):
                obstacle = lane.obstacle(ask.input_tokens, now)
                line = shared.line if lane is shared.capacity else lane.line
                if obstacle is not None and obstacle.limit != "sessions_max":
                    self._wake_at(line, now + obstacle.seconds, shared if line is shared.line else None)
                return line
        ask.grant = self._take(ask, way, model, now)
        ask.sub = None
        way.tenant.waiting -= 1
        if ask.is_new:
            ask.queue = None
        else:
            self._granted.append(ask)
        return None

    def _serve(self) -> None:
        while self._stirred:
            self._stirred.pop().serve(self._offer)
        self._arm()

    def _run(self) -> None:
        self._serve()
        self._deliver()

    def _deliver(self) -> None:
        """Tell those whose turn has come. What they do may grant more: the outermost call goes on with that."""
        if self._is_delivering:
            return
        self._is_delivering = True
        try:
            while self._granted:
                ask = self._granted.popleft()
                grant = ask.grant
                if ask.queue is None or grant is None or not grant.is_open:
                    continue  # it left, or was given back, before it was told
                ask.queue = None
                try:
                    ask.on_grant(grant)
                except Exception:  # one request's fault must not cost the others their turns
                    log.exception("a request failed when its turn came")
        finally:
            self._is_delivering = False

    def _wake_at(self, line: Line, then: float, shared: Shared | None) -> None:
        if then < line.wake_at:
            line.wake_at = then
            self._wake_count += 1
            heappush(self._wakes, (then, self._wake_count, line, shared))

    def _arm(self) -> None:
        while self._wakes and self._wakes[0][2].wake_at != self._wakes[0][0]:
            heappop(self._wakes)
        then = self._wakes[0][0] if self._wakes else math.inf
        if then >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = then
        self._timer = self._call_later(max(TIMER_SECONDS_MIN, then - self._now()), self._on_time)

    def _on_time(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self._now()
        while self._wakes and self._wakes[0][0] <= now:
            then, _, line, shared = heappop(self._wakes)
            if line.wake_at != then:
                continue
            line.wake_at = math.inf
            if shared is not None:
                shared.stir()
            else:
                line.wake()
        self._run()

    # Lanes

    def _lane(self, lanes: dict[str, Lane], name: str, limits: Limits, scope: Scope, now: float) -> Lane:
        lane = lanes.get(name)
        if lane is None:
            lane = lanes[name] = Lane(limits, now, scope, name)
            self._visits.append(lane)
        return lane

    # What an upstream says

    def learn(
        self, credential: Credential, model: str, fields: Mapping[bytes, bytes], retry_after: float | None
    ) -> None:
        """Read an answer's rate-limit fields; `retry_after` is set when it asked for a pause, in seconds.

        A limit that is declared for the capacity is obeyed as declared: what is told of it counts after a refusal
        only, and only lowers what is left.
        """
        now = self._now()
        shared = self._shared_of(credential, now)
        capacity = shared.capacity
        if capacity is None:
            return
        name = undated(model)
        lane = shared.models.get(name)
        if lane is None:
            if retry_after is None and b"anthropic-ratelimit-requests-limit" not in fields:
                return
            lane = shared.models[name] = Capacity(UNLIMITED, now, Scope.MODEL, f"{shared.name} {name}")
        if retry_after is not None:
            lane.close_until(now + retry_after)
        elif now - lane.learned_at < LEARN_SECONDS:
            return
        lane.learned_at = now
        for bucket, limit_field, remaining_field in _LEARNED:
            limit = small_number(fields.get(limit_field, b""))
            remaining = small_number(fields.get(remaining_field, b""))
            # A limit of nothing would never give again; that is what `retry-after` is for.
            if not limit or remaining is None:
                continue
            if not capacity.declares(bucket):
                lane.learn(bucket, limit, remaining, now)
            elif retry_after is not None:
                capacity.learn(bucket, limit, remaining, now)
        if lane.line.count:
            lane.line.wake()  # for how long it waits may be another time now
            self._run()

    # Changes and upkeep

    def apply(self, snapshot: Snapshot) -> None:
        """Go on under the limits of another snapshot, at once."""
        now = self._now()
        self.epoch += 1
        for lanes in (self._tenants, self._free):
            for tenant_id, lane in lanes.items():
                tenant = snapshot.tenants.get(tenant_id)
                if tenant is not None:
                    lane.apply(tenant.limits, now)
        for key_id, lane in self._keys.items():
            key = snapshot.keys.get(self._digests[key_id])
            if key is not None and key.limits is not None:
                lane.apply(key.limits, now)
        missed = False
        for shared in self._shared.values():
            missed = not _declare(shared, snapshot, now) or missed
        if missed:
            self._declare_all(snapshot, now)
        for lanes in (self._tenants, self._free, self._keys):
            for lane in lanes.values():
                if lane.line.count:
                    lane.line.wake()
        for shared in self._shared.values():
            for flow in shared.flows.values():
                tenant = snapshot.tenants.get(flow.name)
                if tenant is not None and tenant.limits.weight != flow.weight:
                    shared.reweigh(flow, tenant.limits.weight)
            shared.stir()
        self._run()

    def _declare_all(self, snapshot: Snapshot, now: float) -> None:
        """Some capacity's known user has left it: look for another one."""
        for tenant in snapshot.tenants.values():
            for credential in (tenant.credential, tenant.fallback):
                shared = self._shared.get(capacity_name(credential)) if credential is not None else None
                if shared is not None:
                    shared.tenant_id = tenant.tenant_id
                    _declare(shared, snapshot, now)

    def sweep(self) -> None:
        """Forget some of what is as if it had never been; each call looks at a part."""
        now, dropped = self._now(), False
        for _ in range(min(SWEEP_LANES, len(self._visits))):
            seen = self._visits.popleft()
            if self._forget(seen, now):
                dropped = True
            else:
                self._visits.append(seen)
        self.epoch += dropped

    def _forget(self, seen: Lane | Flow[Ask], now: float) -> bool:
        if isinstance(seen, Flow):
            tenant = self._tenants.get(seen.name) or self._free.get(seen.name)
            return tenant is None and seen.queue.forget(seen)
        seen.refill(now)
        if now - seen.used_at < FORGET_SECONDS or not seen.is_idle:
            return False
        if seen.scope is Scope.KEY:
            del self._keys[seen.name], self._digests[seen.name]
            return True
        self._told.pop(seen, None)
        lanes = self._tenants if self._tenants.get(seen.name) is seen else self._free
        del lanes[seen.name]
        return True

    def lane_of(self, tenant: Tenant) -> Lane:
        """The lane that a tenant's own rate-limit headers tell of."""
        return self._lane(self._tenants, tenant.tenant_id, tenant.limits, Scope.TENANT, self._now())

    def key_lane_of(self, key: GatewayKey) -> Lane | None:
        """The lane of a key that has limits of its own."""
        if key.limits is None:
            return None
        self._digests[key.key_id] = key.digest
        return self._lane(self._keys, key.key_id, key.limits, Scope.KEY, self._now())

    def standing(self) -> dict[str, dict[str, Any]]:
        """What each tenant that is not idle uses now."""
        now = self._now()
        found: dict[str, dict[str, Any]] = {}
        for lane in list(self._told):
            lane.refill(now)
            own, free = self._tenants.get(lane.name), self._free.get(lane.name)
            if lane.is_idle:
                lane.is_told = False
                del self._told[lane]
            elif own is not None or free is not None:
                found[lane.name] = _use(own or free or lane, free)
        return found

    def in_flight(self) -> int:
        """Sessions of every kind of lane; 0 when everything has been given back."""
        lanes = [*self._tenants.values(), *self._free.values(), *self._keys.values()]
        for shared in self._shared.values():
            lanes += shared.models.values()
            if shared.capacity is not None:
                lanes.append(shared.capacity)
        return sum(lane.sessions for lane in lanes)

    def waiting(self) -> int:
        """Requests in all queues."""
        return sum(shared.waiting for shared in self._shared.values())


def _may(way: Way, model: Capacity | None, input_tokens: int, now: float) -> bool:
    """Whether nothing at all is in the way, nor anyone before it: the whole decision for nearly every request."""
    for lane in way.lanes:
        if lane.line.count or not lane.may(input_tokens, now):
            return False
    return model is None or (not model.line.count and model.may(input_tokens, now))


def _longest(
    way: Way, model: Capacity | None, input_tokens: int, now: float, flow_ahead: int, sub_ahead: int
) -> Obstacle | None:
    """What is longest in the way: others of its tenant stand before it, or only those of its key and model."""
    found: Obstacle | None = None
    for lane in (*way.lanes, model):
        if lane is None:
            continue
        ahead = sub_ahead if lane.scope in (Scope.KEY, Scope.MODEL) else flow_ahead
        obstacle = lane.obstacle(input_tokens, now, ahead)
        if obstacle is not None and (found is None or obstacle.seconds > found.seconds):
            found = obstacle
    return found


def _has_room(shared: Shared, ask: Ask, now: float) -> bool:
    model = shared.models.get(ask.model)
    return (shared.capacity is None or shared.capacity.may(ask.input_tokens, now)) and (
        model is None or model.may(ask.input_tokens, now)
    )


def _declare(shared: Shared, snapshot: Snapshot, now: float) -> bool:
    """Bring a capacity up to what its known user's credential declares; False when that user has another one now."""
    capacity, tenant = shared.capacity, snapshot.tenants.get(shared.tenant_id)
    if capacity is None:
        return True
    for credential in (tenant.credential, tenant.fallback) if tenant is not None else ():
        if credential is not None and capacity_name(credential) == shared.name:
            capacity.apply(credential.upstream.capacity, now)
            shared.sessions_max = capacity.sessions_max
            return True
    return False


def _use(lane: Lane, free: Lane | None) -> dict[str, Any]:
    return {
        "sessions": lane.sessions + (free.sessions if free is not None and free is not lane else 0),
        "waiting": lane.waiting + (free.waiting if free is not None and free is not lane else 0),
        "requests_remaining": _remaining(lane, "requests"),
        "input_tokens_remaining": _remaining(lane, "input_tokens"),
        "output_tokens_remaining": _remaining(lane, "output_tokens"),
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
def undated(model: str) -> str:
    """Dated and undated ids are one model (reference 5.6)."""
    return model[:-9] if model[-9:-8] == "-" and model[-8:].isdigit() else model


def _remaining(lane: Lane, bucket: str) -> int | None:
    found = getattr(lane, bucket)
    return None if found is None else found.remaining()
