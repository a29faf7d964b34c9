"""What is tried for a request, and where it is tried next (DESIGN 4.7): health, money, retries, failover.

Each question looks at everything first and takes at the end, so that nothing is spent on a request that is then
refused: not a breaker's probe, not a retry, no place under another credential. The answer is the event that follows in
`domain/life.py`; what belongs to it stands in `credential`, `money`, `error` and `delay`.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from tenantry.domain.directory import Credential
from tenantry.domain.errors import ApiError, StoreAway, UpstreamDown
from tenantry.domain.holds import CEILING, Short
from tenantry.domain.lanes import Ask
from tenantry.domain.life import Event
from tenantry.domain.owners import WAIT_SECONDS_MAX
from tenantry.domain.retry import ATTEMPTS_MAX, Failure, is_another_worth_trying, regain_at
from tenantry.domain.till import Money
from tenantry.gateway.answer import HeldAnswer
from tenantry.gateway.credentials import spent_until
from tenantry.gateway.deadlines import NEVER
from tenantry.gateway.health import REFUSED_SECONDS
from tenantry.gateway.parts import Parts
from tenantry.gateway.request import Request

# An upstream's count is an estimate by its own words; it is within some tokens of the truth.
_COUNT_SLACK_SHARE, _COUNT_SLACK_TOKENS = 50, 32

_jitter = random.Random()  # noqa: S311 -- spreads retries, keeps no secret


class Tries:
    """The attempts of one request that has been granted its turn. `number` is that of the last one.

    `failure` is how that came to nothing, and `held` what the upstream answered then, of which the client was not told.
    """

    __slots__ = (
        "_ask",
        "_is_counted",
        "_parts",
        "_prompt_tokens",
        "_request",
        "_started_at",
        "_tried",
        "credential",
        "delay",
        "error",
        "failure",
        "held",
        "money",
        "number",
        "raises_until",
        "wants_fresh",
        "was_resent",
    )

    def __init__(
        self, parts: Parts, request: Request, ask: Ask, credential: Credential, number: int, started_at: float
    ) -> None:
        """`number`: how many attempts there were, of which the first was decided on at `started_at`."""
        self._parts = parts
        self._request = request
        self._ask = ask
        self._tried: list[Credential] = []
        self._is_counted = False
        self._prompt_tokens: int | None = None  # as the upstream has counted it
        self._started_at = started_at
        self.credential = credential
        self.money: Money | None = None  # of the attempt that goes out; None: it is free
        self.error: ApiError | None = None
        self.failure: Failure | None = None
        self.held: HeldAnswer | None = None
        self.delay = 0.0
        self.number = number
        self.raises_until = NEVER  # for how long it may wait for more of its budget to be taken
        self.wants_fresh = False  # the next attempt has to make a connection of its own
        self.was_resent = False

    def counted(self, tokens: int | None) -> None:
        """The upstream has counted the prompt, or could not."""
        if tokens is not None:
            self._prompt_tokens = tokens + tokens // _COUNT_SLACK_SHARE + _COUNT_SLACK_TOKENS

    def first(self) -> Event:
        """GO, COUNT, or REFUSE: the first attempt."""
        parts, credential = self._parts, self.credential
        standing, now = parts.health.of(credential), parts.clock.now()
        self._started_at = now
        if not standing.breaker.may_send(now):
            return Event.GO if self._fall_back() else self._refuse(UpstreamDown())
        until = parts.health.dead_until(credential)
        if until is not None and parts.health.is_spent(credential) and not parts.health.may_probe(credential):
            return Event.GO if self._fall_back() else self._refuse(spent_until(until))
        short = self._hold()
        if short is not None:
            if short.period == CEILING:
                return self._raise(now)
            if self._may_be_counted(short):
                self._is_counted = True
                return Event.COUNT
            return self._refuse_for(short)
        standing.sent(now)
        parts.health.probed(credential)
        self.number += 1
        return Event.GO

    def _raise(self, now: float) -> Event:
        """RAISE, or REFUSE: the budget has the money, and as much of it was not taken beforehand."""
        if self.raises_until == NEVER:
            self.raises_until = now + WAIT_SECONDS_MAX
        return Event.RAISE if now < self.raises_until else self._refuse(StoreAway())

    def after(self) -> Event:
        """AGAIN, GO, or GIVE_UP: an attempt has come to nothing before the client saw anything."""
        parts, credential, failure = self._parts, self.credential, self.failure or Failure(None)
        self._learn_from(failure)
        if parts.population.is_stopping:
            return Event.GIVE_UP
        standing, now = parts.health.of(credential), parts.clock.now()
        most = max(1, ATTEMPTS_MAX - self._request.caller.retries)
        delay = standing.pause(failure, self.number, most, now - self._started_at, _jitter.random(), now)
        if delay is not None:
            self.delay = delay
            return Event.AGAIN
        return Event.GO if is_another_worth_trying(failure) and self._fall_back() else Event.GIVE_UP

    def resend(self) -> Event:
        """GO, REFUSE, or GIVE_UP: an idle connection was closed just as it was used; on a fresh one, once, and at once.

        It is no retry: an upstream that lets connections idle for a short time is not at fault.
        """
        self.was_resent = self.wants_fresh = True
        standing, now = self._parts.health.of(self.credential), self._parts.clock.now()
        if not standing.breaker.may_send(now):
            return Event.GIVE_UP
        short = self._hold()
        if short is not None:
            return self._refuse_for(short)
        standing.breaker.sent(now)
        self.number += 1
        return Event.GO

    def again(self) -> Event:
        """GO, REFUSE, or GIVE_UP: the pause is over; the same again, if that is still of use."""
        parts = self._parts
        standing, now = parts.health.of(self.credential), parts.clock.now()
        if not standing.may_send_again(now):
            return Event.GO if self._fall_back() else Event.GIVE_UP
        short = self._hold()
        if short is not None:
            return self._refuse_for(short)
        standing.sent_again(now)
        self.number += 1
        return Event.GO

    def _fall_back(self) -> bool:
        """Go on under the tenant's other credential, where there is one that is of use."""
        parts, ask, left = self._parts, self._ask, self.credential
        fallback = None if self._request.is_bound else self._request.principal.tenant.fallback
        if fallback is None or fallback is left or fallback in self._tried:
            return False
        standing, now = parts.health.of(fallback), parts.clock.now()
        is_metered = ask.credential is not None
        is_dead = parts.health.dead_until(fallback) is not None
        if is_dead and not (is_metered and parts.health.may_probe(fallback)):
            return False
        if not standing.breaker.may_send(now):
            return False
        if parts.cells is not None and not parts.cells.may_send(ask.tenant, fallback):
            return False
        if is_metered and not parts.lanes.may_move(ask, fallback):
            return False
        if self._hold() is not None:
            return False
        if is_metered and not parts.lanes.move(ask, fallback):
            self._void()
            return False
        standing.sent(now)
        parts.health.probed(fallback)
        self._tried.append(left)
        self.credential = fallback
        self.number += 1
        return True

    def _hold(self) -> Short | None:
        """Hold the money of the next attempt; what is lacking when it does not fit. The last thing that is asked."""
        parts, request = self._parts, self._request
        self.money = None
        fields = request.fields
        if fields is None:
            return None
        accounts = request.caller.accounts(parts, request.principal)
        found = parts.till.hold(
            request.principal.tenant,
            accounts,
            fields,
            request.body_bytes,
            self._prompt_tokens,
            parts.clock.wall_us(),
            parts.clock.now(),
        )
        if isinstance(found, Short):
            return found
        self.money = found
        return None

    def _void(self) -> None:
        if self.money is not None:
            self.money.give_back()
            self.money = None

    def _may_be_counted(self, short: Short) -> bool:
        """Whether an exact count of the prompt could make a request fit that its bytes do not let in."""
        parts, request = self._parts, self._request
        fields = request.fields
        if self._is_counted or short.left_nanos == 0 or fields is None:
            return False
        if fields.has_thread or fields.fallbacks or fields.fallbacks_default or fields.mcp_servers:
            return False  # what is counted is the body; here the prompt is more, or another model counts it
        accounts = request.caller.accounts(parts, request.principal)
        return parts.till.would_fit(accounts, fields, parts.clock.wall_us())

    def _refuse(self, error: ApiError) -> Event:
        self.error = error
        return Event.REFUSE

    def _refuse_for(self, short: Short) -> Event:
        if short.period == CEILING:
            return self._refuse(StoreAway())
        parts = self._parts
        return self._refuse(parts.telling.budget_refusal(short, parts.clock.wall_us()))

    def _learn_from(self, failure: Failure) -> None:
        health, now = self._parts.health, datetime.now(UTC)
        if failure.spend_cap and self.held is not None:
            health.mark_dead(self.credential, regain_at(self.held.body(), now), is_spent=True)
        elif failure.status == 401 and self._request.principal.tenant.fallback is not None:
            health.mark_dead(self.credential, now + timedelta(seconds=REFUSED_SECONDS), is_spent=False)
