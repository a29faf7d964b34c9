"""Two gateways and the wire between them: the new one counts for what the old one is in the middle of."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tenantry.domain.allowances import Allowance, Sold
from tenantry.domain.limits import Limits
from tenantry.domain.opening import Opening
from tenantry.domain.plans import Dated, Terms
from tenantry.gateway.handover import DescriptorLost, Estate, Passed, Succeed, Wire, WireBroken, await_successor
from tenantry.gateway.inheriting import Inheritance, succeed
from tenantry.gateway.retiring import Retirement
from tests.stack import until
from tests.unit.gateway.playbook import Connection, World, end_events, event, message, start_event, text_event

USD = 10**9


class Two:
    """An old gateway, and a new one that takes its place."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        for name in ("old", "new"):
            (folder / name).mkdir()
        self.old, self.new = World(folder / "old", **fields), World(folder / "new", **fields)
        self._folder = folder / "old"
        listener = socket.create_server(("127.0.0.1", 0))
        self.listener_closed: list[bool] = []
        self.retirement = Retirement(
            self.old.parts, "run", await_successor(self._folder, 1), listener, lambda: self.listener_closed.append(True)
        )
        self.passed: list[bytes] = []  # what had come of a next request on each connection that went over
        self.retirement.take = self._take  # type: ignore[method-assign]
        self.costs_are_known = True  # as when their journal is booked
        self.found: list[str] = []  # attempts whose cost was looked for
        self.inherited: Inheritance | None = None

    def _take(self, connection: Any, transport: Any, peer: str, unread: bytes) -> None:
        self.passed.append(unread)

    def stream(self) -> Connection:
        """A stream of the old gateway that has begun."""
        self.old.client().ask(message(stream=True, max_tokens=50_000))
        self.old.turn()
        self.old.connecting[0].made()
        connection = self.old.sent[-1]
        connection.head(200, {"content-type": "text/event-stream"})
        connection.body(start_event())
        self.old.turn()
        return connection

    async def hand_over(self, ended: Callable[[list[str]], set[str]] = lambda _: set()) -> Inheritance:
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        raw.connect(str(self._folder / "1.sock"))
        # It waits for the old one, which is of the same loop here.
        (one,) = await asyncio.to_thread(succeed, [Wire(raw)])
        one.enter(self.new.parts, ended(one.attempt_ids), self._find_costs)
        self.inherited = one
        return one

    def _find_costs(self, attempt_ids: Any) -> dict[str, tuple[int, int, int]]:
        if not self.costs_are_known:
            return {}
        self.found += attempt_ids
        return {one: (USD, 700, self.new.wall_us()) for one in attempt_ids}

    async def settle(self) -> None:
        """Let what was told arrive."""
        for _ in range(5):
            await asyncio.sleep(0.01)
            self.old.turn()
            self.new.turn()

    def account(self) -> Any:
        return self.new.parts.till.account_of("tnt_acme")

    def spent(self) -> int:
        return self.account().spent["month"]

    def close(self) -> None:
        self.retirement.close()
        if self.inherited is not None:
            self.inherited.close()


@contextlib.asynccontextmanager
async def two(folder: Path, **fields: Any) -> AsyncIterator[Two]:
    made = Two(folder, **fields)
    try:
        yield made
    finally:
        made.close()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_what_the_old_one_holds_is_held_by_the_new_one_and_settled_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path, budget_nanos=100 * USD) as both:
            connection = both.stream()
            held = both.old.parts.till.held_nanos() // 2  # of the tenant; as much is the key's
            await both.hand_over()
            assert both.listener_closed == [True]
            assert both.account().held_nanos == held > 0
            assert both.new.parts.lanes.in_flight() == 2  # of the tenant's lane and of the capacity
            connection.body(text_event() + end_events(20))
            connection.end()
            await both.settle()
            both.retirement.close()
            await both.settle()
            (end,) = [event for kind, event in both.old.disk.events if kind == "end"]
            assert (both.spent(), both.account().held_nanos) == (end.cost_nanos, 0)
            assert both.new.parts.lanes.in_flight() == 0
            assert both.new.leftovers() == both.old.leftovers() == []

    run(test)


def test_an_attempt_that_the_opening_has_counted_already_is_counted_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path, budget_nanos=100 * USD) as both:
            connection = both.stream()
            await both.hand_over(set)
            connection.body(end_events(20))
            connection.end()
            await both.settle()
            assert both.account() is None  # nothing was held or spent: the opening has it

    run(test)


@pytest.mark.parametrize(("left", "fits"), [(USD, True), (1, False)])
def test_a_stream_at_the_old_one_grows_only_as_far_as_the_new_one_has_money(
    tmp_path: Path, left: int, fits: bool
) -> None:
    async def test() -> None:
        async with two(tmp_path, budget_nanos=100 * USD) as both:
            connection = both.stream()
            one = await both.hand_over()
            account, before = both.account(), both.account().held_nanos
            account.spend(100 * USD - before - left, both.new.wall_us())  # meanwhile, by others
            with _answering(one):
                _produce(connection)
            assert (connection.sink is not None) is fits
            if fits:
                assert account.held_nanos > before
                assert account.held_nanos == both.old.parts.till.held_nanos() // 2
            else:
                assert account.held_nanos + both.spent() <= 100 * USD
                assert "answer 200 interrupted" in both.old.told

    run(test)


@contextlib.contextmanager
def _answering(one: Inheritance) -> Iterator[None]:
    """The old one waits for the word, so it is given from elsewhere. All that it has told has been heard at the end."""
    asyncio.get_running_loop().remove_reader(one._wire)
    done = threading.Event()

    def answer() -> None:
        while select.select([one._wire], [], [], 0.02)[0] or not done.is_set():
            if select.select([one._wire], [], [], 0)[0]:
                one._on_readable()

    answering = threading.Thread(target=answer)
    answering.start()
    try:
        yield
    finally:
        done.set()
        answering.join()


def _produce(connection: Connection) -> None:
    for _ in range(40):
        if connection.sink is not None:
            connection.body(text_event("x" * 1000))


@pytest.mark.parametrize("left", [100 * USD, 1])
def test_what_an_upstream_has_told_the_old_one_is_held_by_the_new_one_whether_it_fits_or_not(
    tmp_path: Path, left: int
) -> None:
    async def test() -> None:
        async with two(tmp_path, budget_nanos=200 * USD) as both:
            connection = both.stream()
            one = await both.hand_over()
            account, before = both.account(), both.account().held_nanos
            account.spend(200 * USD - before - left, both.new.wall_us())
            with _answering(one):
                connection.body(event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 40_000}))
                both.old.turn()
                account_of_old = both.old.parts.till.account_of("tnt_acme")
                assert account_of_old is not None
                held = account_of_old.held_nanos or account_of_old.spent["month"]
            assert held > before
            assert account.held_nanos + both.spent() - (200 * USD - before - left) == held

    run(test)


@pytest.mark.parametrize("is_in_doubt", [False, True])
def test_a_stream_at_the_old_one_grows_where_the_new_one_is_one_of_several(tmp_path: Path, is_in_doubt: bool) -> None:
    async def test() -> None:
        async with two(tmp_path, budget_nanos=100 * USD, is_one_of_several=True) as both:
            both.old.own("tnt_acme")
            both.old.client().ask(message(stream=True, max_tokens=50_000))
            both.old.turn()
            both.old.raise_ceilings()
            both.old.turn()
            both.old.connecting[0].made()
            connection = both.old.sent[-1]
            connection.head(200, {"content-type": "text/event-stream"})
            connection.body(start_event())
            both.old.turn()
            one = await both.hand_over()
            both.new.own("tnt_acme")
            if is_in_doubt:
                assert both.new.cells is not None
                assert both.new.cells.take_sought() == ["tnt_acme"]
                both.new.cells.take_asked()[0].is_asked = False  # for nothing: it was not granted for here yet
                both.new.parts.till.enter("tnt_acme", Opening(both.new.wall_us()), {})
            both.new.raise_ceilings()
            with _answering(one):
                _produce(connection)
            assert connection.sink is not None

    run(test)


def test_without_the_new_one_nobody_knows_what_is_left_and_the_next_is_told_of_what_is_held(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path, budget_nanos=100 * USD) as both:
            connection = both.stream()
            first = await both.hand_over()
            held = both.account().held_nanos
            first.close()  # it dies
            await both.settle()
            assert not both.retirement.may_grow("att", 1, 0)
            both.new = World(tmp_path / "new", budget_nanos=100 * USD)
            await both.hand_over()
            assert both.account().held_nanos == held
            connection.body(end_events(20))
            connection.end()
            await both.settle()
            (end,) = [event for kind, event in both.old.disk.events if kind == "end"]
            assert (both.spent(), both.account().held_nanos) == (end.cost_nanos, 0)

    run(test)


def test_what_a_gateway_that_dies_leaves_stays_held_until_its_journal_says_what_it_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.gateway.inheriting.FIND_COSTS_SECONDS", 0.05)

    async def test() -> None:
        async with two(tmp_path, budget_nanos=100 * USD) as both:
            both.stream()
            one = await both.hand_over()
            held = both.account().held_nanos
            both.costs_are_known = False
            for wire in list(both.retirement._callers):
                both.retirement._hang_up(wire)
            await until(lambda: both.new.parts.lanes.in_flight() == 0)
            assert both.account().held_nanos == held
            both.costs_are_known = True
            await until(both.spent)
            assert both.found == one.attempt_ids
            assert (both.spent(), both.account().held_nanos) == (USD, 0)

    run(test)


MANY_TOKENS = Allowance(
    (Dated(date(2020, 1, 1), "many"),),
    (Sold("many", (Dated(None, Terms(included_tokens=10**6, overage="block")),)),),
)


def test_tokens_that_a_plan_includes_are_held_by_the_new_one_and_settled_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path, allowance=MANY_TOKENS) as both:
            connection = both.stream()
            old = both.old.parts.till.account_of("tnt_acme")
            assert old is not None
            assert old.tokens is not None
            held = old.tokens.held_nanos
            await both.hand_over()
            assert both.account().tokens.held_nanos == held >= 50_000
            connection.body(text_event() + end_events(20))
            connection.end()
            await both.settle()
            (end,) = [event for kind, event in both.old.disk.events if kind == "end"]
            used = end.usage.prompt_tokens + end.usage.output_tokens
            assert used >= 20
            assert (both.account().tokens.spent["month"], both.account().tokens.held_nanos) == (used, 0)

    run(test)


def test_tokens_go_on_being_held_where_a_third_gateway_takes_over(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path, allowance=MANY_TOKENS) as both:
            both.stream()
            first = await both.hand_over()
            held, second = both.account().tokens.held_nanos, both.account()
            both.new = World(tmp_path / "new", allowance=MANY_TOKENS)
            await both.hand_over()
            await both.settle()
            assert second.tokens.held_nanos == 0  # it has been told that another one counts
            assert both.account().tokens.held_nanos == held > 0
            first.close()

    run(test)


def test_tokens_of_a_gateway_that_dies_are_those_that_its_journal_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.gateway.inheriting.FIND_COSTS_SECONDS", 0.05)

    async def test() -> None:
        async with two(tmp_path, allowance=MANY_TOKENS) as both:
            both.stream()
            await both.hand_over()
            for wire in list(both.retirement._callers):
                both.retirement._hang_up(wire)
            await until(both.spent)
            assert (both.account().tokens.spent["month"], both.account().tokens.held_nanos) == (700, 0)

    run(test)


def test_rates_and_health_go_over(tmp_path: Path) -> None:
    limits = Limits(sessions_max=5, requests_per_minute=60, request_burst=60)

    async def test() -> None:
        async with two(tmp_path, limits=limits, capacity=limits) as both:
            both.stream()
            old, tenant = both.old.parts, both.old.parts.latest.snapshot.tenants["tnt_acme"]
            credential = tenant.credential
            assert credential is not None
            standing = old.health.of(credential)
            for _ in range(5):
                standing.breaker.failed(both.old.time.now)
            standing.retries.take()
            fields = {
                b"anthropic-ratelimit-requests-limit": b"50",
                b"anthropic-ratelimit-requests-remaining": b"7",
                b"anthropic-ratelimit-input-tokens-limit": b"1000",
                b"anthropic-ratelimit-input-tokens-remaining": b"400",
            }
            old.lanes.learn(credential, "claude-haiku-5-5", fields, 20.0)
            await both.hand_over()
            new = both.new.parts
            assert [lane.requests.level for _, lane in new.lanes.register.own() if lane.requests] == [59]
            shared = new.lanes.register.shared_of(new.latest.snapshot.tenants["tnt_acme"].credential, 1000.0)
            assert shared.capacity is not None
            assert shared.capacity.requests is not None
            assert shared.capacity.requests.level == 7
            model = shared.models["claude-haiku-5-5"]
            assert model.input_tokens is not None
            assert (model.input_tokens.size, model.input_tokens.level) == (1000, 400)
            assert model.closed_until == 1020.0
            known = new.health.of(credential)
            assert known.breaker.is_open(both.new.time.now)
            assert known.retries.fifths == standing.retries.fifths
            assert new.health.facts()["upstreams_down"] == ["first"]

    run(test)


def test_what_waits_or_is_not_sent_begins_anew_at_the_new_one(tmp_path: Path) -> None:
    """Its connection goes over with its request, byte for byte but for the framing of its body."""

    async def test() -> None:
        async with two(
            tmp_path, limits=Limits(sessions_max=1, requests_per_minute=None, queue_wait_ms_max=5000)
        ) as both:
            both.stream()
            client = both.old.client("w")
            client.ask(message("second"))
            client.connection.data_received(b"POST /v1/mess")  # of the next one
            both.old.turn()
            await both.hand_over()
            (unread,) = both.passed
            assert unread.startswith(b"POST /v1/messages HTTP/1.1\r\nhost: a\r\n")
            assert b'"second"' in unread
            assert unread.endswith(b"}POST /v1/mess")
            assert both.old.parts.lanes.waiting() == 0

    run(test)


def test_a_message_comes_whole_and_with_its_descriptor_however_it_is_cut() -> None:
    ours, its = socket.socketpair()
    sending, receiving = Wire(ours), Wire(its)
    pairs = [socket.socketpair() for _ in range(3)]
    body = b"x" * 3_000_000

    def send() -> None:
        for number, (_, end) in enumerate(pairs):
            sending.send(Passed(f"192.0.2.{number}", body[: number * 1_500_000], False), end.fileno())

    thread = threading.Thread(target=send)
    thread.start()
    for number, (mine, end) in enumerate(pairs):
        message = receiving.wait()
        assert isinstance(message, Passed)
        assert (message.peer, len(message.unread)) == (f"192.0.2.{number}", number * 1_500_000)
        with receiving.take_descriptor() as came, mine, end:
            came.sendall(b"hi")
            assert mine.recv(2) == b"hi"
    thread.join()
    sending.close()
    with pytest.raises(WireBroken):
        receiving.wait()
    receiving.close()


def test_a_descriptor_that_is_lost_does_not_give_its_message_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what one client has asked would be answered to another, in the first one's name."""
    received, lost = socket.recv_fds, 0

    def full(*args: Any) -> Any:
        """As the kernel does for a process that may open no more files; then one is closed somewhere."""
        nonlocal lost
        data, descriptors, flags, address = received(*args)
        if descriptors and not lost:
            lost = len(descriptors)
            for one in descriptors:
                socket.close(one)
            return data, [], flags | socket.MSG_CTRUNC, address
        return data, descriptors, flags, address

    monkeypatch.setattr(socket, "recv_fds", full)
    ours, its = socket.socketpair()
    sender, receiver = Wire(ours), Wire(its)
    acme, globex = socket.socketpair(), socket.socketpair()
    for peer, client in (("acme", acme), ("globex", globex)):
        sender.send(Passed(peer, b"next", False), client[0].fileno())
    came = [receiver.wait(), receiver.wait()]

    given: dict[str, bytes] = {}
    for passed in came:
        assert isinstance(passed, Passed)
        with contextlib.suppress(DescriptorLost), receiver.take_descriptor() as found:
            found.sendall(passed.peer.encode())
            given[passed.peer] = globex[1].recv(100)
    assert lost == 1
    assert given == {"globex": b"globex"}
    for one in (*acme, *globex):
        one.close()
    sender.close()
    receiver.close()


def test_a_gateway_of_another_version_says_what_it_can_be_told_and_what_it_adds_is_passed_over() -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    estate = {"type": "Estate", "run_id": "r", "requests": [], "lanes": [], "standings": [], "more": [1], "speaks": 7}
    earlier = {"type": "Succeed"}
    for told in (estate, earlier):
        payload = msgspec.msgpack.encode(told)
        theirs.sendall(len(payload).to_bytes(4, "big") + payload)
    assert wire.wait() == Estate("r", [], [], [], 7)
    assert wire.wait() == Succeed(0)
    payload = msgspec.msgpack.encode({"type": "Unheard"})
    theirs.sendall(len(payload).to_bytes(4, "big") + payload)
    with pytest.raises(WireBroken, match="says what this version does not know"):
        wire.wait()
    theirs.close()
    wire.close()


def test_an_old_one_whose_disk_is_full_stays_until_what_its_answers_cost_is_written(tmp_path: Path) -> None:
    """Else each would be booked at what it had told until then, which is less."""

    async def test() -> None:
        async with two(tmp_path) as both:
            connection = both.stream()
            await both.hand_over()
            both.old.disk.works = False
            connection.body(end_events(900))
            connection.end()
            await both.settle()
            both.old.parts.population.connections.clear()  # its client has left
            ended = asyncio.create_task(both.retirement.ended(asyncio.Event(), 3600.0))
            await asyncio.sleep(0.1)
            assert not ended.done()
            both.old.disk.works = True
            both.old.parts.recorder.flush()
            await ended
            assert [kind for kind, _ in both.old.disk.events][-1] == "end"

    run(test)
