"""The simulated store does what the real one does, and the line to it loses what a network loses."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tenantry.domain.cells import Component
from tenantry.domain.doubts import Taken
from tenantry.simulation.clock import Clock
from tenantry.simulation.store import LOST_SECONDS, Line, Store

ONE = Component({"acme": "org-1"}, ("org-1",))


def joined(*names: str) -> tuple[Clock, Store]:
    clock = Clock()
    store = Store(clock)
    for name in names:
        store.join(name, 30.0)
    return clock, store


def test_a_cell_is_taken_when_its_owners_lease_has_run_out_and_has_another_epoch_then() -> None:
    clock, store = joined("a", "b")
    first = store.claim("a", "acme", ONE)
    assert first is not None
    assert (first.owner, first.cells) == ("a", {"org-1": 1})
    clock.run(20.0)
    assert store.renew("b", 30.0)
    found = store.claim("b", "acme", ONE)
    assert found is not None
    assert (found.owner, found.cells) == ("a", {})
    assert (store.statements["look"], store.statements["claim"]) == (2, 1)  # whose it is, is a read
    clock.run(31.0)
    taken = store.claim("b", "acme", ONE)
    assert taken is not None
    assert (taken.owner, taken.cells, taken.rested) == ("b", {"org-1": 2}, {"org-1": 1.0})
    assert not store.renew("a", 30.0)
    assert store.rejoin("a", 30.0) == ({}, {})


def test_who_owns_a_tenant_no_more_takes_nothing_of_its_budget() -> None:
    clock, store = joined("a")
    store.claim("a", "acme", ONE)
    row = Taken("acme", "", "nanos", "a", 5, 0)
    assert store.take([row]) == [row]
    clock.run(31.0)
    assert store.take([Taken("acme", "", "nanos", "a", 9, 0)]) == []
    assert store.taken_of("acme", "b") == [row]


def test_what_was_used_beyond_what_was_taken_stands_as_taken_when_a_tenant_is_let_go() -> None:
    _, store = joined("a")
    store.claim("a", "acme", ONE)
    store.take([Taken("acme", "", "nanos", "a", 5, 0)])
    for used in (7, 3):
        store.lower([Taken("acme", "", "nanos", "a", used, 0)])
        assert [row.taken for row in store.taken_of("acme", "b")] == [used]
    store.lower([Taken("acme", "", "tokens", "a", 9, 0)])
    assert len(store.taken_of("acme", "b")) == 1  # of which nothing was taken


def test_what_was_asked_of_the_store_is_done_though_its_answer_is_lost() -> None:
    clock, store = joined()
    line, heard = Line(clock, Random(1)), list[str]()
    line.loss = 1.0

    def do(call: Callable[[], None]) -> None:
        call()

    line.ask(lambda: store.join("a", 30.0), lambda _: heard.append("done"), lambda: heard.append("failed"), do)
    clock.run(LOST_SECONDS / 2)
    assert store.is_live("a")
    assert heard == []
    clock.run(LOST_SECONDS * 2)
    assert heard == ["failed"]
    line.works = False
    line.ask(lambda: store.join("b", 30.0), lambda _: heard.append("done"), lambda: heard.append("failed"), do)
    clock.run(LOST_SECONDS * 4)
    assert not store.is_live("b")
    assert heard == ["failed", "failed"]
