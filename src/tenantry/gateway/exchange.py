"""One client request, from its head to its settled end: does what `domain/life.py` says (DESIGN section 4).

`on` looks an event up in the table, takes the next state and does what the cell asks for. The way that nearly every
request takes runs straight through `start`, `on_journalled` and `on_whole` or `on_head`: its states are those of the
same table, looked up when this module is loaded (`_straight`). Everything runs in event-loop callbacks; no task and no
future is made for a request. Decisions look, and what they decide is taken in one place, when the attempt goes out.
`_end` and `on_whole` are the ways out: they settle, answer and give back, in this order, whatever has happened.

An exchange outlives its client: when the client leaves, the upstream's answer is read on, so that the bill is exact.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import ClassVar, Final

from tenantry.domain.admission import Grant, Obstacle
from tenantry.domain.directory import Credential, Disconnect
from tenantry.domain.errors import (
    ApiError,
    JournalDown,
    NotReady,
    TooManyBodies,
    UpstreamBroken,
    UpstreamDown,
    UpstreamTimedOut,
)
from tenantry.domain.holds import Short
from tenantry.domain.life import TABLE, Do, Event, State
from tenantry.domain.retry import Failure, is_retryable, read_failure, read_retry_after
from tenantry.domain.settlement import Settlement
from tenantry.domain.usage import Usage
from tenantry.gateway import replies
from tenantry.gateway.answer import Client, ClientAnswer, HeldAnswer, whole_answer
from tenantry.gateway.attempt import ANSWER_TOO_LARGE, Attempt, AttemptOwner
from tenantry.gateway.authentication import Principal
from tenantry.gateway.bodies import BESIDE_BYTES_MIN
from tenantry.gateway.caller import Caller
from tenantry.gateway.counting import Count
from tenantry.gateway.credentials import choose_credential, refuse_object_id
from tenantry.gateway.deadlines import NEVER
from tenantry.gateway.lanes import Ask
from tenantry.gateway.parts import Parts
from tenantry.gateway.replies import own_lines
from tenantry.gateway.request import BYTES_PER_TOKEN, Request, read_fields
from tenantry.gateway.tries import Tries
from tenantry.gateway.upstream import DROPPED_REUSED, INVALID, ResponseHead
from tenantry.wire.count_body import count_body
from tenantry.wire.inspect import MessageFields

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
# The client waits meanwhile; upstream counts in some hundred milliseconds.
COUNT_SECONDS_MAX = 10.0
# What should take no time at all (a journal's write, reading a body beside the loop, the end of a pause) may take this.
PROMPT_SECONDS_MAX = 15.0
# What a client is told when no answer came, by how the last attempt broke.
_NO_ANSWER: dict[str, type[ApiError]] = {
    "connect_failed": UpstreamDown,
    "upstream_dropped": UpstreamDown,
    DROPPED_REUSED: UpstreamDown,
    "timed_out": UpstreamTimedOut,
}
# What says that the upstream, and not the request, is at fault.
_UPSTREAMS_FAULTS = frozenset(_NO_ANSWER) - {DROPPED_REUSED}
# What the next answer would be too, and each may be billed: not asked for again under the same credential.
_LASTING_FAULTS = frozenset({INVALID, ANSWER_TOO_LARGE})


def _straight(state: State, event: Event, do: Do) -> State:
    """Where the table leads, for what is done without looking there: `do` is what stands in its cell."""
    cell = TABLE[state][event]
    if cell is None or cell.do is not do:
        raise AssertionError(f"the table says something else of {event.name} in {state.name}")
    return cell.to


# To look up a member of an enumeration takes CPython 3.11 longer than a call; these are on every request's way.
_READ: Final = Event.READ
_GO: Final = Event.GO
_LAST_STEP: Final = Do.DRAIN
_FINISH: Final = Do.FINISH
_READING: Final = State.READING
_DECIDING: Final = _straight(State.READING, Event.READ, Do.ADMIT)
_JOURNALLING: Final = _straight(_DECIDING, Event.GO, Do.JOURNAL)
_CONNECTING: Final = _straight(_JOURNALLING, Event.WRITTEN, Do.CONNECT)
_SENT: Final = _straight(_CONNECTING, Event.CONNECTED, Do.EXPECT)
_RELAYING: Final = _straight(_SENT, Event.HEAD, Do.RELAY)
_ENDED: Final = _straight(_RELAYING, Event.END, Do.FINISH)
_HELD_BACK: Final = State.HELD_BACK


class Unforeseen(Exception):
    """An event came in a state that has no cell for it."""


class Exchange(AttemptOwner):
    """`started`: the client has been sent the head of its answer. `strict` is set by tests: unforeseen events raise."""

    __slots__ = (
        "_answer",
        "_ask",
        "_attempt",
        "_client",
        "_credential",
        "_error",
        "_is_flowing",
        "_parts",
        "_reason",
        "_stop_waiting",
        "_tries",
        "state",
    )

    strict: ClassVar[bool] = False

    def __init__(self, parts: Parts, client: Client, caller: Caller, principal: Principal, body: bytes) -> None:
        Request.__init__(self, caller, principal, body)
        self._parts = parts
        self._client: Client | None = client
        self.state = _READING
        self._ask: Ask | None = None
        self._credential: Credential | None = None  # that its first attempt goes out under
        self._attempt: Attempt | None = None
        self._tries: Tries | None = None  # where the first attempt is not all
        self._stop_waiting: Callable[[], None] | None = None  # for a count, or for the end of a pause
        self._answer: ClientAnswer | None = None  # from when the upstream's is on its way to the client
        self._is_flowing = False  # bytes of the answer have come since its deadline was set
        self._error: ApiError | None = None  # what the client is told, where it is told by the gateway
        self._reason = ""  # what the ledger says of an attempt that is ended from here

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

    def _refuse(self, error: ApiError, reason: str = "") -> None:
        self._error, self._reason = error, reason or error.reason or error.error_type
        self.on(Event.REFUSE)

    def _expect(self, seconds: float) -> None:
        """The state has to pass within `seconds`."""
        self._expect_by(self._parts.clock.now() + seconds)

    def _expect_by(self, at: float) -> None:
        """The state has to pass until then, in seconds of the loop."""
        self.deadline = at
        client = self._client
        if client is None:
            self._parts.deadlines.set(self, at)
        elif at < client.watched_at:
            self._parts.deadlines.set(client, at)
        else:
            client.deadline = at

    # Reading

    def start(self, now: float) -> None:
        """The request is whole, and has come `now`."""
        parts, client, caller = self._parts, self._client, self.caller
        self.came_at = now
        parts.population.served.add(self)
        if client is not None:
            parts.tallies.used(self.principal.key.key_id, client.peer, caller.agent)
        try:
            if caller.is_inspected:
                if self.body_bytes >= BESIDE_BYTES_MIN:
                    self._read_beside()
                    return
                self.fields = read_fields(caller, self.body)
            self.state = _DECIDING
            self._admit(now)
        except ApiError as error:
            self._refuse(error)
        except Exception:  # noqa: BLE001 -- it is logged and ended
            self._fail_safely()

    def _read_beside(self) -> None:
        """Read a large body beside the event loop."""
        self._expect(PROMPT_SECONDS_MAX)
        tenant_id = self.principal.tenant.tenant_id
        if not self._parts.bodies.read(tenant_id, self.body_bytes, self._read, self._on_read):
            self._refuse(TooManyBodies())

    def _read(self) -> MessageFields:
        """Beside the event loop. Raises: ApiError; who has left meanwhile costs nothing."""
        body = self.body
        if self.state is not State.READING:
            raise NotReady
        return read_fields(self.caller, body)

    def _on_read(self, found: MessageFields | Exception) -> None:
        if self.state is not State.READING:
            if not isinstance(found, NotReady):
                self._charge()  # it left while it was being read
            return
        if isinstance(found, ApiError):
            self._charge()
            self._refuse(found)
        elif isinstance(found, Exception):
            log.error("request %s: its body could not be read", self.request_id, exc_info=found, extra=self.named())
            self._refuse(NotReady("The gateway could not read this request."))
        else:
            self.fields = found
            self.on(_READ)

    def _charge(self) -> None:
        """A large body that is refused when it has been read counts as a request all the same."""
        principal = self.principal
        self._parts.lanes.charge(principal.tenant, principal.key, self.caller.is_metered)

    # Deciding

    def _admit_read(self) -> None:
        self._admit(self._parts.clock.now())

    def _admit(self, now: float) -> None:
        """Policies, the choice of a credential, the lanes."""
        parts, caller, principal, fields = self._parts, self.caller, self.principal, self.fields
        tenant = principal.tenant
        try:
            if parts.population.is_stopping:
                raise NotReady
            object_id = fields.object_id if fields is not None else None
            if fields is not None:
                if caller.has_policies:
                    self._apply_policies(fields)
                if not caller.is_metered:
                    self.fields = fields = None  # free: inspected, not metered
            may_probe = fields is not None and object_id is None
            credential = self._credential = choose_credential(parts.health, tenant, may_probe=may_probe)
            if object_id is not None:
                self.is_bound = True
                if credential.is_shared:
                    raise refuse_object_id(object_id)
        except ApiError as error:
            if self.body_bytes >= BESIDE_BYTES_MIN:
                self._charge()
            self._refuse(error)
            return
        if fields is None:
            ask = Ask(tenant, principal.key, None, "", 0, self._on_grant)
        else:
            known = caller.way
            if known is not None and known.credential is not credential:
                known = None
            tokens = self.body_bytes // BYTES_PER_TOKEN
            ask = Ask(tenant, principal.key, credential, fields.model, tokens, self._on_grant, known)
        self._ask = ask
        found = parts.lanes.ask(ask)
        if fields is not None:
            caller.way = ask.way
        if found is ask:
            self._have_turn()
            self._decide(now)
        elif found is None:
            ask.asked_at = now
            self._expect(tenant.limits.queue_wait_ms_max / 1000)
            self.on(Event.WAIT)
        elif isinstance(found, Obstacle):
            self._refuse(parts.telling.limit_refusal(found, principal))

    def _apply_policies(self, fields: MessageFields) -> None:
        """Raises: ApiError."""
        parts, principal = self._parts, self.principal
        self.body, self.warning = parts.policies.apply(
            principal.tenant,
            principal.key,
            parts.till.histories,
            parts.tallies,
            self.caller.head.fields,
            fields,
            self.body,
            parts.clock.wall_us(),
        )
        self.body_bytes = len(self.body)

    def _on_grant(self, _grant: Grant) -> None:
        """It had to wait, and its turn has come."""
        ask = self._ask
        if ask is not None:
            self.waited_us = max(1, int((self._parts.clock.now() - ask.asked_at) * 1_000_000))
        self._have_turn()
        self.on(Event.GRANTED)

    def _have_turn(self) -> None:
        client = self._client
        if client is not None and client.held_bytes:
            client.let_go()

    def _decide_again(self) -> None:
        self._cease_waiting()
        self._decide(self._parts.clock.now())

    def _decide(self, now: float) -> None:
        """The first attempt goes out, nearly always; where anything is in its way, `Tries` decides."""
        credential = self._credential
        if self._tries is None and credential is not None:
            parts = self._parts
            standing = parts.health.of(credential)
            if not standing.breaker.is_tripped and credential.credential_id not in parts.health.dead:
                money, fields = None, self.fields
                if fields is not None:
                    accounts = self.caller.accounts(parts, self.principal)
                    at_us = parts.clock.wall_us()
                    money = parts.till.hold(self.principal, accounts, fields, self.body_bytes, None, at_us, now)
                if not isinstance(money, Short):
                    standing.sent(now)
                    self._attempt = Attempt(parts, self, credential, standing, money, 1, now)
                    self.state = _JOURNALLING
                    self._expect_by(now + PROMPT_SECONDS_MAX)
                    self._attempt.journal()
                    return
        tries = self._tries_now()
        self._follow(tries, tries.first())

    def _tries_now(self) -> Tries:
        """What is tried for it: made when something is in the way of the first attempt, or that has failed."""
        tries = self._tries
        if tries is None:
            ask, credential, attempt = self._ask, self._credential, self._attempt
            assert ask is not None and credential is not None  # noqa: S101, PT018 -- admitted
            number, at = (attempt.number, attempt.begun_at) if attempt is not None else (0, 0.0)
            tries = self._tries = Tries(self._parts, self, ask, credential, number, at)
        return tries

    def _try_again(self) -> None:
        self._cease_waiting()
        tries = self._tries_now()
        self._follow(tries, tries.again())

    def _after_failure(self) -> None:
        tries = self._tries_now()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.close(self._reason)
        if self._parts.population.heir is not None:
            self.pass_on()  # another attempt would have to be held here, where nothing is counted any more
            return
        if self._reason == DROPPED_REUSED and tries.held is None and not tries.was_resent:
            self._follow(tries, tries.resend())
        else:
            if tries.failure is None and self._reason in _LASTING_FAULTS:
                tries.failure = Failure(None, should_retry=False)
            self._follow(tries, tries.after())

    def _follow(self, tries: Tries, event: Event) -> None:
        """Do what has been decided."""
        if event is _GO:
            tries.held = tries.failure = None
            parts, credential = self._parts, tries.credential
            standing, now = parts.health.of(credential), parts.clock.now()
            self._attempt = Attempt(
                parts, self, credential, standing, tries.money, tries.number, now, fresh=tries.wants_fresh
            )
            tries.money = None
        elif event is Event.REFUSE and tries.error is not None:
            self._error, self._reason = tries.error, tries.error.reason
        self.on(event)

    def _back_off(self) -> None:
        delay = self._tries_now().delay
        self._stop_waiting = self._parts.clock.call_later(delay, self._on_due).cancel
        self._expect(delay + PROMPT_SECONDS_MAX)

    def _on_due(self) -> None:
        self._stop_waiting = None
        self.on(Event.DUE)

    def _cease_waiting(self) -> None:
        stop, self._stop_waiting = self._stop_waiting, None
        if stop is not None:
            stop()

    # Counting

    def _ask_count(self) -> None:
        """Let the upstream count, which is free, and decide again."""
        fields, tries = self.fields, self._tries_now()
        if fields is not None:
            pool, head = self.caller.way_to_count(self._parts, self.principal, tries.credential)
            count = Count(self._on_count)
            self._stop_waiting = count.stop
            self._expect(COUNT_SECONDS_MAX)
            count.ask(pool, head, count_body(fields))

    def _on_count(self, tokens: int | None) -> None:
        self._stop_waiting = None
        self._tries_now().counted(tokens)
        self.on(Event.COUNTED)

    # Sending

    def _journal(self) -> None:
        self._expect(PROMPT_SECONDS_MAX)
        if self._attempt is not None:
            self._attempt.journal()

    def on_journalled(self, written: bool) -> None:
        if not written:
            self._error, self._reason = JournalDown(), "journal_unavailable"
            self.on(Event.UNWRITTEN)
        elif self.state is _JOURNALLING:
            self.state = _CONNECTING
            try:
                self._connect()
            except Exception:  # noqa: BLE001 -- it is logged and ended
                self._fail_safely()
        else:
            self.on(Event.WRITTEN)

    def _connect(self) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        now, upstream = self._parts.clock.now(), attempt.credential.upstream
        if self.came_at < NEVER:
            self._parts.tallies.added.add(int((now - self.came_at) * 1_000_000) - self.waited_us)
            self.came_at = NEVER
        if attempt.connect(now):
            self.state = _SENT
            self._expect_by(now + upstream.answer_seconds)
        else:
            self._expect_by(now + upstream.connect_seconds + PROMPT_SECONDS_MAX)

    def on_sent(self) -> None:
        self.on(Event.CONNECTED)

    def _expect_answer(self) -> None:
        attempt = self._attempt
        if attempt is not None:
            self._expect_by(attempt.sent_at + attempt.credential.upstream.answer_seconds)

    def on_stale(self) -> None:
        self.on(Event.STALE)

    # The answer

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
        standing, status = attempt.standing, head.status
        standing.breaker.answered(now, status)
        if status == 200 and attempt.number > 1:
            standing.retries.give_back()
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
        self._error = self._parts.telling.budget_interruption(money.short if money is not None else None)
        self._reason = "budget_reached"
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
        elif state is State.READING:
            self._error, self._reason = NotReady("The gateway could not read this request in time."), "not_ready"
        elif state is State.JOURNALLING:
            self._error, self._reason = JournalDown(), "journal_unavailable"
        elif state is State.RELAYING:
            self._error = UpstreamTimedOut("The upstream was silent for too long, or sent its answer too slowly.")
            self._reason = "timed_out"
        elif state is not State.BACKING_OFF:
            self._fail("timed_out")
        self.on(Event.OVERDUE)

    def _seconds_left(self) -> float:
        """For how long an answer that flows may go on before it is looked at again; 0 or less: no longer."""
        attempt = self._attempt
        if attempt is None or attempt.relay.is_stream:
            return ANSWER_IDLE_SECONDS_MAX
        return min(ANSWER_IDLE_SECONDS_MAX, attempt.sent_at + WHOLE_ANSWER_SECONDS_MAX - self._parts.clock.now())

    @property
    def is_waiting(self) -> bool:
        return self.state is State.WAITING

    @property
    def is_unsent(self) -> bool:
        """Whether nothing goes upstream for it at the moment: who closes its side now has left."""
        return self.state in (State.READING, State.WAITING, State.COUNTING, State.BACKING_OFF)

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

    def stop(self) -> None:
        if self.state in (State.READING, State.WAITING):
            self._error, self._reason = NotReady(), "gateway_stopping"
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
    )
]


def _counted_input(usage: Usage) -> int:
    """As reference section 6 counts: cache reads are free."""
    return usage.input_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
