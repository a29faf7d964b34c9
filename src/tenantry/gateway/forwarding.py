"""The way of one request to an upstream: its attempts, and the only place where one is made again (DESIGN 4.7).

An answer that may be tried again is held, 64 KiB at most, until it is known whether there is another attempt. Once a
byte has gone to the client, nothing is tried again.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from tenantry.domain.attempts import Outcome
from tenantry.domain.directory import Credential
from tenantry.domain.errors import (
    ApiError,
    JournalDown,
    UpstreamBroken,
    UpstreamDown,
    UpstreamTimedOut,
)
from tenantry.domain.holds import Short
from tenantry.domain.retry import (
    ATTEMPTS_MAX,
    Failure,
    is_retryable,
    next_delay,
    read_failure,
    read_retry_after,
    regain_at,
)
from tenantry.domain.settlement import Settlement
from tenantry.domain.usage import Usage
from tenantry.gateway.attempt import Attempt, Fields, Headers
from tenantry.gateway.authentication import Principal
from tenantry.gateway.calls import Call
from tenantry.gateway.counting import COUNT_SECONDS_MAX, Count
from tenantry.gateway.health import REFUSED_SECONDS
from tenantry.gateway.lanes import Ask
from tenantry.gateway.till import Reservation
from tenantry.wire.http1 import small_number
from tenantry.wire.inspect import MessageFields

if TYPE_CHECKING:
    from tenantry.gateway.core import Gateway

# An error answer is some hundred bytes; one that is larger is passed on as it comes.
HELD_BYTES_MAX = 64 * 1024

_jitter = random.Random()  # noqa: S311 -- spreads retries, keeps no secret

_BROKEN_BEFORE_HEAD: dict[str, type[ApiError]] = {
    "journal_unavailable": JournalDown,
    "connect_failed": UpstreamDown,
    "upstream_dropped": UpstreamDown,
    "upstream_invalid_http": UpstreamBroken,
    "timed_out": UpstreamTimedOut,
}
# What says that the upstream, and not the request, is at fault, so that another attempt may go well.
_TRIED_AGAIN = frozenset({"connect_failed", "upstream_dropped", "timed_out"})


class AnswerSink(Protocol):
    """Who passes the answer on to the client. `refuse` comes in place of an answer."""

    @property
    def has_client(self) -> bool: ...
    def on_head(self, status: int, headers: Headers, fields: Fields) -> None: ...
    def on_body(self, ready: bytes) -> None: ...
    def flush(self) -> None: ...
    def on_end(self, rest: bytes | None) -> None: ...
    def on_cut(self) -> None: ...
    def refuse(self, error: ApiError) -> None: ...
    def interrupt(self, reason: str, error: ApiError) -> None: ...
    def expect_head(self, seconds: float) -> None: ...


class _Held:
    """A failed answer that the client has not been told of."""

    __slots__ = ("body", "bytes", "fields", "headers", "status")

    def __init__(self, status: int, headers: Headers, fields: Fields) -> None:
        self.status = status
        self.headers = headers
        self.fields = fields
        self.body: list[bytes] = []
        self.bytes = 0


class Forwarding:
    """Sends a request that has been granted its way, until there is an answer for the client."""

    __slots__ = (
        "_ask",
        "_attempt",
        "_body",
        "_call",
        "_count",
        "_gateway",
        "_held",
        "_is_relaying",
        "_metered",
        "_most",
        "_number",
        "_principal",
        "_prompt_tokens",
        "_request_id",
        "_reservation",
        "_sink",
        "_started_at",
        "_timer",
        "_tried",
    )

    def __init__(
        self,
        gateway: Gateway,
        sink: AnswerSink,
        call: Call,
        principal: Principal,
        ask: Ask,
        metered: MessageFields | None,
        body: bytes,
        request_id: str,
    ) -> None:
        self._gateway = gateway
        self._sink = sink
        self._call = call
        self._principal = principal
        self._ask = ask
        self._metered = metered
        self._body = body
        self._request_id = request_id
        self._attempt: Attempt | None = None
        self._held: _Held | None = None
        self._is_relaying = False
        self._timer: asyncio.TimerHandle | None = None
        self._reservation: Reservation | None = None
        self._count: Count | None = None
        self._prompt_tokens: int | None = None  # as the upstream has counted it
        self._number = 0
        self._started_at = gateway.now()
        self._tried: list[Credential] = []
        # A client that is trying again itself has used up as many of the attempts.
        repeated = call.head.fields.get(b"x-stainless-retry-count")
        self._most = max(1, ATTEMPTS_MAX - (small_number(repeated) or 0)) if repeated is not None else ATTEMPTS_MAX

    # Attempts

    def start(self, credential: Credential) -> None:
        """Make the first attempt.

        Raises:
            ApiError: the upstream is known to be down, and there is no other.
        """
        standing = self._gateway.health.of(credential.upstream)
        if standing.breaker.may_send(self._gateway.now()):
            standing.budget.request()
            short = self._reserve()
            if short is None:
                self._send(credential)
            elif self._may_fit(short):
                self._ask_count(credential)
            else:
                raise self._gateway.till.refusal(short, _now_us())
            return
        self._tried.append(credential)
        if not self._fall_back(pay=False):
            raise UpstreamDown

    def _reserve(self) -> Short | None:
        """Hold the money of the next attempt; what is lacking when it does not fit."""
        metered = self._metered
        if metered is None:
            return None
        found = self._gateway.till.reserve(self._principal, metered, len(self._body), _now_us(), self._prompt_tokens)
        if isinstance(found, Short):
            return found
        self._reservation = found
        return None

    def _may_fit(self, short: Short) -> bool:
        """Whether an exact count of the prompt could make a request fit that its bytes do not let in."""
        if self._metered is None or short.left_nanos == 0:
            return False
        least = self._gateway.till.reserve(self._principal, self._metered, len(self._body), _now_us(), 0)
        if isinstance(least, Short):
            return False
        least.void()
        return True

    def _ask_count(self, credential: Credential) -> None:
        """Let the upstream count, which is free, and decide again."""
        gateway = self._gateway
        self._tried.append(credential)
        pool, head = self._call.way_to_count(gateway, self._principal, credential)
        self._count = Count(gateway, self._on_count)
        self._sink.expect_head(COUNT_SECONDS_MAX * 2)
        self._count.ask(pool, head, self._body)

    def _on_count(self, tokens: int | None) -> None:
        self._count = None
        credential = self._tried.pop()
        if tokens is not None:
            # A count is an estimate by the upstream's own words; it is within some tokens of the truth.
            self._prompt_tokens = tokens + tokens // 50 + 32
        self._send_or_refuse(credential)

    def _send_or_refuse(self, credential: Credential) -> None:
        """Make the next attempt, if there is money for it."""
        short = self._reserve()
        if short is None:
            self._send(credential)
        else:
            self._sink.refuse(self._gateway.till.refusal(short, _now_us()))

    def _send(self, credential: Credential) -> None:
        gateway = self._gateway
        self._number += 1
        self._held = None
        pool, head = self._call.way_up(gateway, self._principal, credential, len(self._body))
        self._attempt = Attempt(
            gateway, self, self._principal, credential, self._metered, self._request_id, self._number
        )
        self._sink.expect_head(credential.upstream.answer_seconds)
        self._attempt.start(pool, head, self._body)

    def _again(self) -> None:
        self._timer = None
        credential = self._credential
        if self._gateway.health.of(credential.upstream).breaker.may_send(self._gateway.now()):
            self._send_or_refuse(credential)
        elif not self._fall_back(pay=True):
            self._give_up(Failure(None), UpstreamDown())

    @property
    def _credential(self) -> Credential:
        attempt = self._attempt
        return attempt.credential if attempt is not None else self._tried[-1]

    def _fall_back(self, *, pay: bool) -> bool:
        """Go on under the tenant's other credential, where there is one that is of use."""
        gateway, fallback = self._gateway, self._principal.tenant.fallback
        if fallback is None or fallback in self._tried or gateway.health.dead_until(fallback) is not None:
            return False
        left = self._credential
        if fallback is left or (pay and not gateway.health.of(left.upstream).budget.take()):
            return False
        standing = gateway.health.of(fallback.upstream)
        if not standing.breaker.may_send(gateway.now()):
            return False
        if self._metered is not None and not gateway.lanes.move(self._ask, fallback):
            return False
        if self._reserve() is not None:
            return False
        self._tried.append(left)
        if not pay:
            standing.budget.request()
        self._send(fallback)
        return True

    def _failed(self, failure: Failure, refusal: ApiError | None) -> None:
        """An attempt has failed before the client saw anything: decide what comes of it."""
        gateway, credential = self._gateway, self._credential
        self._learn_from(failure, credential)
        may_go_on = self._sink.has_client and not gateway.stopping
        if may_go_on and (refusal is None or isinstance(refusal, UpstreamDown | UpstreamTimedOut)):
            standing = gateway.health.of(credential.upstream)
            elapsed = gateway.now() - self._started_at
            delay = next_delay(failure, self._number, self._most, elapsed, _jitter.random())
            if delay is not None and not standing.breaker.is_open and standing.budget.take():
                self._timer = gateway.call_later(delay, self._again)
                self._sink.expect_head(delay + credential.upstream.answer_seconds)
                return
            if _is_credentials_fault(failure) and self._fall_back(pay=True):
                return
        self._give_up(failure, refusal)

    def _learn_from(self, failure: Failure, credential: Credential) -> None:
        held, health = self._held, self._gateway.health
        if failure.spend_cap and held is not None:
            health.mark_dead(credential, regain_at(b"".join(held.body), datetime.now(UTC)), is_spent=True)
        elif failure.status == 401 and self._principal.tenant.fallback is not None:
            health.mark_dead(credential, datetime.now(UTC) + timedelta(seconds=REFUSED_SECONDS), is_spent=False)

    def _give_up(self, failure: Failure, refusal: ApiError | None) -> None:
        """The client gets the last answer, or the gateway's own word for there being none."""
        held, self._held = self._held, None
        is_final = self._number > 1 or failure.spend_cap
        if refusal is not None or held is None:
            refusal = refusal or UpstreamBroken()
            if is_final:
                refusal.should_retry = False
            self._sink.refuse(refusal)
            return
        headers = held.headers
        if is_final:
            # The gateway has tried again; the client's SDK must not multiply that (DESIGN 4.7).
            headers = [field for field in headers if field[0] != b"x-should-retry"] + [(b"x-should-retry", b"false")]
        self._relay(held.status, headers, held.fields)
        if held.body:
            self._sink.on_body(b"".join(held.body))
        self._sink.on_end(b"")

    # What the attempt tells

    def on_head(self, status: int, headers: Headers, fields: Fields) -> None:
        gateway, credential = self._gateway, self._credential
        standing = gateway.health.of(credential.upstream)
        standing.breaker.answered()
        if status == 200 and self._number > 1:
            standing.budget.give_back()
        if self._metered is not None:
            pause = read_retry_after(fields, datetime.now(UTC)) if status == 429 else None
            gateway.lanes.learn(credential, self._metered.model, fields, pause)
        if status != 200 and self._is_held_back(status, fields):
            self._held = _Held(status, headers, fields)
            return
        self._relay(status, headers, fields)

    def _relay(self, status: int, headers: Headers, fields: Fields) -> None:
        """From here on it is the client's answer; the request will not be sent again."""
        self._is_relaying = True
        self._body = b""
        self._sink.on_head(status, headers, fields)

    def _is_held_back(self, status: int, fields: Fields) -> bool:
        if not self._sink.has_client:
            return False
        if status in (401, 402, 403):
            return self._principal.tenant.fallback is not None
        return is_retryable(status) or fields.get(b"x-should-retry") == b"true"

    def on_body(self, ready: bytes) -> None:
        held = self._held
        if held is None:
            self._sink.on_body(ready)
            return
        held.body.append(ready)
        held.bytes += len(ready)
        if held.bytes > HELD_BYTES_MAX:
            self._held = None
            self._relay(held.status, held.headers, held.fields)
            self._sink.on_body(b"".join(held.body))

    def on_flush(self) -> None:
        if self._held is None:
            self._sink.flush()

    def on_usage(self, model: str | None, usage: Usage) -> None:
        grant, reservation = self._ask.grant, self._reservation
        if grant is not None:
            grant.correct_input(_counted_input(usage))
        if reservation is not None and not reservation.started(model, usage, _now_us()):
            self._run_short(reservation)

    def on_produced(self, chars: int) -> None:
        reservation = self._reservation
        if reservation is None or not reservation.is_metered:
            return
        fits = reservation.produced(chars, _now_us())
        if fits is False:
            self._run_short(reservation)
        elif fits and self._attempt is not None:
            self._attempt.note_produced()

    def _run_short(self, reservation: Reservation) -> None:
        """The next step of the stream does not fit into the budget: it ends here."""
        self._sink.interrupt("budget_reached", self._gateway.till.interruption(reservation.short))

    def on_settled(self, booked: Settlement) -> None:
        grant, reservation, metered = self._ask.grant, self._reservation, self._metered
        if reservation is not None:
            reservation.settle(booked, _now_us())
            if booked.outcome is Outcome.SETTLED and metered is not None and reservation.is_metered:
                history = self._gateway.till.histories.of(self._principal.tenant.tenant_id, metered.model)
                history.learn(booked.usage.output_tokens)
        if grant is None:
            return
        if booked.outcome is Outcome.VOIDED:
            grant.correct_input(0)
        elif booked.usage.input_tokens or booked.usage.output_tokens:
            grant.correct_input(_counted_input(booked.usage))
            grant.produced(booked.usage.output_tokens)

    def on_end(self, rest: bytes | None) -> None:
        held = self._held
        if held is None:
            self._sink.on_end(rest)
            return
        self._failed(read_failure(held.status, held.fields, b"".join(held.body), datetime.now(UTC)), None)

    def on_broken(self, reason: str) -> None:
        if self._reservation is not None:
            self._reservation.void()  # settled already, unless the attempt never came to be
        if self._is_relaying:
            self._sink.on_cut()
            return
        if reason in _TRIED_AGAIN and self._held is None:
            self._gateway.health.of(self._credential.upstream).breaker.failed(self._gateway.now())
        self._held = None
        self._failed(Failure(None), _BROKEN_BEFORE_HEAD.get(reason, UpstreamBroken)())

    # What the exchange asks

    def count_output(self) -> None:
        """Deduct what a stream has produced so far."""
        grant, attempt = self._ask.grant, self._attempt
        if attempt is None or not attempt.relay.has_started:
            return
        chars = attempt.relay.chars
        if grant is not None and grant.counts_output:
            grant.produced((chars + 3) // 4)
        # Time counts too: thinking may be hidden from a stream, and is billed.
        self.on_produced(chars)

    def interruption(self, error_type: str, message: str) -> bytes | None:
        """What ends the answer that is being relayed; None when only closing the connection can."""
        return self._attempt.relay.interrupted(error_type, message) if self._attempt is not None else None

    def stop(self, reason: str) -> None:
        """End it from this side. Nothing is told to the exchange after this."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._count is not None:
            self._count.stop()
            self._count = None
        if self._attempt is not None:
            self._attempt.abandon()
            self._attempt.settle(reason)
        if self._reservation is not None:
            self._reservation.void()

    def time_out(self) -> None:
        """The upstream was silent for too long."""
        attempt = self._attempt
        if attempt is None:
            self.stop("timed_out")
            self._sink.refuse(UpstreamTimedOut())
            return
        attempt.abandon()
        attempt.settle("timed_out")
        self.on_broken("timed_out")

    def client_gone(self, *, keep_reading: bool) -> bool:
        """Whether an answer still comes that has to be read for the bill."""
        attempt = self._attempt
        if attempt is None or self._timer is not None:
            self.stop("client_gone")
            return False
        attempt.client_gone = True
        if not attempt.was_sent or not keep_reading:
            self.stop("client_gone_cancelled" if attempt.was_sent else "client_gone")
            return False
        attempt.resume()
        return True

    def pause(self) -> None:
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        if self._attempt is not None:
            self._attempt.resume()


def _now_us() -> int:
    return time.time_ns() // 1000


def _is_credentials_fault(failure: Failure) -> bool:
    """Whether another credential or upstream could do better, unlike for a request that is wrong in itself."""
    status = failure.status
    return status is None or status in (401, 402, 403, 429) or status >= 500


def _counted_input(usage: Usage) -> int:
    """As reference section 6 counts: cache reads are free."""
    return usage.input_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
