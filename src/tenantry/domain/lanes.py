"""Lanes: who may go upstream now, who waits, and whose turn it is (DESIGN 4.5).

The decisions are those of `domain/admission` and `domain/fair_queue`; the lanes stand in `domain/register`, times in
`domain/alarm`. Everything that can free something ends in `_run`: the queues that it stirred are served, then those
whose turn has come are told.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from tenantry.domain.admission import Grant, Lane, Obstacle, Scope
from tenantry.domain.alarm import Alarm
from tenantry.domain.asks import Ask, Shared, Way, undated
from tenantry.domain.directory import Change, Credential, GatewayKey, Tenant
from tenantry.domain.flows import Flow, Sub
from tenantry.domain.limits import Limits
from tenantry.domain.lines import Line
from tenantry.domain.register import Register
from tenantry.domain.timers import CallLater

# What is told of a wait for a session when nothing is known of how long sessions last, seconds.
SESSION_GUESS_SECONDS = 1.0
# So many requests are offered a turn, and so many are told that they have one, before the event loop does other things:
# some 5 ms each (an offer takes 20 us, an attempt that begins 150 us). The rest goes on in the loop's next round.
OFFERS_MAX = 256
TOLD_MAX = 32

# While a large body comes time passes; what is in its way for less than that may be gone by then.
BODY_WAIT_MS_MIN = 1000

log = logging.getLogger("tenantry.gateway")


class Lanes:
    """All lanes and queues of this process. `now` and `call_later` are the event loop's, in seconds."""

    __slots__ = (
        "_alarm",
        "_call_later",
        "_goes_on",
        "_granted",
        "_is_delivering",
        "_now",
        "_shared_lines",
        "_waits",
        "register",
    )

    def __init__(self, now: Callable[[], float], call_later: CallLater) -> None:
        self.register = Register()
        self._now = now
        self._call_later = call_later
        self._goes_on = False  # there is more to do than one round of the loop has time for
        self._waits = 0  # in all queues
        self._granted: deque[Ask] = deque()
        self._is_delivering = False
        self._alarm = Alarm(now, call_later, self._wake, self._run)
        self._shared_lines: dict[Line, Shared] = {}  # that the alarm is to wake

    # Asking

    def resolve(self, tenant: Tenant, key: GatewayKey, credential: Credential | None) -> Way:
        """The way of requests of that key; a connection may keep it."""
        return self.register.way(tenant, key, credential, self._now())

    def ask(self, ask: Ask) -> Grant | Obstacle | None:
        """A grant now, what is in the way of one for longer than the tenant may wait, or None: it waits."""
        now, register = self._now(), self.register
        way = ask.way
        if way is None or way.generation != register.generation:
            way = ask.way = register.way(ask.tenant, ask.key, ask.credential, now)
        shared, lanes, model = way.shared, way.lanes, None
        if shared.models:
            model = shared.lane_of(ask.model)
            if model is not None:
                lanes = (*lanes, model)
        capacity = shared.capacity
        if (
            (not self._waits or not _is_anyone_before(way, model))
            and (
                capacity is None or capacity.sessions < shared.ample or shared.leaves_room(way.flow, capacity.sessions)
            )
            and ask.take(lanes, now)
        ):
            if not way.tenant.is_told:
                register.tell(way.tenant)
            shared.take(way.flow)
            return ask
        return self._wait(ask, way, model, now)

    def _wait(self, ask: Ask, way: Way, model: Lane | None, now: float) -> Grant | Obstacle | None:
        limits, flow = ask.tenant.limits, way.flow
        obstacle = _longest(ask, way, model, now)
        if obstacle is not None and obstacle.announced is not None and model is not None:
            _log_announced(ask, model, obstacle)
        if obstacle is not None and (flow.waiting >= limits.queue_depth_max or _is_hopeless(obstacle, limits)):
            return obstacle
        if flow.weight != limits.weight:
            way.shared.reweigh(flow, limits.weight)
        ask.queue = way.shared
        way.tenant.waiting += 1
        self._waits += 1
        if not way.tenant.is_told:
            self.register.tell(way.tenant)
        ask.sub = way.shared.push(flow, undated(ask.model), ask.key.lane_name, ask.input_tokens, ask)
        # Still new while the others are told: what they give back may be its turn, which it hears of here.
        self._run()
        ask.is_new = False
        if ask.is_open:
            return ask
        if flow.waiting > limits.queue_depth_max or limits.queue_wait_ms_max == 0:
            return self.leave(ask)  # it was not its turn, and it may not wait
        return None

    def adopt(self, ask: Ask, begun_at: float) -> None:
        """Give an ask the sessions that it has at another gateway, whatever the limits say; no bucket is touched."""
        register, now = self.register, self._now()
        way = ask.way = register.way(ask.tenant, ask.key, ask.credential, now)
        model = way.shared.models.get(ask.model)
        ask.lanes = way.lanes if model is None else (*way.lanes, model)
        for lane in ask.lanes:
            lane.sessions += 1
            lane.used_at = now
        ask.begun_at, ask.is_open = begun_at, True
        way.shared.take(way.flow)
        if not way.tenant.is_told:
            register.tell(way.tenant)

    def leave(self, ask: Ask) -> Obstacle:
        """Take a request that waits out of its queue; what is still in its way."""
        queue, ask.queue = ask.queue, None
        way = self._way(ask)
        if queue is not None and ask.sub is not None:
            queue.remove(ask.sub, ask)
            self._is_out(ask, way)
        elif queue is not None and ask.is_open:
            self.release(ask)  # it had its turn and was not told yet
        self._run()
        # Where nothing is in the way any more, it lost its turn to another or, by a hair, to a timer.
        found = _longest(ask, way, way.shared.lane_of(ask.model), self._now())
        return found or Obstacle("sessions_max", SESSION_GUESS_SECONDS)

    def _is_out(self, ask: Ask, way: Way) -> None:
        ask.sub = None
        way.tenant.waiting -= 1
        self._waits -= 1

    def hopeless(self, tenant: Tenant, key: GatewayKey, input_tokens: int, is_metered: bool) -> Obstacle | None:
        """What is in the way of a request of that key for longer than it may wait. When a session ends is a guess."""
        now, wait_ms = self._now(), max(tenant.limits.queue_wait_ms_max, BODY_WAIT_MS_MIN)
        for lane in self.register.own_lanes(tenant, key, is_metered, now):
            found = lane.obstacle(input_tokens, now)
            if found is not None and found.limit != "sessions_max" and found.seconds * 1000 > wait_ms:
                return found
        return None

    def charge(self, tenant: Tenant, key: GatewayKey, is_metered: bool) -> None:
        """Count a request that was refused before it was asked for, and cost the gateway as much as others."""
        now = self._now()
        for lane in self.register.own_lanes(tenant, key, is_metered, now):
            lane.charge(now)

    # What comes back

    def release(self, ask: Ask) -> bool:
        """Give the sessions of a granted request back; whoever waits for them is served. False the second time."""
        way = ask.way
        if way is None or not ask.release(self._now()):
            return False
        if self._waits:
            _wake(ask.lanes)
        way.shared.give(way.flow)
        if self.register.stirred:
            self._run()
        return True

    def settled(self, ask: Ask, input_tokens: int, output_tokens: int) -> None:
        """What a granted request has used is known: input that counts, and output, in tokens.

        Whoever waits for what comes back is served.
        """
        for lane in ask.lanes:
            if lane.counts_tokens:
                if ask.settle(input_tokens, output_tokens) and self._waits:
                    self._came_back(ask)
                return
        ask.input_tokens, ask.output_tokens = input_tokens, output_tokens

    def correct_input(self, ask: Ask, tokens: int) -> None:
        """The input of a granted request that counts is known."""
        self.settled(ask, tokens, ask.output_tokens)

    def produced(self, ask: Ask, tokens: int) -> None:
        """A granted request has produced so many output tokens in all, as far as is known."""
        self.settled(ask, ask.input_tokens, tokens)

    def _came_back(self, ask: Ask) -> None:
        _wake(ask.lanes)
        if ask.way is not None and ask.way.shared.is_contended:
            ask.way.shared.stir()
        self._run()

    # Another credential

    def may_move(self, ask: Ask, credential: Credential) -> bool:
        """Whether `move` would succeed; nothing is taken."""
        if not ask.is_open:
            return False
        return _has_room(self.resolve(ask.tenant, ask.key, credential).shared, ask, self._now())

    def move(self, ask: Ask, credential: Credential) -> bool:
        """Go on with a granted request under another credential, unless that one has no room for it now."""
        left, now = ask.way, self._now()
        if left is None or not ask.is_open:
            return False
        way, lanes = self.resolve(ask.tenant, ask.key, credential), ask.lanes
        model = way.shared.lane_of(ask.model)
        if not ask.move(tuple(lane for lane in (way.shared.capacity, model) if lane is not None), now):
            return False
        ask.way, ask.credential = way, credential
        way.shared.take(way.flow)
        _wake([lane for lane in lanes if lane.is_shared])
        left.shared.give(left.flow)
        self._run()
        return True

    # Turns

    def _way(self, ask: Ask) -> Way:
        way = ask.way
        if way is None or way.generation != self.register.generation:
            way = ask.way = self.resolve(ask.tenant, ask.key, ask.credential)
        return way

    def _offer(self, ask: Ask, sub: Sub[Ask]) -> Line | None:
        """Grant it, or say in whose line it stands: its own limits first, so that it holds nobody else up."""
        way, now, flow = self._way(ask), self._now(), sub.branch.flow
        shared = way.shared
        model = shared.lane_of(ask.model)
        if way.tenant.line.is_closed_to(flow):
            return way.tenant.line
        if way.key is not None and way.key.line.is_closed_to(sub):
            return way.key.line
        if model is not None and model.line.is_closed_to(sub.branch, not shared.is_below(flow), flow.tag):
            return model.line
        lanes = way.lanes if model is None else (*way.lanes, model)
        has_room = shared.capacity is None or shared.leaves_room(flow, shared.capacity.sessions)
        if not has_room or not ask.take(lanes, now):
            return self._refused(ask, way, model, now)
        if not way.tenant.is_told:
            self.register.tell(way.tenant)
        self._is_out(ask, way)
        if ask.is_new:
            ask.queue = None
        else:
            self._granted.append(ask)
        return None

    def _refused(self, ask: Ask, way: Way, model: Lane | None, now: float) -> Line:
        shared = way.shared
        for lane in (way.tenant, way.key, model, shared.capacity):
            obstacle = lane.obstacle(ask.input_tokens, now) if lane is not None else None
            if lane is None or obstacle is None:
                continue
            if obstacle.limit != "sessions_max":
                self._alarm.set(lane.line, now + obstacle.seconds)
                if lane is shared.capacity:
                    self._shared_lines[lane.line] = shared
            return shared.line if lane is shared.capacity else lane.line
        return shared.line  # what is left is kept for others

    def _wake(self, line: Line) -> None:
        """The time of a line has come. That of a capacity has none in it: its whole queue is asked."""
        shared = self._shared_lines.pop(line, None)
        if shared is not None:
            shared.stir()
        else:
            line.wake()

    def _run(self) -> None:
        """Serve what was stirred, in that order, and tell those whose turn has come.

        What they do may grant more: the outermost call goes on with that.
        """
        if self._goes_on:
            return
        stirred = self.register.stirred
        served, left = 0, OFFERS_MAX
        while served < len(stirred):
            left = stirred[served].serve(self._offer, left)
            if left <= 0:
                self._go_on_later()
                break
            served += 1
        del stirred[:served]
        if self._waits:
            self._alarm.arm()
        else:
            self._alarm.clear()
            self._shared_lines.clear()
        if self._granted and not self._is_delivering:
            self._deliver()

    def _go_on_later(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            self._call_later(0.0, self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        self._run()

    def _deliver(self) -> None:
        self._is_delivering = True
        left = TOLD_MAX
        try:
            while self._granted:
                if left <= 0:
                    self._go_on_later()
                    break
                left -= 1
                ask = self._granted.popleft()
                if ask.queue is None or not ask.is_open:
                    continue  # it left, or was given back, before it was told
                ask.queue = None
                try:
                    ask.on_grant(ask)
                except Exception:  # one request's fault must not cost the others their turns
                    log.exception("a request failed when its turn came")
        finally:
            self._is_delivering = False

    # What an upstream says, what the directory says

    def learn(
        self, credential: Credential, model: str, fields: Mapping[bytes, bytes], retry_after: float | None
    ) -> None:
        """Read an answer's rate-limit fields; `retry_after` is set when it asked for a pause, in seconds."""
        lane = self.register.learn(credential, model, fields, retry_after, self._now())
        if lane is not None and lane.line.count:
            lane.line.wake()  # for how long it waits may be another time now
            self._run()

    def apply(self, change: Change) -> None:
        """Go on under the limits of another snapshot, at once."""
        self.register.apply(change, self._now())
        self._run()

    def sweep(self) -> None:
        """Forget some of what is as if it had never been. To be called at every tick: its cost is bounded."""
        self.register.sweep(self._now())
        if self.register.stirred:
            self._run()

    def lane_of(self, tenant: Tenant) -> Lane:
        """The lane that a tenant's own rate-limit headers tell of."""
        return self.register.lane_of(tenant, self._now())

    def key_lane_of(self, key: GatewayKey) -> Lane | None:
        """The lane of a key that has limits of its own."""
        return self.register.key_lane_of(key, self._now())

    def in_flight(self) -> int:
        """Sessions of every kind of lane; 0 when everything has been given back."""
        return sum(lane.sessions for lane in self.register.lanes())

    def waiting(self) -> int:
        """Requests in all queues."""
        return sum(shared.waiting for shared in self.register.shared.values())


def _wake(lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        if lane.line.count:
            lane.line.wake()


def _is_anyone_before(way: Way, model: Lane | None) -> bool:
    """Whether others wait for what a request wants that comes now."""
    if way.flow.waiting or way.shared.is_contended:
        return True
    for lane in way.lanes:
        if lane.line.count:
            return True
    return model is not None and model.line.count > 0


def _longest(ask: Ask, way: Way, model: Lane | None, now: float) -> Obstacle | None:
    """What is longest in the way. Others stand before it that the same limits hold back, and not those of others."""
    found: Obstacle | None = None
    flow: Flow[Ask] = way.flow
    flow_ahead = max(0, flow.waiting - flow.parked)
    sub_ahead = flow.depth(undated(ask.model), ask.key.lane_name)
    for lane in (*way.lanes, model):
        if lane is None:
            continue
        ahead = sub_ahead if lane.scope in (Scope.KEY, Scope.MODEL) else flow_ahead
        obstacle = lane.obstacle(ask.input_tokens, now, ahead)
        if obstacle is not None and (found is None or obstacle.seconds > found.seconds):
            found = obstacle
    capacity = way.shared.capacity
    if found is None and capacity is not None and not way.shared.leaves_room(flow, capacity.sessions):
        return Obstacle("sessions_max", SESSION_GUESS_SECONDS, Scope.UPSTREAM)
    return found


def _log_announced(ask: Ask, model: Lane, obstacle: Obstacle) -> None:
    """Once for each number that an upstream announces to a credential: nobody declared it, and it holds requests up."""
    if model.is_logged or ask.credential is None:
        return
    model.is_logged = True
    log.warning(
        "upstream %s announces %s = %d to credential %s for %s, and requests wait for it; a capacity that is declared"
        " for the upstream is obeyed instead",
        ask.credential.upstream.name,
        obstacle.limit,
        obstacle.announced,
        ask.credential.name,
        ask.model,
    )


def _has_room(shared: Shared, ask: Ask, now: float) -> bool:
    model = shared.lane_of(ask.model)
    tokens = ask.input_tokens
    return (shared.capacity is None or shared.capacity.obstacle(tokens, now) is None) and (
        model is None or model.obstacle(tokens, now) is None
    )


def _is_hopeless(obstacle: Obstacle, limits: Limits) -> bool:
    """Whether no wait that is allowed can help. When a session ends is a guess, so that is waited for."""
    return limits.queue_wait_ms_max == 0 or (
        obstacle.limit != "sessions_max" and obstacle.seconds * 1000 > limits.queue_wait_ms_max
    )
