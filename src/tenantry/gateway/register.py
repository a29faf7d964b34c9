"""The lanes of this process, by tenant, key and capacity: how they are found, changed and forgotten (DESIGN 4.5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenantry.domain.admission import Lane, Scope
from tenantry.domain.directory import UNLIMITED, Credential, GatewayKey, Snapshot, Tenant
from tenantry.domain.fair_queue import FairQueue
from tenantry.domain.flows import Flow
from tenantry.domain.limits import Limits
from tenantry.gateway.asks import Ask, Shared, Way, capacity_name, undated
from tenantry.wire.http1 import small_number

# What an upstream says is read at most so often for each model; between answers our own count goes on.
LEARN_SECONDS: Final = 0.05
# So many models have a lane of their own at a capacity. A client may name any model; an upstream serves some ten.
MODELS_MAX: Final = 128
# So many things are looked at by one sweep, four times a second: some 30 us, and ten thousand tenants in 40 s.
SWEEP_VISITS: Final = 64
# A lane that was not used for so long, and is full, is forgotten. Longer than any request may wait.
FORGET_SECONDS: Final = 900.0

_LEARNED: Final = (
    ("requests", b"anthropic-ratelimit-requests-limit", b"anthropic-ratelimit-requests-remaining"),
    ("input_tokens", b"anthropic-ratelimit-input-tokens-limit", b"anthropic-ratelimit-input-tokens-remaining"),
    ("output_tokens", b"anthropic-ratelimit-output-tokens-limit", b"anthropic-ratelimit-output-tokens-remaining"),
)


class Register:
    """All lanes and queues. A way that was found under another `epoch` is to be found again."""

    __slots__ = (
        "_digests",
        "_free",
        "_keys",
        "_tenants",
        "_told",
        "_visits",
        "_ways",
        "epoch",
        "shared",
        "stirred",
    )

    def __init__(self) -> None:
        self.epoch = 1
        self.stirred: list[FairQueue[Ask]] = []  # queues in which someone can be asked
        self.shared: dict[str, Shared] = {}
        self._tenants: dict[str, Lane] = {}
        self._free: dict[str, Lane] = {}
        self._keys: dict[str, Lane] = {}
        self._digests: dict[str, bytes] = {}  # of the keys that have a lane
        self._ways: dict[str, Way] = {}  # by key: the latest
        self._told: dict[Lane, None] = {}  # tenants' lanes that are not known to be at rest
        self._visits: deque[Lane | Flow[Ask] | Shared] = deque()  # what a sweep looks at next

    # Finding

    def way(self, tenant: Tenant, key: GatewayKey, credential: Credential | None, now: float) -> Way:
        """The way of requests of that key; whoever keeps it has to look at its epoch."""
        way = self._ways.get(key.key_id)
        if way is None or way.credential is not credential:
            way = self._ways[key.key_id] = self._find(tenant, key, credential, now)
        return way

    def _find(self, tenant: Tenant, key: GatewayKey, credential: Credential | None, now: float) -> Way:
        own = None
        if credential is None:
            lane = self._lane(self._free, tenant.tenant_id, tenant.limits, Scope.TENANT, now)
        else:
            lane = self._lane(self._tenants, tenant.tenant_id, tenant.limits, Scope.TENANT, now)
            if key.limits is not None:
                own = self._lane(self._keys, key.key_id, key.limits, Scope.KEY, now)
                self._digests[key.key_id] = key.digest
        shared = self.shared_of(credential, now)
        shared.tenant_id, shared.used_at = tenant.tenant_id, now
        flow = shared.flows.get(tenant.tenant_id)
        if flow is None:
            flow = shared.flow(tenant.tenant_id, tenant.limits.weight)
            self._visits.append(flow)
        return Way(self.epoch, credential, lane, own, shared, flow)

    def shared_of(self, credential: Credential | None, now: float) -> Shared:
        """The capacity that a credential uses; None: that of free routes."""
        name = capacity_name(credential)
        shared = self.shared.get(name)
        if shared is None:
            capacity, is_shared = None, False
            if credential is not None:
                capacity = Lane(credential.upstream.capacity, now, Scope.UPSTREAM, name)
                is_shared = credential.upstream.shares_capacity
            shared = self.shared[name] = Shared(name, self.stirred, capacity, is_shared, now)
            self._visits.append(shared)
        return shared

    def lane_of(self, tenant: Tenant, now: float) -> Lane:
        """The lane that a tenant's own rate-limit headers tell of."""
        return self._lane(self._tenants, tenant.tenant_id, tenant.limits, Scope.TENANT, now)

    def key_lane_of(self, key: GatewayKey, now: float) -> Lane | None:
        """The lane of a key that has limits of its own."""
        if key.limits is None:
            return None
        self._digests[key.key_id] = key.digest
        return self._lane(self._keys, key.key_id, key.limits, Scope.KEY, now)

    def own_lanes(self, tenant: Tenant, key: GatewayKey, is_metered: bool, now: float) -> list[Lane]:
        """The lanes of a tenant and its key that metered requests go through, or free ones."""
        if not is_metered:
            return [self._lane(self._free, tenant.tenant_id, tenant.limits, Scope.TENANT, now)]
        own = self.key_lane_of(key, now)
        lane = self.lane_of(tenant, now)
        return [lane] if own is None else [lane, own]

    def _lane(self, lanes: dict[str, Lane], name: str, limits: Limits, scope: Scope, now: float) -> Lane:
        lane = lanes.get(name)
        if lane is None:
            lane = lanes[name] = Lane(limits, now, scope, name)
            self._visits.append(lane)
        return lane

    # What an upstream says

    def learn(
        self, credential: Credential, model: str, fields: Mapping[bytes, bytes], retry_after: float | None, now: float
    ) -> Lane | None:
        """Read an answer's rate-limit fields; the model's lane, when something was learned.

        A limit that is declared for the capacity is obeyed as declared: what is told of it counts after a refusal
        only, and only lowers what is left.
        """
        shared = self.shared_of(credential, now)
        capacity, name = shared.capacity, undated(model)
        lane = shared.models.get(name)
        if lane is None:
            if retry_after is None and b"anthropic-ratelimit-requests-limit" not in fields:
                return None
            if len(shared.models) >= MODELS_MAX and not _drop_model(shared, now):
                return None
            lane = shared.models[name] = Lane(UNLIMITED, now, Scope.MODEL, f"{shared.name} {name}")
        if retry_after is not None:
            lane.close_until(now + retry_after)
        elif now - lane.learned_at < LEARN_SECONDS:
            return None
        lane.learned_at = now
        for bucket, limit_field, remaining_field in _LEARNED:
            limit = small_number(fields.get(limit_field, b""))
            remaining = small_number(fields.get(remaining_field, b""))
            # A limit of nothing would never give again; that is what `retry-after` is for.
            if not limit or remaining is None:
                continue
            if capacity is None or not capacity.declares(bucket):
                lane.learn(bucket, limit, remaining, now)
            elif retry_after is not None:
                capacity.learn(bucket, limit, remaining, now)
        return lane

    # Changes

    def apply(self, snapshot: Snapshot, now: float) -> None:
        """Go on under the limits of another snapshot. Those who wait are asked again."""
        self.new_epoch()
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
        for shared in self.shared.values():
            missed = not _declare(shared, snapshot, now) or missed
        if missed:
            self._declare_all(snapshot, now)
        for shared in self.shared.values():
            for flow in shared.flows.values():
                tenant = snapshot.tenants.get(flow.name)
                if tenant is not None and tenant.limits.weight != flow.weight:
                    shared.reweigh(flow, tenant.limits.weight)
            shared.stir()
        for lanes in (self._tenants, self._free, self._keys):
            for lane in lanes.values():
                if lane.line.count:
                    lane.line.wake()

    def _declare_all(self, snapshot: Snapshot, now: float) -> None:
        """Some capacity's known user has left it: look for another one."""
        for tenant in snapshot.tenants.values():
            for credential in (tenant.credential, tenant.fallback):
                shared = self.shared.get(capacity_name(credential)) if credential is not None else None
                if shared is not None:
                    shared.tenant_id = tenant.tenant_id
                    _declare(shared, snapshot, now)

    def new_epoch(self) -> None:
        """Ways are to be found again."""
        self.epoch += 1
        self._ways.clear()

    # Upkeep

    def sweep(self, now: float) -> None:
        """Forget some of what is as if it had never been; each call looks at a part, at a bounded cost."""
        dropped = False
        for _ in range(min(SWEEP_VISITS, len(self._visits))):
            seen = self._visits.popleft()
            if self._forget(seen, now):
                dropped = True
            else:
                self._visits.append(seen)
        if dropped:
            self.new_epoch()

    def _forget(self, seen: Lane | Flow[Ask] | Shared, now: float) -> bool:
        if isinstance(seen, Flow):
            is_known = seen.name in self._tenants or seen.name in self._free
            return not is_known and seen.queue.forget(seen)
        if isinstance(seen, Shared):
            return self._forget_shared(seen, now)
        if now - seen.used_at < FORGET_SECONDS:
            return False
        seen.refill(now)
        if not seen.is_idle:
            return False
        if seen.scope is Scope.KEY:
            del self._keys[seen.name], self._digests[seen.name]
            return True
        self._told.pop(seen, None)
        lanes = self._tenants if self._tenants.get(seen.name) is seen else self._free
        del lanes[seen.name]
        return True

    def _forget_shared(self, shared: Shared, now: float) -> bool:
        for name, lane in tuple(shared.models.items()):
            if now - max(lane.used_at, lane.learned_at) >= FORGET_SECONDS and _is_forgettable(lane, now):
                del shared.models[name]
        capacity = shared.capacity
        if capacity is None or shared.flows or shared.models or now - shared.used_at < FORGET_SECONDS:
            return False
        if not _is_forgettable(capacity, now):
            return False
        del self.shared[shared.name]
        return True

    # Telling

    def tell(self, lane: Lane) -> None:
        """A tenant's lane is in use."""
        lane.is_told = True
        self._told[lane] = None

    def standing(self, now: float) -> dict[str, dict[str, Any]]:
        """What each tenant that is not idle uses now."""
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

    def lanes(self) -> Iterator[Lane]:
        """Every lane."""
        for lanes in (self._tenants, self._free, self._keys):
            yield from lanes.values()
        for shared in self.shared.values():
            yield from shared.models.values()
            if shared.capacity is not None:
                yield shared.capacity


def _is_forgettable(lane: Lane, now: float) -> bool:
    lane.refill(now)
    return lane.is_idle and now >= lane.closed_until


def _drop_model(shared: Shared, now: float) -> bool:
    """Make place for another model: the first that is as if nothing had been said of it, or else one that is at rest.

    Where all are in use, nothing more is learned.
    """
    found = None
    for name, lane in shared.models.items():
        if lane.sessions or lane.line.count or now < lane.closed_until:
            continue
        found = name
        break
    if found is None:
        return False
    del shared.models[found]
    return True


def _declare(shared: Shared, snapshot: Snapshot, now: float) -> bool:
    """Bring a capacity up to what its known user's credential declares; False when that user has another one now."""
    capacity, tenant = shared.capacity, snapshot.tenants.get(shared.tenant_id)
    if capacity is None:
        return True
    for credential in (tenant.credential, tenant.fallback) if tenant is not None else ():
        if credential is not None and capacity_name(credential) == shared.name:
            capacity.apply(credential.upstream.capacity, now)
            shared.resize(capacity.sessions_max, credential.upstream.shares_capacity)
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


def _remaining(lane: Lane, bucket: str) -> int | None:
    found = getattr(lane, bucket)
    return None if found is None else found.remaining()
