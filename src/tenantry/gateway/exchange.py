"""One client request, from its head to its settled end: does what `domain/life.py` says (DESIGN section 4).

`on` looks an event up in the table, takes the next state and does what the cell asks for. How a request goes upstream
is `gateway/outbound.py`; here are its life, what comes back, and its end. The way that nearly every request takes runs
straight through `start`, `on_journalled` and `on_whole` or `on_head`: its states are those of the same table, looked
up when the modules are loaded. Everything runs in event-loop callbacks; no task and no future is made for a request.
`_end` and `on_whole` are the ways out: they settle, answer and give back, in this order, whatever has happened.

An exchange outlives its client: when the client leaves, the upstream's answer is read on, so that the bill is exact.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import ClassVar, Final

from tenantry.domain.directory import Disconnect
from tenantry.domain.errors import (
    ApiError,
    JournalDown,
    NotReady,
    StoreAway,
    UpstreamBroken,
    UpstreamDown,
    UpstreamTimedOut,
)
from tenantry.domain.holds import CEILING
from tenantry.domain.lanes import Ask
from tenantry.domain.life import TABLE, Do, Event, State, straight
from tenantry.domain.owners import At
from tenantry.domain.retry import is_retryable, read_failure, read_retry_after
from tenantry.domain.settlement import Settlement
from tenantry.domain.usage import Usage
from tenantry.gateway import replies
from tenantry.gateway.answer import Client, ClientAnswer, HeldAnswer, whole_answer
from tenantry.gateway.attempt import Attempt
from tenantry.gateway.authentication import Principal
from tenantry.gateway.caller import Caller
from tenantry.gateway.deadlines import NEVER
from tenantry.gateway.outbound import Outbound
from tenantry.gateway.parts import Parts
from tenantry.gateway.replies import own_lines
from tenantry.gateway.upstream import DROPPED_REUSED, ResponseHead

log = logging.getLogger("tenantry.gateway")

# Claude Code gives up after 300 s without bytes (reference 4.1); upstream pings well within that.
ANSWER_IDLE_SECONDS_MAX = 330.0
# From the sending to the last byte of an answer that is not streamed. SDKs reckon with 60 min for 128,000 tokens, the
# most that a message may have (reference 3.3), and a silent wait has its own, shorter bound. Streams have none.
WHOLE_ANSWER_SECONDS_MAX = 3600.0
# How long a stream is read on for the bill when its client has gone. What is not streamed has its answer's own time.
DRAIN_SECONDS_MAX = 60.0
# How long a client may take no byte of a waiting answer before it counts as gone.
CLIENT_STALL_SECONDS_MAX = 60.0
# What a client is told when no answer came, by how the last attempt broke.
_NO_ANSWER: dict[str, type[ApiError]] = {
    "connect_failed": UpstreamDown,
    "upstream_dropped": UpstreamDown,
    DROPPED_REUSED: UpstreamDown,
    "timed_out": UpstreamTimedOut,
}
# What says that the upstream, and not the request, is at fault.
_UPSTREAMS_FAULTS = frozenset(_NO_ANSWER) - {DROPPED_REUSED}

# As in `gateway/outbound.py`.
_LAST_STEP: Final = Do.ASK_MORE
_FINISH: Final = Do.FINISH
_SENT: Final = State.SENT
_RELAYING: Final = straight(_SENT, Event.HEAD, Do.RELAY)
_ENDED: Final = straight(_RELAYING, Event.END, Do.FINISH)
_HELD_BACK: Final = State.HELD_BACK
# Nothing goes upstream in these at the moment.
_UNSENT: Final = (
    State.READING,
    State.WAITING,
    State.COUNTING,
    State.BACKING_OFF,
    State.CLAIMING,
    State.RAISING,
)
# What these wait for is another gateway's to give, when their tenant's cell has moved.
_BEGIN_ANEW: Final = (State.WAITING, State.COUNTING, State.BACKING_OFF, State.RAISING)
# When the time of these has passed, nobody has failed: it is decided again.
_WITHOUT_FAULT: Final = (State.BACKING_OFF, State.RAISING)


class Unforeseen(Exception):
    """An event came in a state that has no cell for it."""


class Exchange(Outbound):
    """`started`: the client has been sent the head of its answer. `strict` is set by tests: unforeseen events raise."""

    __slots__ = ("_answer", "_is_flowing")

    strict: ClassVar[bool] = False

    def __init__(self, parts: Parts, client: Client, caller: Caller, principal: Principal, body: bytes) -> None:
        Outbound.__init__(self, parts, client, caller, principal, body)
        self._answer: ClientAnswer | None = None  # from when the upstream's is on its way to the client
        self._is_flowing = False  # bytes of the answer have come since its deadline was set

    # The life

    def on(self, event: Event) -> None:
        """Something has happened."""
        cell = TABLE[self.state][event]
        if cell is None:
            self._unforeseen(event)
            return
        self.state = cell.to
        do = cell.do
        try:
            if do > _LAST_STEP:
                self._end(do)
            else:
                _STEPS[do](self)
        except Exception:  # noqa: BLE001 -- it is logged and ended
            self._fail_safely()

    def _fail_safely(self) -> None:
        """End it for the error that is being handled: a fault of ours, which must not leave the client without an
        answer, nor the request with its session. Raises: that error, in tests.
        """
        if self.strict:
            raise
        log.exception("request %s failed in %s and is ended", self.request_id, self.state.name, extra=self.named())
        self._collapse()

    def _nothing(self) -> None:
        """The state says it all."""

    def _unforeseen(self, event: Event) -> None:
        problem = f"{event.name} in {self.state.name}"
        if self.strict:
            raise Unforeseen(problem)
        log.error("request %s: unforeseen %s; it is ended", self.request_id, problem, extra=self.named())
        self._collapse()

    def _collapse(self) -> None:
        """End it safely, whatever is wrong with it."""
        if self.state is not State.ENDED:
            self._error, self._reason = NotReady("The gateway lost track of this request. Try again."), "unforeseen"
            self.state = State.ENDED
            self._end(Do.INTERRUPT if self._answer is not None else Do.REFUSE)

    # The answer

    def on_sent(self) -> None:
        self.on(Event.CONNECTED)

    def _expect_answer(self) -> None:
        attempt = self._attempt
        if attempt is not None:
            self._expect_by(attempt.sent_at + attempt.credential.upstream.answer_seconds)

    def on_stale(self) -> None:
        self.on(Event.STALE)

    def on_whole(self, head: ResponseHead, body: bytes, input_tokens: int, output_tokens: int, at_us: int) -> None:
        attempt, ask, now = self._attempt, self._ask, self._parts.clock.now()
        assert attempt is not None and ask is not None  # noqa: S101, PT018 -- it was sent
        try:
            self._learn(attempt, head, now)
            self._parts.lanes.settled(ask, input_tokens, output_tokens)
            if self.state is not _SENT:
                self._unforeseen(Event.HEAD)
                return
        except Exception:  # noqa: BLE001 -- it is logged and ended
            self._fail_safely()
            return
        self.state = _ENDED
        client = self._client
        try:
            if client is not None:
                lines = own_lines(self._parts, self, self._ask, head.status, now, at_us)
                client.write(whole_answer(head, self.name, lines, client.keeps_alive, body))
                client.answered()
        except Exception:  # noqa: BLE001 -- it is logged and cut
            self._cut_what_cannot_be_told()
        finally:
            self._give_back()

    def _learn(self, attempt: Attempt, head: ResponseHead, now: float) -> None:
        """What the head of an answer says of the upstream, and of what it allows."""
        status = head.status
        attempt.standing.answered(now, status, attempt.number)
        if self._parts.health.dead and status == 200 and self.fields is not None:
            self._parts.health.paid(attempt.credential, attempt.begun_at)
        # Of what it allows only an answer tells, and a refusal for being too much: other errors may come from a proxy.
        if (status == 429 or (status == 200 and head.has_limits)) and self.fields is not None:
            pause = read_retry_after(head.fields, datetime.now(UTC)) if status == 429 else None
            self._parts.lanes.learn(attempt.credential, self.fields.model, head.fields, pause)

    def on_head(self, head: ResponseHead) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        if attempt.relay.is_stream:
            self._parts.population.streams.add(self)  # whoever listens: what it generates is held and booked
        self._learn(attempt, head, self._parts.clock.now())
        if head.status >= 300 and self._may_be_held(head):
            self._tries_now().held = HeldAnswer(head)
            self.on(Event.FAULT)
        elif self.state is _SENT:
            self.state = _RELAYING
            try:
                self._relay(head)
            except Exception:  # noqa: BLE001 -- it is logged and ended
                self._fail_safely()
        else:
            self.on(Event.HEAD)

    def _may_be_held(self, head: ResponseHead) -> bool:
        if head.status in (401, 402, 403):
            return self.principal.tenant.fallback is not None
        return is_retryable(head.status) or head.fields.get(b"x-should-retry") == b"true"

    def _hold_back(self) -> None:
        self._expect(ANSWER_IDLE_SECONDS_MAX)

    def _relay(self, head: ResponseHead) -> None:
        """From here on it is the client's answer; the request will not be sent again."""
        attempt, client, clock = self._attempt, self._client, self._parts.clock
        self.body = b""
        if self.fields is not None:
            self.fields.members = None  # they are slices of the body
        if client is None:
            return
        now = clock.now()
        if client.is_paused and attempt is not None:
            attempt.pause()  # it has not taken what it was given before
            self._expect_by(now + CLIENT_STALL_SECONDS_MAX)
        else:
            self._expect_by(now + ANSWER_IDLE_SECONDS_MAX)
        lines = own_lines(self._parts, self, self._ask, head.status, now, clock.wall_us())
        is_stream = attempt is not None and attempt.relay.is_stream
        answer = self._answer = ClientAnswer(client)
        answer.begin(head, self.name, lines, self.caller.head.http_1_0, may_grow=is_stream)

    def _release_held(self) -> None:
        tries = self._tries_now()
        held, tries.held = tries.held, None
        if held is not None:
            self._relay(held.head)
            if self._answer is not None:
                self._answer.body(held.body())

    def on_body(self, ready: bytes) -> None:
        if self.state is _RELAYING:
            self._is_flowing = True
            if self._answer is not None:
                self._answer.body(ready)
        elif self.state is _HELD_BACK:
            held = self._tries_now().held
            if held is not None and not held.add(ready):
                self.on(Event.OVERFLOW)

    def on_chunk(self, data: bytes) -> None:
        answer, client = self._answer, self._client
        if self.state is _RELAYING and answer is not None and client is not None:
            self._is_flowing = True
            transport = client.transport
            if answer.is_chunked and transport is not None and not answer.out:
                transport.write(data)
            else:
                answer.chunk(data)

    def on_flush(self) -> None:
        if self.state is _RELAYING and self._answer is not None:
            self._answer.flush()

    def on_usage(self, usage: Usage) -> None:
        if self._ask is not None:
            self._parts.lanes.correct_input(self._ask, _counted_input(usage))

    def on_short(self) -> None:
        money = self._attempt.money if self._attempt is not None else None
        short = money.short if money is not None else None
        self._error = self._parts.telling.budget_interruption(short)
        self._reason = "store_away" if short is not None and short.period == CEILING else "budget_reached"
        self.on(Event.SHORT)

    def on_settled(self, booked: Settlement) -> None:
        if self._ask is not None:
            self._parts.lanes.settled(self._ask, _counted_input(booked.usage), booked.usage.output_tokens)

    def on_end(self, rest: bytes | None) -> None:
        if self.state is _HELD_BACK:
            tries = self._tries_now()
            held = tries.held
            if held is not None:
                tries.failure = read_failure(held.head.status, held.head.fields, held.body(), datetime.now(UTC))
        elif self._answer is not None:
            if rest is None:
                self._answer.cut()
            else:
                self._answer.body(rest)
        self.on(Event.END)

    def on_broken(self, reason: str) -> None:
        self._fail(reason)
        self.on(Event.BROKEN)

    def _fail(self, reason: str) -> None:
        """No answer, or no more of it."""
        self._reason = reason
        attempt, tries = self._attempt, self._tries
        if reason in _UPSTREAMS_FAULTS and attempt is not None and (tries is None or tries.held is None):
            attempt.standing.breaker.failed(self._parts.clock.now())
        if tries is not None:
            tries.held = tries.failure = None
        if self.state is _RELAYING:
            self._error = UpstreamBroken("The connection to the upstream broke off before the message was complete.")
        else:
            self._error = _NO_ANSWER.get(reason, UpstreamBroken)()

    def look(self) -> None:
        """Deduct what a stream has produced so far, and hold more where time asks for it."""
        ask, attempt = self._ask, self._attempt
        if ask is None or attempt is None:
            return
        grant = ask.grant
        if grant is not None and grant.counts_output and attempt.relay.has_started:
            self._parts.lanes.produced(ask, (attempt.relay.chars + 3) // 4)
        attempt.look()

    # The client, the clock, the operator

    def client_gone(self) -> None:
        """The client left. Its answer is read on for the bill, or broken off (DESIGN 4.8)."""
        self._client = None
        if self._answer is not None:
            self._answer.lose_client()
        if self.state is State.ENDED:
            return
        if self._attempt is not None:
            self._attempt.client_gone = True
        # As it is set now, not as it was when the request began.
        own = self.principal.tenant
        tenant = self._parts.latest.snapshot.tenants.get(own.tenant_id, own)
        if tenant.disconnect is Disconnect.DRAIN:
            self._reason = "client_gone"
            self.on(Event.GONE)
        else:
            self._reason = "client_gone_cancelled"
            self.on(Event.GONE_CANCEL)

    def _drain(self) -> None:
        client, self._client = self._client, None
        if self._answer is not None:
            self._answer.lose_client()
        if client is not None:
            client.drop()  # it took no bytes
        now, attempt = self._parts.clock.now(), self._attempt
        until = now
        if attempt is not None:
            attempt.client_gone = True
            attempt.resume()
            if attempt.sent_at < NEVER:
                until = attempt.sent_at + attempt.credential.upstream.answer_seconds
        self._is_flowing = False
        is_stream = self.fields is not None and self.fields.stream
        self._expect_by(now + DRAIN_SECONDS_MAX if is_stream else max(now, until))

    def client_paused(self) -> None:
        if self.state is _RELAYING and self._attempt is not None:
            self._attempt.pause()
            self._expect(CLIENT_STALL_SECONDS_MAX)

    def client_resumed(self) -> None:
        if self.state is _RELAYING and self._attempt is not None:
            self._attempt.resume()
            self._expect(ANSWER_IDLE_SECONDS_MAX)

    def overdue(self) -> None:
        """The deadline has passed: whose fault it is depends on who was being waited for."""
        state, client = self.state, self._client
        if state is State.RELAYING and client is not None and client.is_paused:
            self._reason = "client_gone"
            self.on(Event.STALLED)
            return
        if self._is_flowing:  # something has come since the deadline was set
            self._is_flowing = False
            left = self._seconds_left()
            if left > 0.0:
                self._expect(left)
                return
        if state is State.WAITING:
            ask = self._ask
            if ask is not None:
                obstacle = self._parts.lanes.leave(ask)
                self._error = self._parts.telling.limit_refusal(obstacle, self.principal)
        elif state is State.CLAIMING:
            self._error, self._reason = StoreAway(), StoreAway.reason
        elif state is State.READING:
            self._error, self._reason = NotReady("The gateway could not read this request in time."), "not_ready"
        elif state is State.JOURNALLING:
            self._error, self._reason = JournalDown(), "journal_unavailable"
        elif state is State.RELAYING:
            self._error = UpstreamTimedOut("The upstream was silent for too long, or sent its answer too slowly.")
            self._reason = "timed_out"
        elif state not in _WITHOUT_FAULT:
            self._fail("timed_out")
        self.on(Event.OVERDUE)

    def _seconds_left(self) -> float:
        """For how long an answer that flows may go on before it is looked at again; 0 or less: no longer."""
        attempt = self._attempt
        if attempt is None or attempt.relay.is_stream:
            return ANSWER_IDLE_SECONDS_MAX
        return min(ANSWER_IDLE_SECONDS_MAX, attempt.sent_at + WHOLE_ANSWER_SECONDS_MAX - self._parts.clock.now())

    @property
    def model(self) -> str:
        return "" if self.fields is None else self.fields.model

    @property
    def is_waiting(self) -> bool:
        return self.state is State.WAITING

    def client_ended(self) -> bool:
        return not self.is_unsent

    @property
    def is_unsent(self) -> bool:
        """Whether nothing goes upstream for it at the moment: who closes its side now has left."""
        return self.state in _UNSENT

    @property
    def in_hand(self) -> tuple[Ask | None, Attempt | None]:
        """What it was given, and the attempt that it is in the middle of."""
        return self._ask, self._attempt

    def pass_on(self) -> None:
        client, body = self._client, self.body
        self.state = State.ENDED
        self._give_back()
        if client is not None:
            client.pass_on(body)

    def pass_to(self, owner: At) -> None:
        client, body = self._client, self.body
        self.state = State.ENDED
        self._give_back()
        if client is not None:
            client.pass_to(owner, body)

    def move_on(self) -> None:
        if self.state in _BEGIN_ANEW:
            self.begin_anew()

    def begin_anew(self) -> None:
        client, body = self._client, self.body
        self.state = State.ENDED
        self._give_back()
        if client is not None:
            client.take_back(body)

    def stop(self) -> None:
        if self.state in (State.READING, State.WAITING, State.CLAIMING):
            self._error, self._reason = self._or_elsewhere(NotReady()), "gateway_stopping"
        self.on(Event.STOP)

    def cut(self, reason: str, error: ApiError) -> None:
        self._error, self._reason = error, reason
        self.on(Event.CUT)

    # The end

    def _end(self, do: Do) -> None:
        """Settle, answer, give back: the way out for all but an answer that came whole (`on_whole`)."""
        attempt = self._attempt
        try:
            if attempt is not None:
                attempt.close(self._reason or "ended")
            if do is _FINISH:
                if self._answer is not None:
                    self._answer.finish()
            elif do is Do.INTERRUPT:
                self._interrupt()
            elif do is Do.LAST_ANSWER:
                self._tell_last_answer()
            elif do is Do.REFUSE:
                self._tell_refusal()
        except Exception:  # noqa: BLE001 -- it is logged and cut
            self._cut_what_cannot_be_told()
        finally:
            self._give_back()

    def _tell_refusal(self) -> None:
        if self._client is not None:
            replies.refuse(self._client, self._parts, self, self._ask, self._error)

    def _tell_last_answer(self) -> None:
        """The last answer of the upstream, or the gateway's own word for there being none."""
        client, tries = self._client, self._tries_now()
        is_final = tries.number > 1 or (tries.failure is not None and tries.failure.spend_cap)
        if tries.held is None:
            error = self._error = self._error or UpstreamBroken()
            if is_final:
                error.should_retry = False
            self._tell_refusal()
        elif client is not None:
            replies.tell_held(client, self._parts, self, self._ask, tries.held, is_final=is_final)

    def _interrupt(self) -> None:
        answer, attempt = self._answer, self._attempt
        if answer is not None:
            replies.interrupt(answer, attempt.relay if attempt is not None else None, self._error)

    def _cut_what_cannot_be_told(self) -> None:
        """Only a closed connection says that there is no answer. Raises: the error that is being handled, in tests."""
        if self.strict:
            raise
        log.exception("request %s could not be answered; its connection is closed", self.request_id, extra=self.named())
        if self._client is not None:
            self._client.cut()

    def _give_back(self) -> None:
        parts, ask, answer = self._parts, self._ask, self._answer
        # The wheel of deadlines may know this for some seconds yet; an error knows the frames that it came through.
        self._client = self._ask = self._attempt = self._tries = self._error = self.fields = None
        self.body = b""
        if answer is not None:
            self._answer = None
            answer.lose_client()
        if self._stop_waiting is not None:
            self._cease_waiting()
        parts.deadlines.forget(self)
        if ask is not None:
            if ask.queue is not None:
                parts.lanes.leave(ask)
            parts.lanes.release(ask)
        parts.population.leave(self)


# What the words of the table ask for, in their order (`Do`), but for those that end a life.
_STEPS: Final[list[Callable[[Exchange], None]]] = [
    getattr(Exchange, name)
    for name in (
        "_nothing",
        "_admit_read",
        "_decide_again",
        "_try_again",
        "_ask_count",
        "_journal",
        "_connect",
        "_expect_answer",
        "_nothing",  # RELAY: `on_head` has the head, and goes straight on
        "_release_held",
        "_hold_back",
        "_after_failure",
        "_back_off",
        "_drain",
        "_ask_more",
    )
]


def _counted_input(usage: Usage) -> int:
    """As reference section 6 counts: cache reads are free."""
    return usage.input_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
