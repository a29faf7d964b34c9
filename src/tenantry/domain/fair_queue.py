"""Deficit round robin with weights (Shreedhar and Varghese, SIGCOMM 1995): who is next when a capacity is shared.

Each flow has a queue. A flow's turn adds its weight's worth of credit; it is served while the credit covers the head
of its queue. A flow that is held back by limits of its own is skipped and keeps no credit; one that is held back by a
part of the capacity keeps its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")

# Credit of a turn at weight 1, in the unit of the costs (tokens), and the least that a request costs. So a flow of
# small requests has one in a turn: with more, it would take a burst for each single request of a quiet flow.
QUANTUM = 500


class Served(Enum):
    """What came of offering a capacity to the head of a flow."""

    TAKEN = "taken"
    FLOW_BLOCKED = "flow_blocked"  # its own limits are in the way; others may go
    PART_BLOCKED = "part_blocked"  # the part of the capacity that it needs (a model's) is used up; others may go
    ALL_BLOCKED = "all_blocked"  # the shared capacity is used up


class _Flow(Generic[T]):
    __slots__ = ("credit", "had_turn", "items", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.items: deque[tuple[int, T]] = deque()
        self.credit = 0
        self.had_turn = False


class FairQueue(Generic[T]):
    """Items by flow. An item that is in no queue any more can be removed by identity at any time."""

    def __init__(self) -> None:
        self._flows: dict[str, _Flow[T]] = {}
        self._order: deque[str] = deque()

    def __len__(self) -> int:
        return sum(len(flow.items) for flow in self._flows.values())

    @property
    def is_empty(self) -> bool:
        return not self._flows

    def names(self) -> list[str]:
        """The flows that have something waiting."""
        return list(self._flows)

    def depth(self, name: str) -> int:
        flow = self._flows.get(name)
        return len(flow.items) if flow is not None else 0

    def push(self, name: str, weight: int, cost: int, item: T) -> None:
        """Queue `item` behind the others of its flow. A `cost` below the quantum counts as one."""
        flow = self._flows.get(name)
        if flow is None:
            flow = self._flows[name] = _Flow(weight)
            self._order.append(name)
        flow.weight = weight
        flow.items.append((max(QUANTUM, cost), item))

    def remove(self, name: str, item: T) -> bool:
        """Take an item out wherever it stands; False when it is not there."""
        flow = self._flows.get(name)
        if flow is None:
            return False
        for entry in flow.items:
            if entry[1] is item:
                flow.items.remove(entry)
                if not flow.items:
                    self._forget(name)
                return True
        return False

    def serve(self, offer: Callable[[T], Served]) -> None:
        """Offer the capacity in turn until nobody can take more of it.

        `offer` must not push or remove.
        """
        blocked: set[str] = set()
        held: list[str] = []
        fruitless = 0
        while len(blocked) < len(self._order):
            name = self._order[0]
            if name in blocked:
                self._order.rotate(-1)
                continue
            flow = self._flows[name]
            if not flow.had_turn:
                flow.credit += QUANTUM * flow.weight
                flow.had_turn = True
            waiting = len(flow.items)
            outcome = self._serve_flow(flow, offer)
            if outcome is Served.ALL_BLOCKED:
                break  # this flow's turn goes on when there is capacity again
            if outcome is Served.PART_BLOCKED:
                held.append(self._order.popleft())
                fruitless = 0
                continue
            flow.had_turn = False
            fruitless = fruitless + 1 if waiting == len(flow.items) else 0
            if not flow.items:
                self._forget(name)
                continue
            if outcome is Served.FLOW_BLOCKED:
                flow.credit = 0
                blocked.add(name)
            self._order.rotate(-1)
            if fruitless >= len(self._order):
                self._skip_rounds(blocked)
                fruitless = 0
        self._order.extendleft(reversed(held))

    def _skip_rounds(self, blocked: set[str]) -> None:
        """Nobody had credit enough for a whole round: give the credit of all rounds but the last at once."""
        waiting = [self._flows[name] for name in self._order if name not in blocked]
        if waiting:
            rounds = min(-(-(flow.items[0][0] - flow.credit) // (QUANTUM * flow.weight)) for flow in waiting) - 1
            for flow in waiting:
                flow.credit += rounds * QUANTUM * flow.weight

    def _serve_flow(self, flow: _Flow[T], offer: Callable[[T], Served]) -> Served:
        while flow.items and flow.items[0][0] <= flow.credit:
            cost, item = flow.items[0]
            outcome = offer(item)
            if outcome is not Served.TAKEN:
                return outcome
            flow.items.popleft()
            flow.credit -= cost
        return Served.TAKEN

    def _forget(self, name: str) -> None:
        del self._flows[name]
        self._order.remove(name)
