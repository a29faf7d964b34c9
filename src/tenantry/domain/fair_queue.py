"""Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): who is next when a capacity is shared.

Each flow (a tenant) has a tag, the virtual time at which its next item starts; the lowest tag is next, and an item
moves its flow's tag on by cost / weight. A flow that holds its share of the sessions already comes after all that do
not. Inside a flow there is a branch for each model, and in that a sub-queue for each key; they take turns, and each
keeps its order.

What some limit holds back is not among those that are asked: it stands in that limit's `Line`, and is woken when there
is a reason to (`flows.py`). So asking, giving back and leaving cost the same whoever else waits: a heap's O(log n).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final, TypeVar

from tenantry.domain.flows import Branch, Flow, Sub, Turns, let_pass, look_again
from tenantry.domain.lines import STALE_ENTRIES_MAX, Level, Line

T = TypeVar("T")

# The least that a request counts for, in the unit of the costs (tokens): small requests cost an upstream a turn too.
QUANTUM: Final = 500
# One part in so many of the sessions is kept free of flows that hold one and a half times their share; of those that
# hold less above it, as much less. Sessions come back when answers end, some after minutes, so a newcomer would wait
# for longer than it may. Capacities of fewer sessions keep nothing free.
RESERVE_DIVISOR: Final = 10


class FairQueue(Turns[T]):
    """Items by flow, for one capacity of `sessions_max` sessions. Items are told apart by hash and equality.

    `stirred` is a list for several queues: a queue in which someone can be asked puts itself there, once, and the
    owner of the list calls `serve`, and takes it out.
    """

    __slots__ = (
        "_above",
        "_below",
        "_is_stirred",
        "_now",
        "_stamp",
        "_stirred",
        "_weight",
        "ample",
        "flows",
        "is_contended",
        "is_shared",
        "line",
        "offers",
        "sessions_max",
        "waiting",
    )

    def __init__(self, stirred: list[FairQueue[T]], sessions_max: float = math.inf, is_shared: bool = False) -> None:
        self.sessions_max = sessions_max
        self.is_shared = is_shared  # declared to be for several flows
        self.ample = math.inf  # with so many sessions taken, not every flow may have one more
        self.flows: dict[str, Flow[T]] = {}
        self.waiting = 0
        self.line = Line()  # what `offer` answers when the whole capacity is used up
        self.is_contended = False  # someone waits for the capacity itself
        self.offers = 0  # how often an item was offered: what a turn costs
        self._stirred = stirred
        self._is_stirred = False
        self._weight = 0  # of the flows that hold or want something
        self._now = 0.0  # virtual time: the tag of the latest that was served
        self._stamp = 0
        self._below: list[tuple[float, int, Flow[T]]] = []  # by tag
        self._above: list[tuple[float, int, Flow[T]]] = []  # by sessions held, for their weight
        self._set_reserve()

    def flow(self, name: str, weight: int) -> Flow[T]:
        """The flow of that name."""
        flow = self.flows.get(name)
        if flow is None:
            flow = self.flows[name] = Flow(self, name, weight)
            self._set_reserve()
        return flow

    def resize(self, sessions_max: float, is_shared: bool) -> None:
        """From here on the capacity is another."""
        self.sessions_max, self.is_shared = sessions_max, is_shared
        self._set_reserve()
        self.stir()

    def reweigh(self, flow: Flow[T], weight: int) -> None:
        """From here on the flow has another weight."""
        if flow.held or flow.waiting:
            self._weight += weight - flow.weight
        flow.weight = weight
        if flow.stamp:
            self._enter(flow)
        if self.is_contended:
            self.stir()  # the shares of all are others

    def forget(self, flow: Flow[T]) -> bool:
        """Drop a flow that means nothing any more; False when it does: its tag may lie ahead of who waits."""
        if flow.held or flow.waiting or (self.waiting and flow.tag > self._now):
            return False
        del self.flows[flow.name]
        self._set_reserve()
        if self.is_contended:
            self.stir()  # nothing may have to be kept free any more
        return True

    def _set_reserve(self) -> None:
        most = self.sessions_max
        is_kept = most < math.inf and (self.is_shared or len(self.flows) > 1)
        self.ample = most - most // RESERVE_DIVISOR if is_kept else math.inf

    # Sessions

    def take(self, flow: Flow[T]) -> None:
        """The flow holds one session more."""
        flow.held += 1
        if flow.held == 1 and not flow.waiting:
            self._weight += flow.weight
        if flow.stamp:
            self._enter(flow)  # it holds more than when it was put there: another may be before it
            self.stir()

    def give(self, flow: Flow[T]) -> None:
        """The flow holds one session less; whoever waits for the capacity can be asked."""
        flow.held -= 1
        if not flow.waiting:
            if not flow.held:
                self._weight -= flow.weight
        elif flow.stamp and not flow.is_first_class:
            self._enter(flow)
        if self.is_contended:
            self.stir()

    def stir(self) -> None:
        """Something may have become free."""
        if not self._is_stirred:
            self._is_stirred = True
            self._stirred.append(self)

    # Items

    def push(self, flow: Flow[T], model: str, key: str, cost: int, item: T) -> Sub[T]:
        """Queue `item` behind the others of its model and key. A `cost` below the quantum counts as one."""
        branch = flow.branches.get(model)
        if branch is None:
            branch = flow.branches[model] = Branch(flow, model)
        sub = branch.subs.get(key)
        if sub is None:
            sub = branch.subs[key] = Sub(branch, key)
        sub.items[item] = max(QUANTUM, cost)
        if not flow.waiting and not flow.held:
            self._weight += flow.weight
        self._count(sub, 1)
        if len(sub.items) == 1:
            sub.resume()
        return sub

    def remove(self, sub: Sub[T], item: T) -> None:
        """Take an item out wherever it stands.

        Raises:
            KeyError: it is not there.
        """
        branch, flow = sub.branch, sub.branch.flow
        was_first = next(iter(sub.items), None) is item
        self._drop(sub, item)
        # What held the first one back need not hold the next one back: a smaller one may go at once.
        look_again(sub, bool(sub.items), was_first)
        look_again(branch, bool(branch.ready), was_first)
        look_again(flow, bool(flow.ready), was_first)
        self.stir()

    def _drop(self, sub: Sub[T], item: T) -> None:
        branch, flow = sub.branch, sub.branch.flow
        del sub.items[item]
        self._count(sub, -1)
        if not sub.items:
            del branch.subs[sub.name]
            branch.ready.pop(sub, None)
            if not branch.subs:
                del flow.branches[branch.name]
            if not branch.ready:
                flow.ready.pop(branch, None)
                if not flow.ready:
                    flow.stamp = 0
        if not flow.waiting and not flow.held:
            self._weight -= flow.weight

    def _count(self, sub: Sub[T], sign: int) -> None:
        branch, flow = sub.branch, sub.branch.flow
        branch.waiting += sign
        flow.waiting += sign
        self.waiting += sign
        if sub.line is not None:
            flow.parked += sign
        if branch.line is not None:
            flow.parked += sign

    # Turns

    def place(self, flow: Flow[T]) -> None:
        """The flow is asked in its turn, unless all of it is held back. It has saved nothing up."""
        if flow.ready and flow.line is None:
            if not flow.stamp:
                flow.tag = max(flow.tag, self._now)
                self.is_contended = True
                self._enter(flow)
            self.stir()

    def _enter(self, flow: Flow[T], stamp: int = 0) -> None:
        if not stamp:
            self._stamp = stamp = self._stamp + 1
        flow.stamp = stamp
        flow.is_first_class = self.is_below(flow)
        if flow.is_first_class:
            heappush(self._below, (flow.tag, stamp, flow))
        else:
            heappush(self._above, (flow.held / flow.weight, stamp, flow))
        if len(self._below) + len(self._above) > 2 * len(self.flows) + STALE_ENTRIES_MAX:
            for entries in (self._below, self._above):
                entries[:] = [entry for entry in entries if entry[2].stamp == entry[1]]
                heapify(entries)

    def is_below(self, flow: Flow[T]) -> bool:
        """Whether it holds less than its share, by weight, were there one more flow of weight 1."""
        return flow.held * (self._weight + 1) < self.sessions_max * flow.weight

    def leaves_room(self, flow: Flow[T], sessions: int) -> bool:
        """Whether it may have one more where `sessions` are taken: the reserve is for those that hold less."""
        if sessions < self.ample:
            return True
        excess = 2 * (flow.held * (self._weight + 1) / (self.sessions_max * flow.weight) - 1)
        return excess < 0 or sessions < self.sessions_max - (self.sessions_max // RESERVE_DIVISOR) * min(1.0, excess)

    def _pick(self) -> Flow[T] | None:
        """Whose turn it is: the lowest tag of those below their share; where there is none, who holds least."""
        below, above = self._below, self._above
        while above and (above[0][2].stamp != above[0][1] or self.is_below(above[0][2])):
            _, stamp, flow = heappop(above)
            if flow.stamp == stamp:
                self._enter(flow)  # the share has grown
        while below:
            _, stamp, flow = heappop(below)
            if flow.stamp == stamp and flow.ready:
                if self.is_below(flow):
                    return flow
                self._enter(flow)  # the share has shrunk
            elif flow.stamp == stamp:
                flow.stamp = 0
        while above:
            _, stamp, flow = heappop(above)
            if flow.stamp == stamp:
                if flow.ready:
                    return flow
                flow.stamp = 0
        return None

    def serve(self, offer: Callable[[T, Sub[T]], Line | None], most: int) -> int:
        """Offer the capacity in turn until nobody can take more of it, or `most` times; how many times are left.

        Where none is left the queue is still stirred: it wants to be served again.
        `offer` answers None when the item was taken (`take` is called here), or the line of the limit that holds it
        back: `line` for the capacity itself, or one of a flow, a branch, or a sub-queue. It must not push or remove.
        """
        self._is_stirred = True  # what this stirs is served here
        while (flow := self._pick()) is not None:
            stamp, flow.stamp = flow.stamp, 0
            branch = next(iter(flow.ready))
            sub = next(iter(branch.ready))
            item = next(iter(sub.items))
            self.offers += 1
            line = offer(item, sub)
            if line is None:
                self._taken(sub, item)
            elif line is self.line:
                self._enter(flow, stamp)  # its turn goes on when there is capacity again
                break
            else:
                self._hold(line, sub)
            most -= 1
            if most <= 0:
                break
        self.is_contended = bool(self._below or self._above)
        self._is_stirred = most <= 0
        return most

    def _hold(self, line: Line, sub: Sub[T]) -> None:
        """All that the limit of `line` holds back stands there; who waits for it in another line is let pass."""
        branch, flow = sub.branch, sub.branch.flow
        if line.level is Level.FLOW:
            line.hold(flow)
            let_pass(flow.ready)
            return
        if line.level is Level.BRANCH:
            del flow.ready[branch]
            line.hold(branch, not self.is_below(flow), flow.tag)
            let_pass(branch.ready)
        else:
            del branch.ready[sub]
            line.hold(sub)
            if not branch.ready:
                del flow.ready[branch]
                branch.done()
        if flow.ready:
            self.place(flow)
        else:
            flow.done()

    def _taken(self, sub: Sub[T], item: T) -> None:
        branch, flow = sub.branch, sub.branch.flow
        self._now = max(self._now, flow.tag)
        flow.tag += sub.items[item] / flow.weight
        self.take(flow)
        self._drop(sub, item)
        if sub.items:
            branch.ready.move_to_end(sub)
        if branch.ready:
            flow.ready.move_to_end(branch)
        sub.done()
        branch.done()
        flow.done()
        self.place(flow)
