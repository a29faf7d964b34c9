"""Whether a failed attempt is tried again, and when (DESIGN 4.7). Pure: time and chance are passed in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from tenantry.domain.values import value

# One more than the SDKs' default of two retries would multiply; three in all is theirs too (reference 3.3).
ATTEMPTS_MAX = 3
# From the first attempt to the last one's start. Clients wait for ten minutes, people for less than one.
RETRY_SECONDS_MAX = 30.0
# The SDKs' own backoff (reference 3.3), with full jitter (Brooker, "Exponential Backoff and Jitter").
BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 8.0

_SPEND_CAPS = ("enforced_spend_limit_reached", "contract_spend_limit_reached")
_SPEND_CAP_MESSAGE = "You have reached your API usage limits"
_REGAIN = re.compile(r"regain access on (\d{4}-\d{2}-\d{2})(?:[T ](?:at )?(\d{2}:\d{2})(?::\d{2})?)?")


def is_retryable(status: int) -> bool:
    """What the SDKs retry (reference 3.3)."""
    return status in (408, 409, 429) or status >= 500


@value
class Failure:
    """How an attempt failed. `status` is None when no answer came. Times are seconds."""

    status: int | None
    retry_after: float | None = None
    should_retry: bool | None = None
    spend_cap: bool = False


def next_delay(failure: Failure, attempts_made: int, attempts_max: int, elapsed: float, chance: float) -> float | None:
    """Seconds to wait before the next attempt on the same credential, or None for no other.

    `chance` is uniform in [0, 1). A `retry-after` is kept to the letter or, when there is no time for it, not at all.
    """
    if failure.should_retry is False or failure.spend_cap or attempts_made >= attempts_max:
        return None
    if failure.status is not None and not is_retryable(failure.status) and failure.should_retry is not True:
        return None
    delay = failure.retry_after
    if delay is None:
        delay = chance * min(BACKOFF_SECONDS * 2 ** (attempts_made - 1), BACKOFF_SECONDS_MAX)
    return delay if elapsed + delay <= RETRY_SECONDS_MAX else None


def is_another_worth_trying(failure: Failure) -> bool:
    """Whether another credential or upstream could do better, unlike for a request that is wrong in itself."""
    status = failure.status
    return status is None or status in (401, 402, 403, 429) or status >= 500


def read_failure(status: int, headers: Mapping[bytes, bytes], body: bytes, now: datetime) -> Failure:
    """A failed answer's own advice."""
    advice = headers.get(b"x-should-retry")
    return Failure(
        status,
        read_retry_after(headers, now),
        {b"true": True, b"false": False}.get(advice) if advice is not None else None,
        status == 429 and b"retry-after" not in headers and is_spend_cap(body),
    )


def read_retry_after(headers: Mapping[bytes, bytes], now: datetime) -> float | None:
    """Seconds of `retry-after-ms`, or of `retry-after` as a number or an HTTP date (RFC 9110 10.2.3)."""
    for name, unit in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        raw = headers.get(name)
        if raw is None:
            continue
        try:
            seconds = float(raw) * unit
        except ValueError:
            seconds = _seconds_until(raw, now)
        # NaN compares false; no sane pause is longer than a month.
        if seconds is not None and 0 <= seconds <= 31 * 86400:
            return seconds
    return None


def _seconds_until(raw: bytes, now: datetime) -> float | None:
    try:
        then = parsedate_to_datetime(raw.decode("ascii"))
    except (ValueError, TypeError, UnicodeDecodeError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - now).total_seconds())


def is_spend_cap(body: bytes) -> bool:
    """Whether a 429 says that the money of the organization's tier or contract is used up (reference 3.2)."""
    text = body.decode("utf-8", "replace")
    return _SPEND_CAP_MESSAGE in text or any(code in text for code in _SPEND_CAPS)


def regain_at(body: bytes, now: datetime) -> datetime:
    """When a spend cap ends, by its own words; without a date in them, an hour from now."""
    found = _REGAIN.search(body.decode("utf-8", "replace"))
    if found is not None:
        day, time = found.groups()
        try:
            return datetime.fromisoformat(f"{day}T{time or '00:00'}").replace(tzinfo=UTC)
        except ValueError:
            pass
    return now + timedelta(hours=1)


class RetryBudget:
    """A balance that bounds retries: while all fails, attempts never exceed `1 + SHARE` a request, plus `RESERVE`.

    A retry that goes well is paid back, so passing faults do not use the balance up.
    """

    SHARE = 0.2
    RESERVE = 3.0
    # Credit of quiet hours must not become a storm.
    BALANCE_MAX = 100.0

    __slots__ = ("balance",)

    def __init__(self) -> None:
        self.balance = self.RESERVE

    @property
    def may_retry(self) -> bool:
        return self.balance >= 1

    def sent(self) -> None:
        self.balance = min(self.BALANCE_MAX, self.balance + self.SHARE)

    def take(self) -> bool:
        """Pay for one retry; False when there is nothing to pay with."""
        if self.balance < 1:
            return False
        self.balance -= 1
        return True

    def give_back(self) -> None:
        """The retry went well."""
        self.balance = min(self.BALANCE_MAX, self.balance + 1)


class Breaker:
    """Stops sending to an upstream that does not answer: then one probe a second, until one succeeds."""

    FAILURES_MAX = 5
    PROBE_SECONDS = 1.0

    __slots__ = ("_failures", "_next_probe")

    def __init__(self) -> None:
        self._failures = 0
        self._next_probe = 0.0

    def is_open(self, now: float) -> bool:
        return self._failures >= self.FAILURES_MAX

    def may_send(self, now: float) -> bool:
        """Whether an attempt may go now. When open, saying yes uses up the second's probe."""
        if not self.is_open(now):
            return True
        if now < self._next_probe:
            return False
        self._next_probe = now + self.PROBE_SECONDS
        return True

    def failed(self, now: float) -> None:
        """No usable answer came."""
        was_open = self.is_open(now)
        self._failures += 1
        if self.is_open(now) and not was_open:
            self._next_probe = now + self.PROBE_SECONDS

    def sent(self, now: float) -> None:
        pass

    def answered(self, now: float, status: int) -> None:
        """The upstream works, whatever it said."""
        self._failures = 0
