"""The lanes of this process, by tenant, key and capacity: how they are found, changed and forgotten (DESIGN 4.5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tenantry.domain.admission import BUCKETS, Lane, Scope
from tenantry.domain.asks import Ask, Shared, Way, capacity_name, undated
from tenantry.domain.directory import UNLIMITED, Change, Credential, GatewayKey, Tenant
from tenantry.domain.fair_queue import FairQueue
from tenantry.domain.flows import Flow
from tenantry.domain.limits import Limits
from tenantry.domain.numerals import small_number

# What an upstream says is read at most so often for each model; between answers our own count goes on.
LEARN_SECONDS: Final = 0.05
# So many models have a lane of their own at a capacity. A client may name any model; an upstream serves some ten.
MODELS_MAX: Final = 128
# So many things are looked at by one sweep at most, four times a second: some 100 us.
SWEEP_VISITS: Final = 64
# A lane that was not used for so long, and is full, is forgotten. Longer than any request may wait. Each thing is
# looked at once in that time: ten thousand tenants who rest cost thirty looks a second.
FORGET_SECONDS: Final = 900.0

_LEARNED: Final = (
    ("requests", b"anthropic-ratelimit-requests-limit", b"anthropic-ratelimit-requests-remaining"),
    ("input_tokens", b"anthropic-ratelimit-input-tokens-limit", b"anthropic-ratelimit-input-tokens-remaining"),
    ("output_tokens", b"anthropic-ratelimit-output-tokens-limit", b"anthropic-ratelimit-output-tokens-remaining"),
)


class Register:
    """All lanes and queues. A way that was found under another `generation` is to be found again."""

    __slots__ = (
        "_announcing",
        "_began",
        "_free",
        "_keys",
        "_tenants",
        "_told",
        "_visits",
        "_ways",
        "generation",
        "shared",
        "stirred",
    )

    def __init__(self) -> None:
        self.generation = 1
        self.stirred: list[FairQueue[Ask]] = []  # queues in which someone can be asked
        self.shared: dict[str, Shared] = {}
        self._tenants: dict[str, Lane] = {}
        self._free: dict[str, Lane] = {}
        self._keys: dict[str, Lane] = {}
        self._ways: dict[str, Way] = {}  # by key: the latest
        self._announcing: dict[str, None] = {}  # capacities of which an upstream has announced other limits
        self._told: dict[str, None] = {}  # tenants whose use is to be told anew
        self._visits: deque[tuple[float, Lane | Flow[Ask] | Shared]] = deque()  # what a sweep looks at, and when
        # Where another gateway granted before: from when on, seconds, by tenant and by capacity.
        self._began: dict[str, float] = {}

    # Finding

    def way(self, tenant: Tenant, key: GatewayKey, credential: Credential | None, now: float) -> Way:
        """The way of requests of that key; whoever keeps it has to look at its generation."""
        way = self._ways.get(key.key_id)
        if way is None or way.credential is not credential:
            way = self._ways[key.key_id] = self._find(tenant, key, credential, now)
        return way

    def _find(self, tenant: Tenant, key: GatewayKey, credential: Credential | None, now: float) -> Way:
        own = None
        if credential is None:
            lane = self.tenant_lane(tenant, False, now)
        else:
            lane = self.tenant_lane(tenant, True, now)
            own = self.key_lane_of(key, now)
        shared = self.shared_of(credential, now)
        shared.used_at = now
        flow = shared.flows.get(tenant.tenant_id)
        if flow is None:
            flow = shared.flow(tenant.tenant_id, tenant.limits.weight)
            self._visit_later(flow, now)
        return Way(self.generation, credential, lane, own, shared, flow)

    def shared_of(self, credential: Credential | None, now: float) -> Shared:
        """The capacity that a credential uses; None: that of free routes."""
        name = capacity_name(credential)
        shared = self.shared.get(name)
        if shared is None:
            capacity, is_shared = None, False
            if credential is not None:
                capacity = Lane(credential.upstream.capacity, now, Scope.UPSTREAM, name)
                self._begin(capacity, name, now)
                is_shared = credential.upstream.shares_capacity
            shared = self.shared[name] = Shared(name, self.stirred, capacity, is_shared, now)
            self._visit_later(shared, now)
        return shared

    def lane_of(self, tenant: Tenant, now: float) -> Lane:
        """The lane that a tenant's own rate-limit headers tell of."""
        return self.tenant_lane(tenant, True, now)

    def tenant_lane(self, tenant: Tenant, is_metered: bool, now: float) -> Lane:
        """The lane of a tenant's metered requests, or of its free ones."""
        lanes, name = self._tenants if is_metered else self._free, tenant.tenant_id
        return self._lane(lanes, name, tenant.limits, Scope.TENANT, now, name)

    def key_lane_of(self, key: GatewayKey, now: float) -> Lane | None:
        """The lane of a key that has limits of its own."""
        if key.limits is None:
            return None
        return self._lane(self._keys, key.lane_name, key.limits, Scope.KEY, now, key.tenant_id)

    def own_lanes(self, tenant: Tenant, key: GatewayKey, is_metered: bool, now: float) -> list[Lane]:
        """The lanes of a tenant and its key that metered requests go through, or free ones."""
        if not is_metered:
            return [self.tenant_lane(tenant, False, now)]
        own = self.key_lane_of(key, now)
        lane = self.lane_of(tenant, now)
        return [lane] if own is None else [lane, own]

    def _lane(
        self, lanes: dict[str, Lane], name: str, limits: Limits, scope: Scope, now: float, tenant_id: str
    ) -> Lane:
        lane = lanes.get(name)
        if lane is None:
            lane = lanes[name] = Lane(limits, now, scope, name)
            self._begin(lane, tenant_id, now)
            self._visit_later(lane, now)
        return lane

    # Where several gateways serve

    def begin_empty(
        self, rested: Mapping[str, float], pins: Mapping[str, str], keys: Iterable[GatewayKey], now: float
    ) -> None:
        """Others granted under these capacities, and for who is pinned to them, and may have used all there was.

        `rested`: for how many seconds nobody has. `keys`: those that there are, of which some are of these tenants.
        """
        began = {name: now - seconds for name, seconds in rested.items()}
        began |= {tenant_id: began[cell] for tenant_id, cell in pins.items() if cell in began}
        self._began = {name: at for name, at in self._began.items() if now - at < FORGET_SECONDS}
        self._began.update(began)
        for name in began:
            shared = self.shared.get(name)
            for lane in (
                self._tenants.get(name),
                self._free.get(name),
                shared.capacity if shared is not None else None,
            ):
                if lane is not None:
                    self._begin(lane, name, now)
        for key in keys:
            lane = self._keys.get(key.lane_name) if key.tenant_id in began else None
            if lane is not None:
                self._begin(lane, key.tenant_id, now)

    def _begin(self, lane: Lane, name: str, now: float) -> None:
        since = self._began.get(name) if self._began else None
        if since is not None:
            for bucket in (lane.requests, lane.input_tokens, lane.output_tokens):
                if bucket is not None:
                    bucket.begin(since, now)

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
                if lane.learn(bucket, limit, remaining, now):
                    lane.is_logged = False
                    self._announcing[shared.name] = None
            elif retry_after is not None:
                capacity.learn(bucket, limit, remaining, now)
        return lane

    # Changes

    def apply(self, change: Change, now: float) -> None:
        """Go on under the limits of another snapshot. Those who wait for what has changed are asked again."""
        self.begin_generation()
        snapshot = change.snapshot
        for tenant_id in snapshot.tenants if change.tenants is None else change.tenants:
            tenant = snapshot.tenants.get(tenant_id)
            if tenant is not None:
                self._limit_tenant(tenant, now)
        for digest in snapshot.keys if change.keys is None else change.keys:
            key = snapshot.keys.get(digest)
            lane = self._keys.get(key.lane_name) if key is not None else None
            if key is not None and lane is not None:
                _limit(lane, key.limits or lane.limits, now)

    def _limit_tenant(self, tenant: Tenant, now: float) -> None:
        """A capacity that is declared anew comes with every tenant that draws on it, for each holds its credentials."""
        name, weight = tenant.tenant_id, tenant.limits.weight
        for lanes in (self._tenants, self._free):
            lane = lanes.get(name)
            if lane is not None:
                _limit(lane, tenant.limits, now)
        for credential in (None, tenant.credential, tenant.fallback):
            shared = self.shared.get(capacity_name(credential))
            if shared is None:
                continue
            if credential is not None:
                self._declare(shared, credential, now)
            flow = shared.flows.get(name)
            if flow is not None and flow.weight != weight:
                shared.reweigh(flow, weight)
            if shared.waiting:
                shared.stir()

    def _declare(self, shared: Shared, credential: Credential, now: float) -> None:
        """Bring a capacity up to what a credential that draws on it declares."""
        capacity, upstream = shared.capacity, credential.upstream
        if capacity is None or (capacity.limits is upstream.capacity and shared.is_shared is upstream.shares_capacity):
            return
        capacity.apply(upstream.capacity, now)
        for lane in shared.models.values():
            # What is declared now is obeyed as it is declared: what was told of it before does not go on beside it.
            gone = [bucket for bucket in BUCKETS if capacity.declares(bucket) and lane.unlearn(bucket)]
            if gone:
                self._announcing[shared.name] = None
                if lane.line.count:
                    lane.line.wake()
        shared.resize(capacity.sessions_max, upstream.shares_capacity)

    def begin_generation(self) -> None:
        """Ways are to be found again."""
        self.generation += 1
        self._ways.clear()

    # Upkeep

    def sweep(self, now: float) -> None:
        """Forget some of what is as if it had never been, of what was not looked at for long; its cost is bounded."""
        visits, dropped = self._visits, False
        for _ in range(SWEEP_VISITS):
            if not visits or visits[0][0] > now:
                break
            seen = visits.popleft()[1]
            if self._forget(seen, now):
                dropped = True
            else:
                self._visit_later(seen, now)
        if dropped:
            self.begin_generation()

    def _visit_later(self, seen: Lane | Flow[Ask] | Shared, now: float) -> None:
        self._visits.append((now + FORGET_SECONDS, seen))

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
            del self._keys[seen.name]
            return True
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
        self._told[lane.name] = None

    def tell_again(self, tenant_id: str) -> None:
        """What is told of a tenant has become another, though it asks for nothing."""
        self._told[tenant_id] = None

    def take_told(self) -> list[str]:
        """The tenants whose use is to be told; those that are still in use then are put back by `told_of`."""
        told, self._told = list(self._told), {}
        return told

    def take_announced(self) -> dict[str, dict[str, dict[str, int]]]:
        """The limits that upstreams announce, by capacity and model: of the capacities where they became others."""
        names, self._announcing = self._announcing, {}
        return {
            name: {model: found for model, lane in shared.models.items() if (found := lane.announced())}
            for name in names
            if (shared := self.shared.get(name)) is not None
        }

    def told_of(self, tenant_id: str) -> tuple[Lane | None, Lane | None]:
        """The lanes of a tenant's metered and free requests, to be told now."""
        found = self._tenants.get(tenant_id), self._free.get(tenant_id)
        for lane in found:
            if lane is not None:
                lane.is_told = lane.is_in_use
                if lane.is_told:
                    self._told[tenant_id] = None
        return found

    def own(self) -> Iterator[tuple[str, Lane]]:
        """The lanes of tenants and keys: `tenant`, `free` or `key`, and the lane, which has the name of its owner."""
        for kind, lanes in (("tenant", self._tenants), ("free", self._free), ("key", self._keys)):
            for lane in lanes.values():
                yield kind, lane

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


def _limit(lane: Lane, limits: Limits, now: float) -> None:
    lane.apply(limits, now)
    if lane.line.count:
        lane.line.wake()
