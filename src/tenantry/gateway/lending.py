"""Requests that go on at a gateway while another one counts for them: it has taken this one's place, or their cells
(decisions 0011 and 0021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tenantry.domain.asks import Ask
from tenantry.domain.settlement import Settlement
from tenantry.domain.subclassing import mypyc_attr
from tenantry.domain.till import CountedMoney, Money
from tenantry.gateway.handover import Used
from tenantry.gateway.population import Heir

# How often it is told what requests have used, and given back. Telling it late holds others up, and lets nobody pass.
TELL_SECONDS: Final = 0.02


@mypyc_attr(allow_interpreted_subclasses=True)
class Lender(Heir):
    """The heir, which counts. Each call says something of one attempt, by its id."""

    __slots__ = ()

    def may_grow(self, attempt_id: str, to_nanos: int, at_us: int) -> bool:
        """Whether so much may be held; then it is."""
        raise NotImplementedError

    def shrank(self, attempt_id: str, to_nanos: int, at_us: int) -> None:
        raise NotImplementedError

    def owes(self, attempt_id: str, nanos: int, at_us: int) -> None:
        """So much is owed already: it is to be held, whether it fits or not."""
        raise NotImplementedError

    def settled(self, attempt_id: str, cost_nanos: int | None, tokens: int, at_us: int) -> None:
        """None: it was given back. `tokens`: of all classes, as plans count them."""
        raise NotImplementedError


class LentMoney(Money):
    """The money of an attempt that began when this gateway still counted. What becomes of it is told as it happens."""

    __slots__ = ("_attempt_id", "_lender", "_tokens", "held_tokens")

    def __init__(self, money: Money, attempt_id: str, lender: Lender) -> None:
        Money.__init__(
            self,
            money._till,
            (money._own, money._of_key),
            money.bound,
            money.over,
            money.is_held,
            money._meter,
            money.history,
            money.at_us,
            money._held_at,
        )
        self.held_nanos = money.held_nanos
        self.is_open = money.is_open
        self._started_at = money._started_at
        self._attempt_id = attempt_id
        self._lender = lender
        self._tokens = 0
        # Held until it ends, and counted by the other one: nobody asks this gateway what is left.
        self.held_tokens = held_tokens_of(money)

    def book(self, booked: Settlement, at_us: int) -> None:
        self._tokens = booked.usage.prompt_tokens + booked.usage.output_tokens
        Money.book(self, booked, at_us)

    def book_settled(
        self, cost_nanos: int, output_tokens: int, prompt_tokens: int, body_bytes: int, at_us: int
    ) -> None:
        self._tokens = prompt_tokens + output_tokens
        Money.book_settled(self, cost_nanos, output_tokens, prompt_tokens, body_bytes, at_us)

    def _resize(self, nanos: int, at_us: int) -> bool:
        if not self.is_held:
            self.held_nanos = nanos
            return True
        more = nanos - self.held_nanos
        if more > 0 and not self._lender.may_grow(self._attempt_id, nanos, at_us):
            return False
        if more < 0:
            self._lender.shrank(self._attempt_id, nanos, at_us)
        self._add(more)
        return True

    def owe(self, nanos: int, at_us: int) -> bool:
        more = nanos - self.held_nanos
        if more <= 0 or not self.is_open:
            return True
        fits = self._lender.may_grow(self._attempt_id, nanos, at_us)
        self._add(more)
        if not fits:
            self._lender.owes(self._attempt_id, nanos, at_us)
        return fits

    def _pay(self, cost_nanos: int, at_us: int) -> None:
        Money._pay(self, cost_nanos, at_us)
        self._lender.settled(self._attempt_id, cost_nanos, self._tokens, at_us)

    def give_back(self) -> None:
        was_open = self.is_open
        Money.give_back(self)
        if was_open:
            self._lender.settled(self._attempt_id, None, 0, self.at_us)


def held_tokens_of(money: Money) -> int:
    """What is held of the tokens that a plan includes; 0 where no plan counts them."""
    if isinstance(money, CountedMoney) and money.tokens is not None:
        return money.tokens.held_nanos
    return 0


class LentTurn:
    """The session and the tokens of a request, and what was told of them last."""

    __slots__ = ("_told", "ask", "name")

    def __init__(self, name: bytes, ask: Ask) -> None:
        self.name = name
        self.ask = ask
        self._told = (ask.input_tokens, ask.output_tokens, ask.is_open)

    def news(self) -> tuple[int, int, bool] | None:
        """Input tokens, output tokens, whether it has its session, if any is another than was told."""
        ask = self.ask
        now = (ask.input_tokens, ask.output_tokens, ask.is_open)
        if now == self._told:
            return None
        self._told = now
        return now


def tell_turns(turns: dict[bytes, LentTurn], say: Callable[[Used], object]) -> None:
    """Say what is another than was told, and forget what has ended."""
    for turn in list(turns.values()):
        news = turn.news()
        if news is not None:
            say(Used(turn.name, *news))
            if not turn.ask.is_open:
                del turns[turn.name]
