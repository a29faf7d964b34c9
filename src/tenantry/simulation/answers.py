"""What comes back for an attempt of a simulated request: the head of an answer, a stream, its end, or nothing more."""

from __future__ import annotations

from collections.abc import Mapping

from tenantry.domain.life import Event, State
from tenantry.domain.retry import Failure, is_retryable
from tenantry.simulation.attempts import CHARS_PER_TOKEN, Attempt, Attempts
from tenantry.simulation.clock import Timer
from tenantry.simulation.gateway import STREAM_LOOK_SECONDS, Client, Gateway, Wants

# As `gateway/exchange.py` reads on for the bill when the client has gone.
DRAIN_SECONDS_MAX = 120.0


class Answers(Attempts):
    """`state` is what the request waits for; `failure`: how its last attempt came to nothing."""

    def __init__(self, gateway: Gateway, client: Client, wants: Wants) -> None:
        super().__init__(gateway, client, wants)
        self.state = State.READING
        self.failure = Failure(None)
        self._deadline: Timer | None = None

    def on(self, event: Event) -> None:
        """Something has happened."""
        raise NotImplementedError

    def _on_overdue(self) -> None:
        """The time of the state has passed."""
        raise NotImplementedError

    def _expect(self, seconds: float) -> None:
        self._stop(self._deadline)
        self._deadline = self.gateway.call_later(seconds, self._on_overdue)

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
        self._expect(DRAIN_SECONDS_MAX)
