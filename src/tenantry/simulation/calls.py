"""One client request, from its coming to its end, as the table of `domain/life.py` leads it.

What is decided is decided by `domain/`: lanes, till, standing, settlement. This file is the edge that `gateway/` is in
production: it asks, does what the answer says, and gives everything back on the way into ENDED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tenantry.domain.admission import Grant, Lane, Obstacle
from tenantry.domain.asks import BYTES_PER_TOKEN, Ask
from tenantry.domain.holds import CEILING, Short
from tenantry.domain.life import TABLE, Do, Event, State
from tenantry.domain.owners import WAIT_SECONDS_MAX, At
from tenantry.domain.retry import ATTEMPTS_MAX, Failure
from tenantry.domain.till import Money
from tenantry.simulation.answers import Answers
from tenantry.simulation.attempts import Attempt
from tenantry.simulation.gateway import Client, Gateway, Wants
from tenantry.simulation.owning import Owning
from tenantry.simulation.upstream import Job

# What a journal's write or the end of a pause may take (`gateway/outbound.py`).
PROMPT_SECONDS_MAX: Final = 15.0
# In these nothing of a request goes upstream at the moment, as in `gateway/exchange.py`.
UNSENT: Final = (
    State.READING,
    State.WAITING,
    State.COUNTING,
    State.BACKING_OFF,
    State.CLAIMING,
    State.RAISING,
)
# What a gateway answers another one that passed it a request which it does not grant for.
NOT_THE_OWNER: Final = "another_gateway"


class Unforeseen(Exception):
    """Something happened that the table has no cell for."""


class Call(Answers):
    """`ended` is called once, at its end. `reason`: why it was refused or failed, "" where it was served.

    `pass_to` goes on with it where another gateway grants; None: it was passed here, and is passed no further.
    """

    def __init__(
        self,
        gateway: Gateway,
        client: Client,
        wants: Wants,
        ended: Callable[[Call], None],
        pass_to: Callable[[Call, At], None] | None = None,
    ) -> None:
        super().__init__(gateway, client, wants)
        self.came_at = self.ended_at = gateway.surroundings.clock.now
        self.waited = 0.0
        self.claimed = 0.0  # seconds that it waited until it was known whose its tenant is
        self.blamed: Lane | None = None  # whose limit it waited for, or was refused by
        self.blamed_limit = ""
        self._ended = ended
        self._pass_to = pass_to
        self._stop_waiting: Callable[[], None] | None = None
        self._started_at = 0.0
        self._delay = 0.0
        self._raises_until: float | None = None
        self._has_had_turn = self._is_turn_told = False
        gateway.calls[self] = None

    @property
    def is_unsent(self) -> bool:
        """Nothing of it goes upstream at the moment."""
        return self.state in UNSENT

    # The table

    def on(self, event: Event) -> None:
        """Something has happened."""
        cell = TABLE[self.state][event]
        if cell is None:
            raise Unforeseen(f"{event.name} in {self.state.name} of {self.name}")
        self.state = cell.to
        if cell.to is State.ENDED:
            self._end(cell.do)
        else:
            step = _STEPS.get(cell.do)
            if step is not None:
                step(self)

    def start(self) -> None:
        self.on(Event.READ)

    def leave(self) -> None:
        """The client has gone."""
        if self.state is not State.ENDED:
            self.on(Event.GONE)

    def kill(self) -> None:
        """Its gateway's process is gone: nothing is given back, nothing written, the connection breaks."""
        self.state = State.ENDED
        self._cease()
        if self.attempt is not None and self.attempt.job is not None:
            self._organization.cut(self.attempt.job)
        self.reason = "gateway_died"
        self._tell_end()

    def _on_overdue(self) -> None:
        self._leave_waiting()
        if self.state in (State.CONNECTING, State.SENT):
            self.reason, self.failure = "upstream_timeout", Failure(None)
            self.gateway.standing(self.client.credential).breaker.failed(self._now)
        elif self.state is State.JOURNALLING:
            self.reason = "journal_unavailable"
        elif self.state is State.CLAIMING:
            self.reason = "store_away"
        self.on(Event.OVERDUE)

    def _leave_waiting(self) -> None:
        leave, self._stop_waiting = self._stop_waiting, None
        if leave is not None:
            leave()

    def _cease(self) -> None:
        """Nobody is waited for any more."""
        self._stop(self._deadline, self._look)
        self._leave_waiting()

    # Deciding

    def _admit(self) -> None:
        client, gateway = self.client, self.gateway
        if gateway.ownership is not None and not self._is_ours(gateway.ownership):
            return
        tokens = self.body_bytes // BYTES_PER_TOKEN
        ask = self.ask = Ask(client.tenant, client.key, client.credential, self.fields.model, tokens, self._on_grant)
        found = gateway.lanes.ask(ask)
        if found is ask:
            self._decide()
        elif isinstance(found, Obstacle):
            self._blame(found)
            self.reason = f"upstream.{found.limit}" if found.is_shared else found.limit
            self.on(Event.REFUSE)
        else:
            ask.asked_at = self._now
            self._blame(None)
            self.on(Event.WAIT)
            self._expect(client.tenant.limits.queue_wait_ms_max / 1000)

    # Where several gateways serve, as in `gateway/outbound.py`

    def _is_ours(self, ownership: Owning) -> bool:
        """Whether this gateway grants for the tenant; else it waits until that is known, or goes to who does."""
        tenant, cells = self.client.tenant, ownership.cells
        if ownership.may_admit(tenant):
            self.claimed = self._now - self.came_at
            return True
        owner = cells.owner_of(tenant.tenant_id)
        if isinstance(owner, At):
            if self._pass_to is None:
                self._refuse(NOT_THE_OWNER)
            else:
                self._cease()
                self.state = State.ENDED
                self.gateway.calls.pop(self, None)
                self._pass_to(self, owner)
        elif not cells.has_lease or self._now >= self.came_at + WAIT_SECONDS_MAX:
            self._refuse("store_away")
        else:
            self._stop_waiting = cells.wait_for(tenant.tenant_id, self._on_claimed)
            self._expect(self.came_at + WAIT_SECONDS_MAX - self._now)
            self.on(Event.CLAIM)
        return False

    def _refuse(self, reason: str) -> None:
        self.reason = reason
        self.on(Event.REFUSE)

    def _on_claimed(self) -> None:
        self._stop_waiting = None
        # The directory may say something else of the tenant, after the wait.
        self.client = self.gateway.clients.get(self.client.tenant.slug, self.client)
        self.on(Event.CLAIMED)

    def _ask_more(self) -> None:
        ownership, until = self.gateway.ownership, self._raises_until
        if ownership is not None and until is not None:
            self._stop_waiting = ownership.cells.wait_for_more(self._on_raised)
            self._expect(until - self._now)

    def _on_raised(self) -> None:
        self._stop_waiting = None
        self.on(Event.RAISED)

    def _may_leave(self) -> bool:
        ownership = self.gateway.ownership
        return ownership is None or ownership.may_send(self.client.tenant, self.client.credential)

    def _blame(self, found: Obstacle | None) -> None:
        """Remember which limit is in the way: what refused it, or holds it up for longest, or the others' shares."""
        ask = self.ask
        if ask is None or ask.way is None:
            return
        lanes = [lane for lane in (*ask.way.lanes, ask.way.shared.lane_of(ask.model)) if lane is not None]
        if found is not None:
            self.blamed = next((lane for lane in lanes if lane.scope is found.scope), None)
            self.blamed_limit = found.limit
            return
        longest: Obstacle | None = None
        for lane in lanes:
            here = lane.obstacle(ask.input_tokens, self._now)
            if here is not None and (longest is None or here.seconds > longest.seconds):
                longest, self.blamed, self.blamed_limit = here, lane, here.limit
        if self.blamed is None and ask.way.shared.capacity is not None:
            self.blamed, self.blamed_limit = ask.way.shared.capacity, "sessions_max"

    def _on_grant(self, _grant: Grant) -> None:
        ask = self.ask
        if ask is not None:
            self.waited = self._now - ask.asked_at
        self.on(Event.GRANTED)

    def _decide(self) -> None:
        """The first attempt, or why not."""
        self._stop(self._deadline)
        standing, now = self.gateway.standing(self.client.credential), self._now
        self._started_at = now
        if not self._has_had_turn:
            self._has_had_turn = True
            for whose in (self.client.tenant.tenant_id, self.client.credential.upstream.upstream_id):
                self.gateway.turns[whose] += 1
        if self._may_leave():
            self._tell_turn()
        if not standing.breaker.may_send(now):
            self.reason = "upstream_down"
            self.on(Event.REFUSE)
            return
        money = self._hold()
        if money is None:
            self.on(Event.RAISE if self._may_raise() else Event.REFUSE)
            return
        standing.sent(now)
        self._go(money)

    def _tell_turn(self) -> None:
        """It is granted, by a gateway that may; one whose lease has run out counts when it goes out all the same."""
        told = self.gateway.surroundings.on_turn
        if told is not None and not self._is_turn_told:
            self._is_turn_told = True
            told(self.gateway, self.client)

    def _may_raise(self) -> bool:
        """Whether the budget has the money, and as much of it was not taken beforehand, but may be yet."""
        if self.reason != f"budget_{CEILING}":
            return False
        if self._raises_until is None:
            self._raises_until = self._now + WAIT_SECONDS_MAX
        if self._now < self._raises_until:
            self.reason = ""
            return True
        self.reason = "store_away"
        return False

    def _hold(self) -> Money | None:
        gateway, client = self.gateway, self.client
        accounts = gateway.till.accounts_of(client.tenant, client.key)
        at_us = gateway.wall.now_us()
        found = gateway.till.hold(client.tenant, accounts, self.fields, self.body_bytes, None, at_us, self._now)
        if isinstance(found, Short):
            self.reason = f"budget_{found.period}"
            return None
        if gateway.faults.has("hold-skipped") and found.is_held:
            found.void()
            found.is_open, found.is_held = True, False
        return found

    def _go(self, money: Money) -> None:
        self.attempts_made += 1
        self.attempt = Attempt(f"att_{self.name}_{self.attempts_made}", self.attempts_made, money, self._now)
        self.on(Event.GO)

    def _try_again(self) -> None:
        self._stop(self._deadline)
        standing, now = self.gateway.standing(self.client.credential), self._now
        if not standing.may_send_again(now):
            self.on(Event.GIVE_UP)
            return
        money = self._hold()
        if money is None:
            self.on(Event.REFUSE)
            return
        standing.sent_again(now)
        self._go(money)

    def _after_failure(self) -> None:
        """Another attempt, later, or none."""
        self._stop(self._deadline)
        self._settle(self.reason, self._seen(complete=False))
        surroundings, standing = self.gateway.surroundings, self.gateway.standing(self.client.credential)
        delay = standing.pause(
            self.failure,
            self.attempts_made,
            ATTEMPTS_MAX,
            self._now - self._started_at,
            surroundings.random.random(),
            self._now,
        )
        if delay is None:
            self.on(Event.GIVE_UP)
            return
        self._delay = delay
        self.on(Event.AGAIN)

    def _back_off(self) -> None:
        self._stop(self._deadline)
        self._deadline = self.gateway.call_later(self._delay, lambda: self.on(Event.DUE))

    # Sending

    def _journal(self) -> None:
        attempt = self.attempt
        assert attempt is not None and attempt.money is not None  # noqa: S101, PT018 -- it has just been made
        self._expect(PROMPT_SECONDS_MAX)
        if self.gateway.journal is None:
            self._on_journalled(attempt, True)
            return
        self.gateway.write_begin(
            self._begun(attempt, attempt.money),
            lambda written: self._on_journalled(attempt, written),
        )

    def _on_journalled(self, attempt: Attempt, written: bool) -> None:
        attempt.is_journalled = written
        if not attempt.is_open:
            if written:  # its request left meanwhile: the beginning gets its end
                self._write_end(attempt, "not_sent", self._seen(complete=False), None)
            return
        if not written:
            self.reason = "journal_unavailable"
        elif not self._may_leave():
            written, self.reason = False, "store_away"
        else:
            self._tell_turn()
        self.on(Event.WRITTEN if written else Event.UNWRITTEN)

    def _connect(self) -> None:
        attempt, wants = self.attempt, self.wants
        assert attempt is not None  # noqa: S101 -- it stands in the journal
        self._expect(self.client.credential.upstream.connect_seconds)
        sink = _Sink(self, attempt)
        job = Job(attempt.name, sink, wants.prompt_tokens - wants.cached_tokens, self.answer_tokens)
        attempt.job = job
        self._organization.connect(job)

    def _expect_answer(self) -> None:
        attempt = self.attempt
        if attempt is not None:
            attempt.sent_at = self._now
        self._expect(self.client.credential.upstream.answer_seconds)

    # The end

    def _end(self, do: Do) -> None:
        self._cease()
        if do is Do.INTERRUPT and not self.reason:
            self.reason = "interrupted"
        if do is Do.LEAVE and not self.reason:
            self.reason = "client_gone"
        if do is Do.FINISH:
            self.reason = ""
        if self.attempt is not None and self.attempt.is_open:
            self._settle(self.reason or None, self._seen(complete=False))
        ask, lanes = self.ask, self.gateway.lanes
        if ask is not None:
            if ask.queue is not None:
                found = lanes.leave(ask)
                self.waited = self._now - ask.asked_at
                if not self.reason or self.reason == "client_gone":
                    self.reason = self.reason or (f"upstream.{found.limit}" if found.is_shared else found.limit)
            elif not self.gateway.faults.has("session-kept"):
                lanes.release(ask)
        self._tell_end()

    def _tell_end(self) -> None:
        self.ended_at = self._now
        self.gateway.calls.pop(self, None)
        self._ended(self)


class _Sink:
    """Hears an attempt's answer for its call, until that has done with it, and when its process runs."""

    __slots__ = ("_attempt", "_call")

    def __init__(self, call: Call, attempt: Attempt) -> None:
        self._call = call
        self._attempt = attempt

    def on_connected(self) -> None:
        self._hear(lambda: self._call.on(Event.CONNECTED))

    def on_answer(self, status: int, fields: Mapping[bytes, bytes], retry_after: float | None) -> None:
        self._hear(lambda: self._call.on_answer(self._attempt, status, fields, retry_after))

    def on_end(self) -> None:
        self._hear(lambda: self._call.on_whole(self._attempt))

    def on_broken(self, reason: str) -> None:
        self._hear(lambda: self._call.on_broken(reason))

    def _hear(self, call: Callable[[], None]) -> None:
        self._call.gateway.do(lambda: call() if self._attempt.is_open else None)


# As in `gateway/exchange.py`: a step of a call for what a cell of the table asks.
_STEPS: Final[dict[Do, Callable[[Call], None]]] = {
    do: getattr(Call, name)
    for do, name in (
        (Do.ADMIT, "_admit"),
        (Do.DECIDE, "_decide"),
        (Do.TRY_AGAIN, "_try_again"),
        (Do.JOURNAL, "_journal"),
        (Do.CONNECT, "_connect"),
        (Do.EXPECT, "_expect_answer"),
        (Do.RELAY, "_relay"),
        (Do.FAILED, "_after_failure"),
        (Do.BACK_OFF, "_back_off"),
        (Do.DRAIN, "_drain"),
        (Do.ASK_MORE, "_ask_more"),
    )
}
