"""What waits for a capacity: flows of tenants, in each a branch for each model, in that a sub-queue for each key.

Each of the three can be held back by a limit of its own while the others go on. Whose turn it is, is `fair_queue.py`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from tenantry.domain.lines import Held

T = TypeVar("T")


class Turns(Generic[T]):
    """What a flow needs of the queue that gives it its turns."""

    __slots__ = ()

    def place(self, flow: Flow[T]) -> None:
        """The flow is asked in its turn, unless all of it is held back."""
        raise NotImplementedError

    def forget(self, flow: Flow[T]) -> bool:
        """Drop a flow that means nothing any more; False when it does."""
        raise NotImplementedError


class Sub(Held, Generic[T]):
    """Items of one flow, model and key, in their order."""

    __slots__ = ("branch", "items", "name")

    def __init__(self, branch: Branch[T], name: str) -> None:
        super().__init__(branch.flow.queue)
        self.branch = branch
        self.name = name
        self.items: OrderedDict[T, int] = OrderedDict()  # what each costs

    def resume(self) -> bool:
        branch = self.branch
        branch.ready[self] = None
        if branch.line is not None:
            return False
        if self.trying is not None:
            branch.ready.move_to_end(self, last=False)
        flow = branch.flow
        flow.ready[branch] = None
        if flow.line is not None:
            flow.line.wake()  # another one is its first now, and may be let through where that one was not
        else:
            flow.queue.place(flow)
        return True  # should its flow be held back: none but that flow's stand in a key's row

    def stand(self, sign: int) -> None:
        self.branch.flow.parked += sign * len(self.items)


class Branch(Held, Generic[T]):
    """What one flow asks of one model."""

    __slots__ = ("flow", "name", "ready", "subs", "waiting")

    def __init__(self, flow: Flow[T], name: str) -> None:
        super().__init__(flow.queue)
        self.flow = flow
        self.name = name
        self.waiting = 0
        self.subs: dict[str, Sub[T]] = {}
        self.ready: OrderedDict[Sub[T], None] = OrderedDict()  # those that no key's limit holds back

    def resume(self) -> bool:
        flow = self.flow
        flow.ready[self] = None
        if flow.line is not None:
            return False
        flow.ready.move_to_end(self, last=False)
        flow.queue.place(flow)
        return True

    def stand(self, sign: int) -> None:
        self.flow.parked += sign * self.waiting


class Flow(Held, Generic[T]):
    """One tenant at one capacity: what it waits for, and how many sessions of it it holds.

    `parked` are the items that the limits of models and keys hold back: they are not ahead of others.
    """

    __slots__ = (
        "branches",
        "held",
        "is_first_class",
        "name",
        "parked",
        "queue",
        "ready",
        "stamp",
        "tag",
        "waiting",
        "weight",
    )

    def __init__(self, queue: Turns[T], name: str, weight: int) -> None:
        super().__init__(queue)
        self.queue = queue
        self.name = name
        self.weight = weight
        self.held = 0
        self.waiting = 0
        self.parked = 0
        self.tag = 0.0
        self.stamp = 0  # of its entry among those that are asked; 0 when it has none
        self.is_first_class = False  # that entry is among those below their share
        self.branches: dict[str, Branch[T]] = {}
        self.ready: OrderedDict[Branch[T], None] = OrderedDict()  # those that no model's limit holds back

    def resume(self) -> bool:
        self.queue.place(self)
        return bool(self.ready)

    def depth(self, model: str, key: str) -> int:
        """Items of one model and key."""
        branch = self.branches.get(model)
        sub = branch.subs.get(key) if branch is not None else None
        return len(sub.items) if sub is not None else 0


def look_again(held: Held, goes_on: bool, is_changed: bool) -> None:
    """Something of it went away: its place is not needed when nothing is left, else its first may be another one."""
    if not goes_on:
        held.done()
    elif is_changed and held.line is not None:
        held.line.wake()


def let_pass(ready: OrderedDict[Branch[T], None] | OrderedDict[Sub[T], None]) -> None:
    """Those that were woken, which stand in front, cannot be asked now: the next of their lines are."""
    woken: list[Held] = []
    for held in ready:
        if held.trying is None:
            break
        woken.append(held)
    for one in woken:
        one.done()
