"""Every word that a client is told by the gateway itself: refusals, its quota, its budget.

The tenant's own `anthropic-ratelimit-*` fields have the form of reference 2.2, those of its budget that of 7.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from tenantry.domain.admission import LACK_MIN, Bucket, Lane, Obstacle, Scope
from tenantry.domain.budget_answers import Use, budget_refusal, nearest_cap, refusal_message, use_headers
from tenantry.domain.directory import Tenant
from tenantry.domain.errors import ApiError, BudgetReached, RateLimited, StoreAway
from tenantry.domain.holds import CEILING, Account, Short
from tenantry.domain.limits import Limits
from tenantry.gateway.authentication import Principal

# Times and percentages that are kept as text: all answers of a second, or of a percent, share them.
_STAMPS_MAX = 256
_LINES_MAX = 1000

_SHARED = {
    "upstream_retry_after": "The upstream asked for a pause",
    "sessions_max": "The upstream behind this endpoint takes no more requests at the moment",
    "requests_per_minute": "The upstream's requests per minute are used up",
    "input_tokens_per_minute": "The upstream's input tokens per minute are used up",
    "output_tokens_per_minute": "The upstream's output tokens per minute are used up",
}


class BudgetLines:
    """What was told of a budget, and for how long the same would be told: for one pair of accounts."""

    __slots__ = ("bounds", "ends_us", "key_until", "lines", "own_until", "starts_us")

    def __init__(self) -> None:
        self.lines = b""
        self.bounds = self.own_until = self.key_until = self.starts_us = self.ends_us = 0


class Telling:
    """`zone` is that of budgets, `contact` whom a client may ask; empty: its agency."""

    __slots__ = ("_contact", "_lines", "_stamps", "_zone")

    def __init__(self, zone: ZoneInfo, contact: str) -> None:
        self._zone = zone
        self._contact = contact
        self._stamps: dict[int, bytes] = {}
        self._lines: dict[Use, bytes] = {}

    # Refusals

    def limit_refusal(self, obstacle: Obstacle, principal: Principal) -> RateLimited:
        """The 429 for what is in the way of a request of `principal`: which limit, how large, when it gives again."""
        if obstacle.is_shared:
            what, reason = _SHARED[obstacle.limit], f"upstream.{obstacle.limit}"
            if obstacle.announced is not None:
                what = f"{what} (it announces {obstacle.announced:,} a minute)"
        elif obstacle.scope is Scope.KEY and principal.key.limits is not None:
            key = principal.key
            of_whom = (
                "" if _is_own(obstacle.limit, key.own_limits) else f" ({_whose(obstacle.limit, principal.tenant)})"
            )
            named, kind = (f"Slot {key.slot}", "slot") if key.slot else ("This key", "key")
            what = f"{named} is limited to {_amount(obstacle.limit, principal.key.limits)}{of_whom}"
            reason = f"{kind}.{obstacle.limit}"
        else:
            tenant = principal.tenant
            amount = _amount(obstacle.limit, tenant.limits)
            what = f"Tenant {tenant.slug} is limited to {amount} ({_whose(obstacle.limit, tenant)})"
            reason = obstacle.limit
        error = RateLimited(what, reason, obstacle.seconds)
        error.message = f"{what}. Try again in {error.retry_after_seconds} s."
        return error

    def budget_refusal(self, short: Short, at_us: int) -> ApiError:
        """What refuses a request whose cost does not fit."""
        return budget_refusal(short, self._zone, at_us, self._contact)

    def budget_interruption(self, short: Short | None) -> ApiError:
        """What ends a stream whose next step does not fit."""
        if short is None:
            return BudgetReached()
        if short.period == CEILING:
            return StoreAway()  # there may be more of the budget, and it could not be taken in time
        return BudgetReached(refusal_message(short, self._zone, self._contact))

    # Header lines

    def quota_lines(self, lane: Lane, key_lane: Lane | None, now: float, wall_us: int) -> bytes:
        """The quota's fields; of tenant and key, the one that has less left. A limit that is not set has none."""
        own = key_lane
        lines = self._quota(b"requests", lane.requests, own.requests if own is not None else None, now, wall_us)
        if lane.counts_tokens or (own is not None and own.counts_tokens):
            of_key = own.input_tokens if own is not None else None
            lines += self._quota(b"input-tokens", lane.input_tokens, of_key, now, wall_us)
            of_key = own.output_tokens if own is not None else None
            lines += self._quota(b"output-tokens", lane.output_tokens, of_key, now, wall_us)
        return lines

    def _quota(self, name: bytes, bucket: Bucket | None, own: Bucket | None, now: float, wall_us: int) -> bytes:
        if own is not None:
            own.refill(now)
            if bucket is not None:
                bucket.refill(now)
            if bucket is None or own.level < bucket.level:
                bucket = own
        if bucket is None:
            return b""
        level, size = bucket.level, bucket.size
        if now > bucket.at:  # as `refill`, without a call
            level += (now - bucket.at) * bucket.rate
            bucket.level = level = level if level < size else size
        bucket.at = now
        remaining = int(level + LACK_MIN) if level > 0.0 else 0
        second = int(wall_us / 1_000_000 + (size - level) / bucket.rate) + 1  # rounded up: at that time it is full
        if remaining != bucket.told_remaining or second != bucket.told_second:
            bucket.told_remaining, bucket.told_second = remaining, second
            bucket.told = (
                b"anthropic-ratelimit-%b-limit: %d\r\nanthropic-ratelimit-%b-remaining: %d\r\n"
                b"anthropic-ratelimit-%b-reset: %b\r\n"
                % (name, bucket.per_minute, name, remaining, name, self._stamp(second))
            )
        return bucket.told

    def _stamp(self, second: int) -> bytes:
        stamp = self._stamps.get(second)
        if stamp is None:
            if len(self._stamps) > _STAMPS_MAX:
                self._stamps.clear()
            stamp = self._stamps[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        return stamp

    def budget_lines(self, accounts: tuple[Account, Account], at_us: int, known: BudgetLines) -> bytes:
        """The budget's fields of a success; nothing where there is no budget. `known`: what was told before."""
        own, of_key = accounts
        # Both count up, so that their sum is another where one of them is.
        if not (
            known.bounds == own.bounds + of_key.bounds
            and own.since_nanos < known.own_until
            and of_key.since_nanos < known.key_until
            and known.starts_us <= at_us < known.ends_us
        ):
            known.lines = self._budget_lines(accounts, at_us)
            known.bounds = own.bounds + of_key.bounds
            known.own_until, known.key_until = own.told_until_nanos(), of_key.told_until_nanos()
            known.starts_us = max(own.starts_us, of_key.starts_us)
            known.ends_us = min(own.ends_us, of_key.ends_us)
        return known.lines

    def _budget_lines(self, accounts: Sequence[Account], at_us: int) -> bytes:
        most = nearest_cap(accounts, at_us)
        if most is None:
            return b""
        lines = self._lines.get(most)
        if lines is None:
            if len(self._lines) > _LINES_MAX:
                self._lines.clear()
            lines = self._lines[most] = b"".join(b"%b: %b\r\n" % field for field in use_headers(most))
        return lines


def _is_own(limit: str, own: frozenset[str]) -> bool:
    return limit in own or (limit == "requests_per_minute" and "request_burst" in own)


def _whose(limit: str, tenant: Tenant) -> str:
    """Who has to be asked for another one."""
    return "a limit of its own" if _is_own(limit, tenant.own_limits) else f"tier {tenant.tier}"


def _amount(limit: str, limits: Limits) -> str:
    number = getattr(limits, limit) or 0
    return {
        "sessions_max": f"{number:,} requests in flight",
        "requests_per_minute": f"{number:,} requests a minute, {limits.request_burst:,} at once",
        "input_tokens_per_minute": f"{number:,} input tokens a minute",
        "output_tokens_per_minute": f"{number:,} output tokens a minute",
    }[limit]
