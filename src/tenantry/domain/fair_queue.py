"""Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): who is next when a capacity is shared.

Each flow (a tenant) has a tag, the virtual time at which its next item starts; the lowest tag is next, and an item
moves its flow's tag on by cost / weight. A flow that holds its share of the sessions already comes after all that do
not. Inside a flow there is a sub-queue for each key and model; they take turns, and each keeps its order.

What some limit holds back is not among those that are asked: it stands in that limit's `Line`, and the first of a line
tries again when there is a reason to. So asking, giving back and leaving cost the same whoever else waits: a heap's
O(log n).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

# The least that a request counts for, in the unit of the costs (tokens): small requests cost an upstream a turn too.
QUANTUM = 500
# Entries of a heap that no longer count are dropped when they are more than those that do, and than this.
STALE_ENTRIES_MAX = 64


class Line:
    """Those that one limit holds back, in the order in which they try again.

    One that tries and is held back again keeps its place. Once it succeeds, gives up, or is held back by another
    limit, the next one tries.
    """

    __slots__ = ("_entries", "_seq", "by_flow", "by_tag", "count", "wake_at")

    def __init__(self, *, by_flow: bool = False, by_tag: bool = False) -> None:
        self.by_flow = by_flow  # whole flows stand here, not sub-queues
        self.by_tag = by_tag  # those of different flows take turns by their tags
        self.count = 0
        self.wake_at = math.inf  # when time will let the first try again: kept by the owner of the clock
        self._entries: list[tuple[float, int, Held]] = []
        self._seq = 0

    def hold(self, held: Held, tag: float) -> None:
        """`held` stands here until it is woken."""
        came_from, held.came_from = held.came_from, None
        if came_from is not self:
            self._seq += 1
            held.spot = (tag if self.by_tag else 0.0, self._seq)
        held.line = self
        self.count += 1
        heappush(self._entries, (*held.spot, held))
        if len(self._entries) > 2 * self.count + STALE_ENTRIES_MAX:
            self._entries = [entry for entry in self._entries if self._is_valid(entry)]
            heapify(self._entries)
        if came_from is not None and came_from is not self:
            came_from.wake()

    def wake(self) -> None:
        """The first one is asked again; one that cannot be asked now lets the next one pass."""
        while self._entries:
            entry = heappop(self._entries)
            if self._is_valid(entry):
                held = entry[2]
                self.count -= 1
                held.line = None
                held.came_from = self
                if held.resume():
                    return
                held.came_from = None

    def is_closed_to(self, held: Held) -> bool:
        """Whether others stand here before `held`."""
        return self.count > 0 and held.came_from is not self

    def _is_valid(self, entry: tuple[float, int, Held]) -> bool:
        held = entry[2]
        return held.line is self and held.spot[1] == entry[1]


class Held:
    """What can stand in a line."""

    __slots__ = ("came_from", "line", "spot")

    def __init__(self) -> None:
        self.line: Line | None = None
        self.came_from: Line | None = None  # whose first it is, while it tries again
        self.spot: tuple[float, int] = (0.0, 0)

    def resume(self) -> bool:
        """Be asked again; False when the next one need not wait for that."""
        raise NotImplementedError

    def done(self) -> None:
        """It needs its place no more: the next one tries."""
        line, self.line = self.line, None
        if line is not None:
            line.count -= 1
            line.wake()
        came_from, self.came_from = self.came_from, None
        if came_from is not None:
            came_from.wake()


class Sub(Held, Generic[T]):
    """Items of one flow that the same limits concern, in their order."""

    __slots__ = ("flow", "items", "name")

    def __init__(self, flow: Flow[T], name: tuple[str, str]) -> None:
        super().__init__()
        self.flow = flow
        self.name = name
        self.items: OrderedDict[T, int] = OrderedDict()  # what each costs

    def resume(self) -> bool:
        flow = self.flow
        flow.ready[self] = None
        flow.ready.move_to_end(self, last=self.came_from is None)
        flow.queue.place(flow)
        return flow.line is None and flow.queue.is_below(flow)


class Flow(Held, Generic[T]):
    """One tenant at one capacity: what it waits for, and how many sessions of it it holds."""

    __slots__ = ("held", "is_first_class", "name", "queue", "ready", "stamp", "subs", "tag", "waiting", "weight")

    def __init__(self, queue: FairQueue[T], name: str, weight: int) -> None:
        super().__init__()
        self.queue = queue
        self.name = name
        self.weight = weight
        self.held = 0
        self.waiting = 0
        self.tag = 0.0
        self.stamp = 0  # of its entry among those that are asked; 0 when it has none
        self.is_first_class = False  # that entry is among those below their share
        self.subs: dict[tuple[str, str], Sub[T]] = {}
        self.ready: OrderedDict[Sub[T], None] = OrderedDict()

    def resume(self) -> bool:
        self.queue.place(self)
        return bool(self.ready)

    def let_pass(self) -> None:
        """All of it is held back: who stands behind one of its sub-queues in another line need not wait for it."""
        while self.ready:
            sub = next(iter(self.ready))
            if sub.came_from is None:
                return
            sub.done()
            self.ready.move_to_end(sub)

    def depth(self, name: tuple[str, str]) -> int:
        """Items in one of its sub-queues."""
        sub = self.subs.get(name)
        return len(sub.items) if sub is not None else 0


class FairQueue(Generic[T]):
    """Items by flow, for one capacity of `sessions_max` sessions. Items are told apart by hash and equality.

    `stirred` is a list for several queues: a queue in which someone can be asked puts itself there, once, and the
    owner of the list calls `serve`.
    """

    __slots__ = (
        "_above",
        "_below",
        "_is_stirred",
        "_now",
        "_stamp",
        "_stirred",
        "_weight",
        "flows",
        "is_contended",
        "line",
        "offers",
        "sessions_max",
        "waiting",
    )

    def __init__(self, stirred: list[FairQueue[T]], sessions_max: float = math.inf) -> None:
        self.sessions_max = sessions_max
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

    def flow(self, name: str, weight: int) -> Flow[T]:
        """The flow of that name."""
        flow = self.flows.get(name)
        if flow is None:
            flow = self.flows[name] = Flow(self, name, weight)
        return flow

    def reweigh(self, flow: Flow[T], weight: int) -> None:
        """From here on the flow has another weight."""
        if flow.held or flow.waiting:
            self._weight += weight - flow.weight
        flow.weight = weight

    def forget(self, flow: Flow[T]) -> bool:
        """Drop a flow that means nothing any more; False when it does: its tag may lie ahead of who waits."""
        if flow.held or flow.waiting or (self.waiting and flow.tag > self._now):
            return False
        del self.flows[flow.name]
        return True

    # Sessions

    def take(self, flow: Flow[T]) -> None:
        """The flow holds one session more."""
        flow.held += 1
        if flow.held == 1 and not flow.waiting:
            self._weight += flow.weight

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

    def push(self, flow: Flow[T], name: tuple[str, str], cost: int, item: T) -> Sub[T]:
        """Queue `item` behind the others of its sub-queue. A `cost` below the quantum counts as one."""
        sub = flow.subs.get(name)
        if sub is None:
            sub = flow.subs[name] = Sub(flow, name)
        sub.items[item] = max(QUANTUM, cost)
        if not flow.waiting and not flow.held:
            self._weight += flow.weight
        flow.waiting += 1
        self.waiting += 1
        if len(sub.items) == 1:
            sub.resume()
        return sub

    def remove(self, sub: Sub[T], item: T) -> None:
        """Take an item out wherever it stands.

        Raises:
            KeyError: it is not there.
        """
        flow = sub.flow
        was_first = next(iter(sub.items)) is item
        self._drop(flow, sub, item)
        if was_first:
            # What held the first one back need not hold the next one back: a smaller one may go at once.
            was_held, flow_was_held = sub.line is not None, flow.line is not None
            sub.done()
            if was_held and sub.items:
                sub.resume()
            if flow_was_held:
                flow.done()
                self.place(flow)
        if not flow.waiting:
            flow.done()
        self.stir()

    def _drop(self, flow: Flow[T], sub: Sub[T], item: T) -> None:
        del sub.items[item]
        flow.waiting -= 1
        self.waiting -= 1
        if not sub.items:
            del flow.subs[sub.name]
            flow.ready.pop(sub, None)
        if not flow.waiting and not flow.held:
            self._weight -= flow.weight

    # Turns

    def place(self, flow: Flow[T]) -> None:
        """The flow is asked in its turn, unless all of it is held back. It has saved nothing up."""
        if flow.ready and flow.line is None and not flow.stamp:
            flow.tag = max(flow.tag, self._now)
            self.is_contended = True
            self._enter(flow)
            self.stir()

    def _enter(self, flow: Flow[T]) -> None:
        self._stamp += 1
        flow.stamp = self._stamp
        flow.is_first_class = self.is_below(flow)
        if flow.is_first_class:
            heappush(self._below, (flow.tag, flow.stamp, flow))
        else:
            heappush(self._above, (flow.held / flow.weight, flow.stamp, flow))
        if len(self._below) + len(self._above) > 2 * len(self.flows) + STALE_ENTRIES_MAX:
            for entries in (self._below, self._above):
                entries[:] = [entry for entry in entries if entry[2].stamp == entry[1]]
                heapify(entries)

    def is_below(self, flow: Flow[T]) -> bool:
        """Whether it holds less than its share, by weight, among those that hold or want something."""
        return flow.held * self._weight < self.sessions_max * flow.weight

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
                    flow.stamp = 0
                    return flow
                self._enter(flow)  # the share has shrunk
            elif flow.stamp == stamp:
                flow.stamp = 0
        while above:
            _, stamp, flow = heappop(above)
            if flow.stamp == stamp:
                flow.stamp = 0
                if flow.ready:
                    return flow
        return None

    def serve(self, offer: Callable[[T, Sub[T]], Line | None]) -> None:
        """Offer the capacity in turn until nobody can take more of it.

        `offer` answers None when the item was taken (`take` is called here), or the line of the limit that holds it
        back: `line` for the capacity itself, one for the flow, or one for the sub-queue. It must not push or remove.
        """
        self._is_stirred = True  # what this stirs is served here
        while (flow := self._pick()) is not None:
            sub = next(iter(flow.ready))
            item = next(iter(sub.items))
            self.offers += 1
            line = offer(item, sub)
            if line is None:
                self._taken(flow, sub, item)
            elif line is self.line:
                self._enter(flow)  # its turn goes on when there is capacity again
                break
            elif line.by_flow:
                line.hold(flow, flow.tag)
                flow.let_pass()
            else:
                del flow.ready[sub]
                line.hold(sub, flow.tag)
                self.place(flow)
        self.is_contended = bool(self._below or self._above)
        self._is_stirred = False

    def _taken(self, flow: Flow[T], sub: Sub[T], item: T) -> None:
        self._now = max(self._now, flow.tag)
        flow.tag += sub.items[item] / flow.weight
        self.take(flow)
        self._drop(flow, sub, item)
        if sub.items:
            flow.ready.move_to_end(sub)
        sub.done()
        flow.done()
        self.place(flow)
