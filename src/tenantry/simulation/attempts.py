"""The attempts of a request at its organization: what is seen of them, and how they are settled and written down.

What is decided is decided by `domain/`: what an answer that came so far costs, and what of its hold is given back.
"""

from __future__ import annotations

from typing import Final

from tenantry.domain.asked import MessageFields
from tenantry.domain.asks import BYTES_PER_TOKEN, Ask
from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Outcome
from tenantry.domain.settlement import Observed, Sent, Settlement, settle
from tenantry.domain.till import Money
from tenantry.domain.usage import Usage
from tenantry.simulation.clock import Timer
from tenantry.simulation.gateway import Client, Gateway, Wants
from tenantry.simulation.upstream import Job, Organization

# A body has its framing beside the prompt.
FRAME_BYTES: Final = 200
# English has about four characters a token.
CHARS_PER_TOKEN: Final = 4


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


class Attempts:
    """Those of one request. `cost_nanos`: what they have come to."""

    def __init__(self, gateway: Gateway, client: Client, wants: Wants) -> None:
        self.gateway = gateway
        self.client = client
        self.wants = wants
        self.name = gateway.next_id()
        self.reason = ""
        self.attempts_made: int = 0
        self.cost_nanos = 0
        self.ask: Ask | None = None
        self.attempt: Attempt | None = None
        self._look: Timer | None = None
        cap = client.tenant.limits.max_tokens_cap
        most = wants.max_tokens if cap is None else min(wants.max_tokens, cap)
        self.fields = MessageFields(wants.model, most, wants.is_stream, wants_1h=False, is_simple=True)
        self.body_bytes = wants.prompt_tokens * BYTES_PER_TOKEN + FRAME_BYTES
        self.answer_tokens = min(wants.answer_tokens, most)

    @property
    def _organization(self) -> Organization:
        return self.gateway.surroundings.organizations[self.client.organization]

    @property
    def _now(self) -> float:
        return self.gateway.surroundings.clock.now

    @staticmethod
    def _stop(*timers: Timer | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()

    def _begun(self, attempt: Attempt, money: Money) -> AttemptBegun:
        client, bound = self.client, money.bound
        return AttemptBegun(
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
        )

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
        if gateway.surroundings.on_booked is not None:
            cost = booked.cost_nanos if booked.cost_nanos is not None else held
            gateway.surroundings.on_booked(gateway, self.client.tenant.tenant_id, cost, at_us)
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
