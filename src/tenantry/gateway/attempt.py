"""One request sent upstream: journalled before its first byte leaves, watched, settled exactly once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Outcome
from tenantry.domain.charges import is_fast, is_plain
from tenantry.domain.directory import Credential
from tenantry.domain.plausible import could_be
from tenantry.domain.prompt_budget import saved_by_caching_nanos
from tenantry.domain.settlement import Observed, Sent, Settlement, owed_nanos, settle, settle_tokens
from tenantry.domain.standing import Standing
from tenantry.domain.till import Money
from tenantry.domain.usage import Usage
from tenantry.gateway.deadlines import NEVER
from tenantry.gateway.parts import Parts
from tenantry.gateway.relay import ANSWER_BYTES_MAX, MESSAGE, PLAIN, STREAM, UNSURE, Relay, is_event_stream
from tenantry.gateway.request import Request
from tenantry.gateway.upstream import (
    STALE,
    ConnectFailed,
    Connecting,
    ResponseHead,
    ResponseSink,
    UpstreamConnection,
)
from tenantry.ledger.templates import settled_line
from tenantry.wire.bytework import fill_line
from tenantry.wire.plain import plain_answer

# A stream tells how far it has come after so many characters; what it holds ahead is four times that (StreamMeter).
TELL_CHARS = 512

# An answer that is no stream, and larger than any that the API gives.
ANSWER_TOO_LARGE = "upstream_answer_too_large"

_SETTLED = Outcome.SETTLED


class AttemptOwner(Request):
    """The request that is told how its attempt goes. What comes last, `on_end` or `on_broken`, comes settled."""

    __slots__ = ()

    def on_journalled(self, written: bool) -> None:
        raise NotImplementedError

    def on_sent(self) -> None:
        raise NotImplementedError

    def on_stale(self) -> None:
        raise NotImplementedError

    def on_head(self, head: ResponseHead) -> None:
        raise NotImplementedError

    def on_whole(self, head: ResponseHead, body: bytes, input_tokens: int, output_tokens: int, at_us: int) -> None:
        """All of an answer that has been settled at `at_us`, in one: so many tokens count for limits."""
        raise NotImplementedError

    def on_chunk(self, data: bytes) -> None:
        """One whole chunk, as it came."""
        raise NotImplementedError

    def on_body(self, ready: bytes) -> None:
        raise NotImplementedError

    def on_flush(self) -> None:
        raise NotImplementedError

    def on_usage(self, usage: Usage) -> None:
        raise NotImplementedError

    def on_short(self) -> None:
        """The next step of the stream does not fit into the budget."""
        raise NotImplementedError

    def on_settled(self, booked: Settlement) -> None:
        raise NotImplementedError

    def on_end(self, rest: bytes | None) -> None:
        """The answer is whole; `rest` is what the relay still had, None when it cannot be ended well."""
        raise NotImplementedError

    def on_broken(self, reason: str) -> None:
        raise NotImplementedError


class Attempt(ResponseSink):
    """Receives the upstream's answer through its relay and hands it to its owner, until it is settled.

    `standing`: what is known of the credential at its upstream. `number`: of the attempts of its request, from 1.
    `now`: when it was decided on, seconds of the loop. `sent_at`: when it was sent; `NEVER`: it was not.
    `money` is that of a request that may cost something; None for free routes, which leave no row. `fresh`: not on a
    connection that was used before.
    """

    __slots__ = (
        "_answer_bytes",
        "_connecting",
        "_connection",
        "_fields",
        "_head",
        "_is_journalled",
        "_is_stale",
        "_owner",
        "_parts",
        "_request",
        "begun_at",
        "client_gone",
        "credential",
        "first_byte_at_us",
        "money",
        "number",
        "relay",
        "sent_at",
        "standing",
    )

    def __init__(
        self,
        parts: Parts,
        owner: AttemptOwner,
        credential: Credential,
        standing: Standing,
        money: Money | None,
        number: int,
        now: float,
        *,
        fresh: bool = False,
    ) -> None:
        self._parts = parts
        self._request = owner
        self._owner: AttemptOwner | None = owner  # None: it is settled, and nobody is told of it any more
        self._fields = owner.fields  # for it may have to be settled after its owner's end
        self.money = money
        self._connection: UpstreamConnection | None = None
        self._connecting: Connecting | None = None
        self._head: ResponseHead | None = None
        self.first_byte_at_us: int | None = None
        self._answer_bytes = 0  # of a body that is no stream
        self._is_journalled = False
        self._is_stale = fresh
        self.number = number
        self.begun_at = now
        self.sent_at = NEVER
        self.credential = credential
        self.standing = standing
        self.relay: Relay = PLAIN
        self.client_gone = False

    @property
    def attempt_id(self) -> str:
        return f"att_{self._request.name.decode()}_{self.number}"

    # What the owner asks

    def journal(self) -> None:
        """Write the beginning; the owner is told when it stands in the journal. What is free is not written."""
        request, money, fields, credential = self._request, self.money, self._fields, self.credential
        if money is None or fields is None:
            request.on_journalled(True)
            return
        principal = request.principal
        waited_us, traceparent = request.waited_us, request.caller.traceparent
        if fields.speed is None and fields.inference_geo is None and not waited_us and traceparent is None:
            name, bound = request.name, money.bound
            template = request.caller.begin_template(principal, credential, fields.model, fields.stream)
            self._parts.recorder.begin(
                fill_line(
                    template,
                    name,
                    self.number,
                    name,
                    money.at_us,
                    bound.nanos,
                    bound.output_nanos,
                    bound.output_tokens,
                    bound.output_tokens_max,
                ),
                self._on_journalled,
            )
            return
        self._parts.recorder.begin_event(
            AttemptBegun(
                self.attempt_id,
                request.request_id,
                principal.tenant.tenant_id,
                principal.key.key_id,
                credential.credential_id,
                credential.upstream.upstream_id,
                fields.model,
                fields.stream,
                money.at_us,
                money.bound.nanos,
                fields.speed or "standard",
                fields.inference_geo or "global",
                money.bound.output_nanos,
                money.bound.output_tokens,
                money.bound.output_tokens_max,
                waited_us if waited_us and self.number == 1 else None,
                traceparent,
            ),
            self._on_journalled,
        )

    def _on_journalled(self, written: bool) -> None:
        self._is_journalled = written
        owner = self._owner
        if owner is not None:
            owner.on_journalled(written)
        elif written:  # the owner left in the meantime: the beginning gets its end
            self._end("not_sent", self.relay.observed())

    def connect(self, now: float) -> bool:
        """Send on an idle connection, or make one: always where an idle one turned out to have been closed.

        True: it has been sent, and the owner is not told of that. `now`: seconds of the loop.
        """
        request = self._request
        body = request.body
        pool, head = request.caller.way_up(self._parts, request.principal, self.credential, len(body))
        connection = None if self._is_stale else pool.take()
        if connection is None:
            self._connecting = pool.connect(self._on_connected)
            return False
        self._connection = connection
        self.sent_at = now
        connection.send(self, head, body)
        return True

    def _on_connected(self, made: UpstreamConnection | ConnectFailed) -> None:
        self._connecting = None
        if isinstance(made, ConnectFailed):
            self._break("connect_failed")
        else:
            request, owner = self._request, self._owner
            if owner is None:
                made.close()
                return
            _, head = request.caller.way_up(self._parts, request.principal, self.credential, len(request.body))
            self._connection = made
            self.sent_at = self._parts.clock.now()
            made.send(self, head, request.body)
            owner.on_sent()

    def pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def close(self, reason: str) -> None:
        """End it from the owner's side, unless it has ended. The owner is told of the settlement and nothing else."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None
        self._settle(reason)

    def look(self) -> None:
        """Time counts beside characters: thinking may be hidden from a stream, and is billed."""
        if self.relay.has_started:
            self._count()

    # What the upstream's connection tells

    def on_head(self, head: ResponseHead) -> None:
        self._head = head
        self.first_byte_at_us = self._parts.clock.wall_us()
        asked = self._fields
        if 200 <= head.status < 300 and self.money is not None and asked is not None:
            # What was asked decides first: a label that lies must not make an answer unreadable, and so dear.
            kind = MESSAGE
            if asked.stream:
                kind = STREAM if is_event_stream(head.content_type) else UNSURE
            self.relay = Relay(kind, asked.wants_1h, asked.stream)
        if not self.relay.is_stream and head.length is not None and head.length > ANSWER_BYTES_MAX:
            self._leave_answer()
        elif self._owner is not None:
            self._owner.on_head(head)

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self._connection = None  # it is idle again, and may be another's by the end of this
        if self._owner is not None and not self._finish_plainly(head, body):
            super().on_whole(head, body)

    def _finish_plainly(self, head: ResponseHead, body: bytes) -> bool:
        """Settle an answer that is whole and plain, and hand it over: nearly every one that is no stream.

        False: it is another one, and nothing has been done. What is written and counted here, `_settle` would write and
        count alike (`test_straight.py`).
        """
        request, money, fields = self._request, self.money, self._fields
        if (
            money is None
            or fields is None
            or head.status != 200
            or fields.stream
            or fields.is_cached_here
            or self.client_gone
            or not self._is_journalled
        ):
            return False
        answer = plain_answer(body, fields.wants_1h)
        if answer is None:
            return False
        parts, (model, reason, counts, usage) = self._parts, answer
        at_us = parts.clock.wall_us()
        cost = settle_tokens(counts, model, reason, fields.output_tokens_max, parts.prices, at_us)
        if cost is None:
            return False
        self._owner = None
        fresh, write_5m, write_1h, read, output, _ = counts
        told = head.request_id
        counted = fresh + write_5m + write_1h
        money.book_settled(cost, output, counted + read, request.body_bytes, at_us)
        parts.recorder.end(
            settled_line(
                request.name,
                self.number,
                at_us,
                at_us,
                model,
                reason,
                counts,
                usage,
                cost,
                parts.prices.version,
                told.decode("latin-1") if told else None,
            )
        )
        request.on_whole(head, body, counted, output, at_us)
        return True

    def on_chunk(self, data: bytes) -> bool:
        relay, owner = self.relay, self._owner
        observer = relay.observer
        if observer is None or owner is None:
            return False
        chars = observer.count_chunk(data)
        if chars < 0:
            return False
        observer.delta_chars = chars = observer.delta_chars + chars
        owner.on_chunk(data)
        if chars >= relay.told_chars:
            relay.told_chars = chars + TELL_CHARS
            self._count()
        return True

    def on_body(self, data: bytes) -> None:
        owner = self._owner
        if owner is None:
            return
        relay = self.relay
        observer = relay.observer
        if observer is None:
            self._answer_bytes += len(data)
            if self._answer_bytes > ANSWER_BYTES_MAX:
                self._leave_answer()
                return
        ready = relay.feed(data) if observer is None else observer.feed(data)
        if relay.is_start_due and relay.has_started:
            self._tell_start(owner)
        if ready and self._owner is not None:
            owner.on_body(ready)
        if observer is not None and observer.delta_chars >= relay.told_chars:
            relay.told_chars = observer.delta_chars + TELL_CHARS
            self._count()

    def _leave_answer(self) -> None:
        """It is larger than any answer of the API."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        self._break(ANSWER_TOO_LARGE)

    def _tell_start(self, owner: AttemptOwner) -> None:
        """The usage that opens a stream: the prompt's cost is known from here on."""
        self.relay.is_start_due = False
        seen, money, fields = self.relay.observed(), self.money, self._fields
        if money is None or fields is None:
            return
        usage, _ = could_be(seen.usage, fields, seen.model)
        fits = money.started(seen.model, usage, self._parts.clock.wall_us(), self._parts.clock.now())
        self._journal_progress(seen, money)
        owner.on_usage(usage)
        if not fits:
            owner.on_short()

    def _count(self) -> None:
        """Hold more where what was produced asks for it, and write down how far the stream has come."""
        money, owner = self.money, self._owner
        if money is None or owner is None:
            return
        fits = money.produced(
            self.relay.chars, self.relay.told_output_tokens, self._parts.clock.wall_us(), self._parts.clock.now()
        )
        if fits:
            self._journal_progress(self.relay.observed(), money)
        elif fits is False:
            owner.on_short()

    def _journal_progress(self, seen: Observed, money: Money) -> None:
        """That is what a crash would leave of the stream."""
        usage, fields = seen.usage, self._fields
        if fields is not None:
            usage, _ = could_be(usage, fields, seen.model)
        if usage.output_tokens < seen.estimated_output_tokens:
            usage = replace(usage, output_tokens=seen.estimated_output_tokens)
        self._parts.recorder.progress(
            AttemptProgress(self.attempt_id, seen.model or "", usage, _id_of(self._head), money.held_nanos)
        )

    def on_flush(self) -> None:
        owner = self._owner
        if owner is None:
            return
        owner.on_flush()
        observer = self.relay.observer
        if observer is not None and observer.tells_usage:
            observer.tells_usage = False
            self._count_told()

    def _count_told(self) -> None:
        """A stream has told how far it has come, and goes on: that is owed, whatever it was thought to cost."""
        money, owner, fields, parts = self.money, self._owner, self._fields, self._parts
        if money is None or owner is None or fields is None:
            return
        seen, at_us = self.relay.observed(), parts.clock.wall_us()
        usage, _ = could_be(seen.usage, fields, seen.model)
        owed = owed_nanos(usage, seen.model or fields.model, parts.prices, at_us)
        fits = money.tell(owed, usage.output_tokens, at_us)
        if fits is not None:
            self._journal_progress(seen, money)
        if fits is False and not seen.is_final:  # what is whole is not cut for having been dear
            owner.on_short()

    def on_end(self) -> None:
        self._connection = None
        owner = self._owner
        if owner is not None:
            rest = self.relay.finish()
            self._settle(None)
            owner.on_end(rest)

    def on_broken(self, reason: str) -> None:
        self._connection = None
        owner = self._owner
        if reason == STALE and owner is not None:
            self._is_stale = True
            self.sent_at = NEVER
            owner.on_stale()
        else:
            self._break(reason)

    def _break(self, reason: str) -> None:
        owner = self._owner
        if owner is not None:
            self._settle(reason)
            owner.on_broken(reason)

    # The end

    def _settle(self, error: str | None) -> None:
        """Price what was seen, give the money back, write the end: once. Nothing is told to the owner after it."""
        owner, money = self._owner, self.money
        if owner is None:
            return
        self._owner = None
        if money is None:
            return
        seen = self.relay.observed()
        booked = self._end(error, seen) if self._is_journalled else None
        if booked is None:
            money.give_back()
        else:
            owner.on_settled(booked)

    def _end(self, error: str | None, seen: Observed) -> Settlement | None:
        """Settle, and write the end of what was begun."""
        money, fields, parts, head = self.money, self._fields, self._parts, self._head
        if money is None or fields is None:
            return None
        at_us = parts.clock.wall_us()
        held_nanos = set_aside_nanos = money.held_nanos
        was_sent, status = self.sent_at < NEVER, head.status if head is not None else None
        if was_sent and not (seen.started or seen.is_final or seen.complete):
            held_nanos = money.nanos_by_now(is_fast(fields), parts.clock.now())  # what is owed grows with time
        sent = Sent(
            fields.model,
            status,
            was_sent,
            held_nanos,
            money.produced_tokens(self.relay.chars, seen.usage.output_tokens, parts.clock.now())
            if self.relay.is_stream
            else 0,
            fields.output_tokens_max,
            not is_plain(fields) or not fields.stream,
            fields,
        )
        booked = settle(sent, seen, parts.prices, at_us)
        money.book(booked, at_us)
        if booked.outcome is _SETTLED:
            usage = booked.usage
            money.history.learn(usage.output_tokens, usage.prompt_tokens, self._request.body_bytes)
        parts.recorder.end_event(
            AttemptEnded(
                self.attempt_id,
                at_us,
                self.first_byte_at_us,
                status,
                booked.outcome,
                seen.model,
                seen.stop_reason,
                booked.usage,
                seen.usage_raw,
                booked.cost_nanos,
                booked.price_version,
                _id_of(head),
                error or seen.failed or ("client_gone" if self.client_gone else None),
                self._saved(seen.model, booked, at_us) if fields.is_cached_here else None,
                booked.basis,
                booked.flaws,
                set_aside_nanos if booked.cost_nanos is None else None,
            )
        )
        return booked

    def _saved(self, model: str | None, booked: Settlement, at_us: int) -> int | None:
        """What the cache breakpoint that was added here has saved; below 0 for the write that begins it."""
        usage, at = booked.usage, datetime.fromtimestamp(at_us / 1_000_000, UTC)
        is_us = usage.inference_geo == "us"
        rates = self._parts.prices.rates(model or "", usage.prompt_tokens, at, speed=usage.speed, is_us=is_us)
        return None if rates is None else saved_by_caching_nanos(usage, rates)


def _id_of(head: ResponseHead | None) -> str | None:
    """What the upstream calls its answer."""
    return head.request_id.decode("latin-1") if head is not None and head.request_id else None
