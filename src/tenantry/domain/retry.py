"""Whether a failed attempt is tried again, and when (DESIGN 4.7). Pure: time and chance are passed in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import MAXYEAR, UTC, datetime, timedelta
from email.utils import parsedate_tz
from typing import Final

from tenantry.domain.values import value

# One more than the SDKs' default of two retries would multiply; three in all is theirs too (reference 3.3).
ATTEMPTS_MAX: Final = 3
# From the first attempt to the last one's start. Clients wait for ten minutes, people for less than one.
RETRY_SECONDS_MAX: Final = 30.0
# The SDKs' own backoff (reference 3.3), with full jitter (Brooker, "Exponential Backoff and Jitter").
BACKOFF_SECONDS: Final = 0.5
BACKOFF_SECONDS_MAX: Final = 8.0
# The longest pause that is believed: the longest of an upstream's own limits, its spend cap, renews by the month.
RETRY_AFTER_SECONDS_MAX: Final = 31 * 86400.0

_SPEND_CAPS: Final = ("enforced_spend_limit_reached", "contract_spend_limit_reached")
_SPEND_CAP_MESSAGE: Final = "You have reached your API usage limits"
_REGAIN: Final = re.compile(r"regain access on (\d{4}-\d{2}-\d{2})(?:[T ](?:at )?(\d{2}:\d{2})(?::\d{2})?)?")


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
    """Seconds of `retry-after-ms` or `retry-after`, a number or a date (RFC 9110 10.2.3); at most 31 days."""
    for name, unit in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        raw = headers.get(name)
        if raw is None:
            continue
        seconds: float | None
        try:
            seconds = float(raw) * unit
        except ValueError:
            seconds = _seconds_until(raw, now)
        # NaN compares false. What is absurdly long is still a long wait, and not none.
        if seconds is not None and seconds >= 0:
            return min(seconds, RETRY_AFTER_SECONDS_MAX)
    return None


def _seconds_until(raw: bytes, now: datetime) -> float | None:
    try:
        fields = parsedate_tz(raw.decode("ascii"))
    except (ValueError, TypeError, UnicodeDecodeError):
        return None
    if fields is None:
        return None
    if fields[0] > MAXYEAR:
        return RETRY_AFTER_SECONDS_MAX
    try:
        then = datetime(fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], tzinfo=UTC)
        return max(0.0, (then - now).total_seconds() - (fields[9] or 0))
    except (ValueError, OverflowError):
        return None


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


# A retry costs one; each request pays a fifth of one in, so that total failure makes 1.2 attempts of a request (the
# share that Finagle and Linkerd use). Counted in fifths: no rounding.
_RETRY_FIFTHS: Final = 5
_REQUEST_FIFTHS: Final = 1
# What a credential that has been quiet may use at once: three retries.
_RESERVE_FIFTHS: Final = 15
# Credit of quiet hours must not become a storm: a hundred retries.
_BALANCE_FIFTHS_MAX: Final = 500


class RetryBudget:
    """A balance that bounds the retries under one credential: while all fails, 1.2 attempts a request, and 3 more.

    A retry that goes well is paid back, so passing faults do not use the balance up.
    """

    __slots__ = ("_fifths",)

    def __init__(self) -> None:
        self._fifths = _RESERVE_FIFTHS

    @property
    def may_retry(self) -> bool:
        """Whether there is something to pay a retry with; asking spends nothing."""
        return self._fifths >= _RETRY_FIFTHS

    @property
    def fifths(self) -> int:
        """The balance, for another process."""
        return self._fifths

    def restore(self, fifths: int) -> None:
        """Go on with another's balance."""
        self._fifths = min(_BALANCE_FIFTHS_MAX, fifths)

    def sent(self) -> None:
        """A request's first attempt under this credential goes out, and pays in."""
        if self._fifths < _BALANCE_FIFTHS_MAX:
            self._fifths += _REQUEST_FIFTHS

    def take(self) -> None:
        """A retry goes out; ask `may_retry` in the same turn."""
        self._fifths -= _RETRY_FIFTHS

    def give_back(self) -> None:
        """The retry went well."""
        self._fifths = min(_BALANCE_FIFTHS_MAX, self._fifths + _RETRY_FIFTHS)
