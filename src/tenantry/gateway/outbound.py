"""A client request on its way to an upstream: read, admitted, held for, written down and sent, or sent again.

What comes back, and how it all ends, is `gateway/exchange.py`'s.

The way that nearly every request takes runs straight through `start` and `on_journalled`: its states are those of the
table of `domain/life.py`, looked up when this module is loaded. Decisions look, and what they decide is taken in one
place, when the attempt goes out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tenantry.domain.admission import Grant, Obstacle
from tenantry.domain.asks import BYTES_PER_TOKEN, Ask
from tenantry.domain.directory import Credential
from tenantry.domain.errors import AnotherGateway, ApiError, JournalDown, NotReady, StoreAway, TooManyBodies
from tenantry.domain.holds import Short
from tenantry.domain.life import Do, Event, State, straight
from tenantry.domain.owners import WAIT_SECONDS_MAX, At, Cells
from tenantry.domain.retry import Failure
from tenantry.gateway.answer import Client
from tenantry.gateway.attempt import ANSWER_TOO_LARGE, Attempt, AttemptOwner
from tenantry.gateway.authentication import Principal
from tenantry.gateway.bodies import BESIDE_BYTES_MIN
from tenantry.gateway.caller import Caller
from tenantry.gateway.counting import Count
from tenantry.gateway.credentials import choose_credential, refuse_object_id
from tenantry.gateway.deadlines import NEVER
from tenantry.gateway.parts import Parts
from tenantry.gateway.request import Request, read_fields
from tenantry.gateway.tries import Tries
from tenantry.gateway.upstream import DROPPED_REUSED, INVALID
from tenantry.wire.count_body import count_body
from tenantry.wire.inspect import MessageFields

log = logging.getLogger("tenantry.gateway")

# The client waits meanwhile; upstream counts in some hundred milliseconds.
COUNT_SECONDS_MAX = 10.0
# What should take no time at all (a journal's write, reading a body beside the loop, the end of a pause) may take this.
PROMPT_SECONDS_MAX = 15.0
# What the next answer would be too, and each may be billed: not asked for again under the same credential.
_LASTING_FAULTS = frozenset({INVALID, ANSWER_TOO_LARGE})
# Of an attempt that was not sent: another gateway makes one in its place.
MOVED = "moved"

# To look up a member of an enumeration takes CPython 3.11 longer than a call; these are on every request's way.
_READ: Final = Event.READ
_GO: Final = Event.GO
_READING: Final = State.READING
_DECIDING: Final = straight(State.READING, Event.READ, Do.ADMIT)
_JOURNALLING: Final = straight(_DECIDING, Event.GO, Do.JOURNAL)
_CONNECTING: Final = straight(_JOURNALLING, Event.WRITTEN, Do.CONNECT)
_SENT: Final = straight(_CONNECTING, Event.CONNECTED, Do.EXPECT)


class Outbound(AttemptOwner):
    """The half of an exchange that goes upstream. `state` is moved by `on`, or on the straight way."""

    __slots__ = (
        "_ask",
        "_attempt",
        "_client",
        "_credential",
        "_error",
        "_parts",
        "_reason",
        "_stop_waiting",
        "_tries",
        "state",
    )

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
        self._error: ApiError | None = None  # what the client is told, where it is told by the gateway
        self._reason = ""  # what the ledger says of an attempt that is ended from here

    def on(self, event: Event) -> None:
        """Something has happened."""
        raise NotImplementedError

    def pass_to(self, owner: At) -> None:
        """Another gateway grants for it, and goes on with it."""
        raise NotImplementedError

    def begin_anew(self) -> None:
        """As if it had just come: who grants for its tenant is looked for."""
        raise NotImplementedError

    def _fail_safely(self) -> None:
        """End it for the error that is being handled."""
        raise NotImplementedError

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
            if parts.population.is_stopping and not self._is_given():
                if parts.population.heir is not None:
                    self.pass_on()
                    return
                raise self._or_elsewhere(NotReady())
            cells = parts.cells
            if (
                cells is not None
                and cells.tenure.vouched.get(tenant.tenant_id) is not tenant
                and not self._is_ours(cells)
            ):
                return
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
            if cells is not None and credential is not tenant.credential and not cells.may_send(tenant, credential):
                raise AnotherGateway
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

    # Where several gateways serve

    def _is_ours(self, cells: Cells) -> bool:
        """Whether this gateway grants for the tenant; else it waits until that is known. Raises: ApiError."""
        tenant = self.principal.tenant
        if cells.may_admit(tenant):
            return True
        owner, client = cells.owner_of(tenant.tenant_id), self._client
        if isinstance(owner, At):
            if client is not None and not client.may_pass:
                raise AnotherGateway
            self.pass_to(owner)
            return False
        if not cells.has_lease:
            raise self._or_elsewhere(StoreAway())
        until = self.came_at + WAIT_SECONDS_MAX
        if self._parts.clock.now() >= until:
            raise StoreAway
        self._stop_waiting = cells.wait_for(tenant.tenant_id, self._on_claimed)
        self._expect_by(until)
        self.on(Event.CLAIM)
        return False

    def _or_elsewhere(self, error: ApiError) -> ApiError:
        """What refuses before anything was done: a gateway that has passed it on looks for one that grants by now."""
        client = self._client
        return AnotherGateway() if client is not None and not client.may_pass else error

    def _on_claimed(self) -> None:
        self._stop_waiting = None
        try:
            self.principal = self.caller.principal(self._parts)  # it may be another, after the wait
        except ApiError as error:
            self._error, self._reason = error, error.reason or error.error_type
            self.on(Event.CUT)
        else:
            self.on(Event.CLAIMED)

    def _ask_more(self) -> None:
        """More of the budget has to be taken before anything goes out: the store is asked, off this way."""
        cells = self._parts.cells
        if cells is not None:
            self._stop_waiting = cells.wait_for_more(self._on_raised)
            self._expect_by(self._tries_now().raises_until)

    def _on_raised(self) -> None:
        self._stop_waiting = None
        self.on(Event.RAISED)

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
                    money = parts.till.hold(self.principal.tenant, accounts, fields, self.body_bytes, None, at_us, now)
                if not isinstance(money, Short):
                    standing.sent(now)
                    self._attempt = Attempt(parts, self, credential, standing, money, 1, now)
                    self.state = _JOURNALLING
                    self._expect_by(now + PROMPT_SECONDS_MAX)
                    self._attempt.journal()
                    return
        tries = self._tries_now()
        self._follow(tries, tries.first())

    # Trying again

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
        if self._is_given():
            self.begin_anew()
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
        elif self._parts.cells is not None and not self._may_leave(self._parts.cells):
            if self._is_given() and self._attempt is not None:
                self._attempt.close(MOVED)
                self.begin_anew()
                return
            self._error, self._reason = StoreAway(), StoreAway.reason
            self.on(Event.UNWRITTEN)
        elif self.state is _JOURNALLING:
            self.state = _CONNECTING
            try:
                self._connect()
            except Exception:  # noqa: BLE001 -- it is logged and ended
                self._fail_safely()
        else:
            self.on(Event.WRITTEN)

    def _is_given(self) -> bool:
        """Whether another gateway of the site is to go on with it: its tenant's cell has moved."""
        cells = self._parts.cells
        return cells is not None and cells.has_given(self.principal.tenant.tenant_id)

    def _may_leave(self, cells: Cells) -> bool:
        """Whether this gateway still owns what the attempt was granted for, by a clock that is read now."""
        attempt = self._attempt
        return attempt is None or cells.may_send(self.principal.tenant, attempt.credential)

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
