"""Requests of a gateway whose place another has taken: that one counts for them (decision 0011)."""

from __future__ import annotations

from tenantry.domain.asks import Ask
from tenantry.domain.subclassing import mypyc_attr
from tenantry.domain.till import Money
from tenantry.gateway.population import Heir


@mypyc_attr(allow_interpreted_subclasses=True)
class Lender(Heir):
    """The heir, which counts. Each call says something of one attempt, by its id."""

    __slots__ = ()

    def may_grow(self, attempt_id: str, to_nanos: int, at_us: int) -> bool:
        """Whether so much may be held; then it is."""
        raise NotImplementedError

    def shrank(self, attempt_id: str, to_nanos: int, at_us: int) -> None:
        raise NotImplementedError

    def settled(self, attempt_id: str, cost_nanos: int | None, at_us: int) -> None:
        """None: it was given back."""
        raise NotImplementedError


class LentMoney(Money):
    """The money of an attempt that began when this gateway still counted. What becomes of it is told as it happens."""

    __slots__ = ("_attempt_id", "_lender")

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

    def _pay(self, cost_nanos: int, at_us: int) -> None:
        Money._pay(self, cost_nanos, at_us)
        self._lender.settled(self._attempt_id, cost_nanos, at_us)

    def give_back(self) -> None:
        was_open = self.is_open
        Money.give_back(self)
        if was_open:
            self._lender.settled(self._attempt_id, None, self.at_us)


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
