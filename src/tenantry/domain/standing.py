"""One upstream as one credential finds it: whether it is sent to, and what failed is sent again (DESIGN 4.7)."""

from __future__ import annotations

from tenantry.domain.breaker import Breaker, Breakers
from tenantry.domain.directory import Credential
from tenantry.domain.retry import Failure, RetryBudget, next_delay


class Standing:
    """Its breaker and its retry budget. Times are seconds that only go on.

    Apart for each credential, so that one tenant's resets and hangs say nothing to another (their limits, proxies
    and prompts differ). `credential` is the credential's name.
    """

    __slots__ = ("breaker", "credential", "retries", "upstream")

    def __init__(self, credential: Credential, breakers: Breakers) -> None:
        self.upstream = credential.upstream
        self.credential = credential.name
        self.breaker = Breaker(credential.credential_id, breakers)
        self.retries = RetryBudget()

    def sent(self, now: float) -> None:
        """A request's first attempt goes out."""
        self.retries.sent()
        self.breaker.sent(now)

    def sent_again(self, now: float) -> None:
        """A retry goes out; ask `may_send_again` in the same turn."""
        self.retries.take()
        self.breaker.sent(now)

    def may_send_again(self, now: float) -> bool:
        """Whether a retry may go out now; asking spends nothing."""
        return self.breaker.may_send(now) and self.retries.may_retry

    def pause(
        self, failure: Failure, attempts_made: int, attempts_max: int, elapsed: float, chance: float, now: float
    ) -> float | None:
        """Seconds until another attempt under this credential, or None for no other. Arguments as in `next_delay`."""
        delay = next_delay(failure, attempts_made, attempts_max, elapsed, chance)
        if delay is None or self.breaker.is_open(now) or not self.retries.may_retry:
            return None
        return delay

    def answered(self, now: float, status: int, attempt_number: int) -> None:
        """An answer began, to a request's first attempt or a later one."""
        self.breaker.answered(now, status)
        if status == 200 and attempt_number > 1:
            self.retries.give_back()
