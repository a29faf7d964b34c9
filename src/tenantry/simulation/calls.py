"""One client request, from its coming to its end, as the table of `domain/life.py` leads it.

What is decided is decided by `domain/`: lanes, till, standing, settlement. This file is the edge that `gateway/` is in
production: it asks, does what the answer says, and gives everything back on the way into ENDED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tenantry.domain.admission import Grant, Lane, Obstacle
from tenantry.domain.asked import MessageFields
from tenantry.domain.asks import BYTES_PER_TOKEN, Ask
from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Outcome
from tenantry.domain.holds import Short
from tenantry.domain.life import TABLE, Do, Event, State
from tenantry.domain.retry import ATTEMPTS_MAX, Failure, is_retryable
from tenantry.domain.settlement import Observed, Sent, Settlement, settle
from tenantry.domain.till import Money
from tenantry.domain.usage import Usage
from tenantry.simulation.clock import Timer
from tenantry.simulation.gateway import STREAM_LOOK_SECONDS, Client, Gateway, Wants
from tenantry.simulation.upstream import Job

# What a journal's write or the end of a pause may take (`gateway/outbound.py`).
PROMPT_SECONDS_MAX: Final = 15.0
# A body has its framing beside the prompt.
FRAME_BYTES: Final = 200
# English has about four characters a token.
CHARS_PER_TOKEN: Final = 4


class Unforeseen(Exception):
    """Something happened that the table has no cell for."""


class Attempt:
    """One request upstream."""

    __slots__ = (
        "begun_at",
        "first_us",
        "is_journalled",
        "is_open",
        "job",
        "money",
        "name",
        "number",
        "sent_at",
        "status",
    )

    def __init__(self, name: str, number: int, money: Money | None, now: float) -> None:
        self.name = name
        self.number = number
        self.money = money
        self.begun_at = now
        self.sent_at: float | None = None
        self.status: int | None = None
        self.first_us: int | None = None
        self.job: Job | None = None
        self.is_journalled = False
        self.is_open = True


class Call:
    """`ended` is called once, at its end. `reason`: why it was refused or failed, "" where it was served."""

    def __init__(self, gateway: Gateway, client: Client, wants: Wants, ended: Callable[[Call], None]) -> None:
        self.gateway = gateway
        self.client = client
        self.wants = wants
        self.name = gateway.next_id()
        self.came_at = self.ended_at = gateway.site.clock.now
        self.waited = 0.0
        self.blamed: Lane | None = None  # whose limit it waited for, or was refused by
        self.blamed_limit = ""
        self.state = State.READING
        self.reason = ""
        self.attempts = 0
        self.cost_nanos = 0
        self.ask: Ask | None = None
        self.attempt: Attempt | None = None
        self.failure = Failure(None)
        self._ended = ended
        self._deadline: Timer | None = None
        self._look: Timer | None = None
        self._started_at = 0.0
        self._delay = 0.0
        cap = client.tenant.limits.max_tokens_cap
        most = wants.max_tokens if cap is None else min(wants.max_tokens, cap)
        self.fields = MessageFields(wants.model, most, wants.is_stream, wants_1h=False, is_simple=True)
        self.body_bytes = wants.prompt_tokens * BYTES_PER_TOKEN + FRAME_BYTES
        self.answer_tokens = min(wants.answer_tokens, most)
        gateway.calls[self] = None

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
        self._stop(self._deadline, self._look)
        if self.attempt is not None and self.attempt.job is not None:
            self._organization.cut(self.attempt.job)
        self.reason = "gateway_died"
        self._tell_end()

    @property
    def _organization(self) -> Any:
        return self.gateway.site.organizations[self.client.organization]

    @property
    def _now(self) -> float:
        return self.gateway.site.clock.now

    def _expect(self, seconds: float) -> None:
        self._stop(self._deadline)
        self._deadline = self.gateway.call_later(seconds, self._on_overdue)

    def _on_overdue(self) -> None:
        if self.state in (State.CONNECTING, State.SENT):
            self.reason, self.failure = "upstream_timeout", Failure(None)
            self.gateway.standing(self.client.credential).breaker.failed(self._now)
        elif self.state is State.JOURNALLING:
            self.reason = "journal_unavailable"
        self.on(Event.OVERDUE)

    @staticmethod
    def _stop(*timers: Timer | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()

    # Deciding

    def _admit(self) -> None:
        client, gateway = self.client, self.gateway
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
        for whose in (self.client.tenant.tenant_id, self.client.credential.upstream.upstream_id):
            self.gateway.turns[whose] += 1
        if not standing.breaker.may_send(now):
            self.reason = "upstream_down"
            self.on(Event.REFUSE)
            return
        money = self._hold()
        if money is None:
            self.on(Event.REFUSE)
            return
        standing.sent(now)
        self._go(money)

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
        self.attempts += 1
        self.attempt = Attempt(f"att_{self.name}_{self.attempts}", self.attempts, money, self._now)
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
        site, standing = self.gateway.site, self.gateway.standing(self.client.credential)
        delay = standing.pause(
            self.failure, self.attempts, ATTEMPTS_MAX, self._now - self._started_at, site.random.random(), self._now
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
        attempt, client = self.attempt, self.client
        assert attempt is not None and attempt.money is not None  # noqa: S101, PT018 -- it has just been made
        money, bound = attempt.money, attempt.money.bound
        self._expect(PROMPT_SECONDS_MAX)
        if self.gateway.journal is None:
            self._on_journalled(attempt, True)
            return
        self.gateway.write_begin(
            AttemptBegun(
                attempt.name,
                f"req_{self.name}",
                client.tenant.tenant_id,
                client.key.key_id,
                client.credential.credential_id,
                client.credential.upstream.upstream_id,
                self.fields.model,
                self.fields.stream,
                money.at_us,
                bound.nanos,
                output_nanos=bound.output_nanos,
                output_tokens=bound.output_tokens,
                output_tokens_max=bound.output_tokens_max,
            ),
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

    # What comes back

    def on_answer(
        self, attempt: Attempt, status: int, fields: Mapping[bytes, bytes], retry_after: float | None
    ) -> None:
        attempt.status = status
        attempt.first_us = self.gateway.wall.now_us()
        self.gateway.standing(self.client.credential).answered(self._now, status, attempt.number)
        if fields and (status == 429 or status == 200):
            pause = retry_after if status == 429 else None
            self.gateway.learn(self.client.credential, self.fields.model, fields, pause)
        if self.state is State.DRAINING:
            return
        if is_retryable(status):
            self.failure = Failure(status, retry_after)
            self.reason = f"upstream_{status}"
            self.on(Event.FAULT)
            return
        self.on(Event.HEAD)

    def _relay(self) -> None:
        self._stop(self._deadline)
        attempt = self.attempt
        if attempt is None or attempt.money is None or not self.fields.stream:
            return
        money, at_us = attempt.money, self.gateway.wall.now_us()
        fits = money.started(self.fields.model, self._usage(0), at_us, self._now)
        self._write_progress(attempt)
        self.gateway.lanes.settled(self._granted, self.wants.prompt_tokens - self.wants.cached_tokens, 0)
        if not fits:
            self._fall_short()
        elif money.is_held or self.gateway.journal is not None:
            self._look_later()

    def _look_later(self) -> None:
        self._look = self.gateway.call_later(STREAM_LOOK_SECONDS * 4, self._look_at_stream)

    def _look_at_stream(self) -> None:
        attempt = self.attempt
        if attempt is None or attempt.money is None or self.state not in (State.RELAYING, State.DRAINING):
            return
        produced = self._produced(attempt)
        fits = attempt.money.produced(produced * CHARS_PER_TOKEN, 0, self.gateway.wall.now_us(), self._now)
        if fits is False:
            self._fall_short()
            return
        if fits:
            self._write_progress(attempt)
        self._look_later()

    def _fall_short(self) -> None:
        self.reason = "budget_midstream"
        self.on(Event.SHORT)

    def _produced(self, attempt: Attempt) -> int:
        return self._organization.produced(attempt.job) if attempt.job is not None else 0

    def _write_progress(self, attempt: Attempt) -> None:
        if self.gateway.journal is not None and attempt.money is not None:
            usage = self._usage(self._produced(attempt) * CHARS_PER_TOKEN // 2)
            self.gateway.write_progress(
                AttemptProgress(attempt.name, self.fields.model, usage, None, attempt.money.held_nanos)
            )

    def _usage(self, output_tokens: int) -> Usage:
        wants = self.wants
        return Usage(
            input_tokens=wants.prompt_tokens - wants.cached_tokens,
            cache_read_tokens=wants.cached_tokens,
            output_tokens=output_tokens,
        )

    def on_whole(self, attempt: Attempt) -> None:
        if self.state is State.HELD_BACK:
            self.on(Event.END)
            return
        self._settle(None, self._seen(complete=True))
        self.on(Event.END)

    def on_broken(self, reason: str) -> None:
        self.reason = reason
        self.failure = Failure(None)
        self.gateway.standing(self.client.credential).breaker.failed(self._now)
        self.on(Event.BROKEN)

    def _drain(self) -> None:
        self._expect(120.0)

    # Settling

    def _seen(self, *, complete: bool) -> Observed:
        attempt = self.attempt
        assert attempt is not None  # noqa: S101 -- it is being settled
        is_started = attempt.status == 200
        produced = self.answer_tokens if complete else self._produced(attempt)
        told = produced if complete else 0
        return Observed(
            self.fields.model if is_started else None,
            "end_turn" if complete else None,
            self._usage(told) if is_started and (complete or self.fields.stream) else Usage(),
            "",
            content_empty=produced == 0,
            started=is_started and (complete or self.fields.stream),
            complete=complete and is_started,
            failed=None,
            estimated_output_tokens=produced * CHARS_PER_TOKEN // 2 if is_started else 0,
            is_final=complete and is_started,
        )

    def _settle(self, error: str | None, seen: Observed) -> None:
        attempt = self.attempt
        self._stop(self._look)
        if attempt is None or not attempt.is_open:
            return
        attempt.is_open = False
        if attempt.job is not None:
            self._organization.cut(attempt.job)
        money = attempt.money
        if not attempt.is_journalled:
            if money is not None:
                money.give_back()
            return
        booked = self._book(attempt, seen)
        if booked is not None:
            self._write_end(attempt, error, seen, booked)

    def _book(self, attempt: Attempt, seen: Observed) -> Settlement | None:
        money, gateway = attempt.money, self.gateway
        if money is None:
            return None
        at_us, held = gateway.wall.now_us(), money.held_nanos
        if attempt.sent_at is not None and not (seen.started or seen.complete):
            held = money.nanos_by_now(False, self._now)
        produced = (
            money.produced_tokens(seen.estimated_output_tokens * 2, seen.usage.output_tokens, self._now)
            if self.fields.stream and seen.started
            else 0
        )
        sent = Sent(
            self.fields.model,
            attempt.status,
            attempt.sent_at is not None,
            held,
            produced,
            self.fields.output_tokens_max,
            not self.fields.stream,
            self.fields,
        )
        booked = settle(sent, seen, gateway.till.prices, at_us)
        if not gateway.faults.has("settle-without-releasing"):
            money.book(booked, at_us)
        else:
            for account in gateway.till.accounts_of(self.client.tenant, self.client.key):
                account.spend(booked.cost_nanos or 0, at_us)
        if booked.outcome is Outcome.SETTLED:
            money.history.learn(booked.usage.output_tokens, booked.usage.prompt_tokens, self.body_bytes)
        self.cost_nanos += booked.cost_nanos or 0
        usage = booked.usage
        gateway.lanes.settled(self._granted, usage.input_tokens, usage.output_tokens)
        return booked

    def _write_end(self, attempt: Attempt, error: str | None, seen: Observed, booked: Settlement | None) -> None:
        self.gateway.write_end(
            AttemptEnded(
                attempt.name,
                self.gateway.wall.now_us(),
                attempt.first_us,
                attempt.status,
                booked.outcome if booked is not None else Outcome.VOIDED,
                seen.model,
                seen.stop_reason,
                booked.usage if booked is not None else Usage(),
                "",
                booked.cost_nanos if booked is not None else 0,
                booked.price_version if booked is not None else None,
                None,
                error,
            )
        )

    @property
    def _granted(self) -> Ask:
        assert self.ask is not None  # noqa: S101 -- it has had its turn
        return self.ask

    # The end

    def _end(self, do: Do) -> None:
        self._stop(self._deadline, self._look)
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
    """Hears an attempt's answer for its call, until that has done with it."""

    __slots__ = ("_attempt", "_call")

    def __init__(self, call: Call, attempt: Attempt) -> None:
        self._call = call
        self._attempt = attempt

    def on_connected(self) -> None:
        if self._attempt.is_open:
            self._call.on(Event.CONNECTED)

    def on_answer(self, status: int, fields: Mapping[bytes, bytes], retry_after: float | None) -> None:
        if self._attempt.is_open:
            self._call.on_answer(self._attempt, status, fields, retry_after)

    def on_end(self) -> None:
        if self._attempt.is_open:
            self._call.on_whole(self._attempt)

    def on_broken(self, reason: str) -> None:
        if self._attempt.is_open:
            self._call.on_broken(reason)


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
    )
}
