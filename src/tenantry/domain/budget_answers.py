"""What a client is told of its budget: header fields of successes and refusals (reference 7.4), and the words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from tenantry.domain.allowances import PLAN
from tenantry.domain.errors import ApiError, BudgetInUse, BudgetReached
from tenantry.domain.holds import NANOS, Account, Short
from tenantry.domain.money import format_usd

Fields = list[tuple[bytes, bytes]]

# The two that make Claude Code show a notice (reference 7.4).
_WARN_PERCENT: Final = 75
_WARN_AGAIN_PERCENT: Final = 95
_PERIOD_WORDS: Final = {"day": "daily", "week": "weekly", "month": "monthly", PLAN: "monthly"}


Use = tuple[int, str, int]  # percent spent, period, end of the period


def nearest_cap(accounts: Sequence[Account], at_us: int) -> Use | None:
    """The cap that is nearest to its end, of all accounts."""
    most: Use | None = None
    for account in accounts:
        found = account.utilization(at_us)
        if found is not None and (most is None or found[0] > most[0]):
            most = found
    return most


def use_headers(most: Use) -> Fields:
    """The fields that tell of a cap."""
    # Below 1 on a success, even when a soft budget is passed.
    percent = min(99, max(0, most[0]))
    status = b"allowed" if percent < _WARN_PERCENT else b"allowed_warning"
    reset = b"%d" % (most[2] // 1_000_000)
    fields = [
        (b"anthropic-ratelimit-unified-status", status),
        (b"anthropic-ratelimit-unified-representative-claim", b"overage"),
        (b"anthropic-ratelimit-unified-overage-status", status),
        (b"anthropic-ratelimit-unified-overage-utilization", b"0.%02d" % percent),
        (b"anthropic-ratelimit-unified-reset", reset),
        (b"anthropic-ratelimit-unified-overage-reset", reset),
    ]
    if percent >= _WARN_PERCENT:
        surpassed = b"0.95" if percent >= _WARN_AGAIN_PERCENT else b"0.75"
        fields.append((b"anthropic-ratelimit-unified-overage-surpassed-threshold", surpassed))
    return fields


def refusal_headers(short: Short) -> Fields:
    """The fields of a refusal; `representative-claim` and `overage-status` are left out, as 7.4 asks."""
    reset = b"%d" % (short.resets_at_us // 1_000_000)
    return [
        (b"anthropic-ratelimit-unified-status", b"rejected"),
        (b"anthropic-ratelimit-unified-reset", reset),
        (b"anthropic-ratelimit-unified-overage-reset", reset),
        (b"anthropic-ratelimit-unified-overage-utilization", b"1"),
        (b"anthropic-ratelimit-unified-overage-surpassed-threshold", b"1"),
        (b"anthropic-ratelimit-unified-overage-period", _PERIOD_WORDS[short.period].encode()),
        (b"anthropic-ratelimit-unified-overage-disabled-reason", b"org_spend_cap_reached"),
    ]


def budget_reached(short: Short, zone: ZoneInfo, at_us: int, contact: str) -> BudgetReached:
    """The refusal. `contact`: whom to ask, such as an address; empty: the agency."""
    seconds = max(1, -(-(short.resets_at_us - at_us) // 1_000_000))
    return BudgetReached(refusal_message(short, zone, contact), seconds, refusal_headers(short))


def budget_refusal(short: Short, zone: ZoneInfo, at_us: int, contact: str) -> ApiError:
    """`BudgetInUse` when the end of requests in flight may make room, else `BudgetReached`."""
    return BudgetInUse() if short.fits_later else budget_reached(short, zone, at_us, contact)


def refusal_message(short: Short, zone: ZoneInfo, contact: str) -> str:
    """One sentence that Claude Code shows as it is."""
    if short.plan:
        return _plan_message(short, zone, contact)
    budget = f"{_PERIOD_WORDS[short.period]} budget of {format_usd(short.amount_nanos)} for {short.holder}"
    resets = _moment(short.resets_at_us, zone)
    ask = f"ask {contact or 'your agency'} for more."
    if short.left_nanos > 0:
        wanted, left = _shown(short.wanted_nanos), _shown(short.left_nanos)
        return f"This request may cost {wanted}, and {left} of the {budget} is left; it resets {resets}; {ask}"
    return f"{budget[0].upper()}{budget[1:]} reached; resets {resets}; {ask}"


def _plan_message(short: Short, zone: ZoneInfo, contact: str) -> str:
    is_money = short.unit == NANOS
    resets, ask = _moment(short.resets_at_us, zone), f"ask {contact or 'your agency'} for a larger plan."
    of_it = format_usd(short.amount_nanos) if is_money else f"{short.amount_nanos:,} tokens"
    if short.left_nanos > 0:
        wanted = _shown(short.wanted_nanos) if is_money else f"{short.wanted_nanos:,} tokens"
        left = _shown(short.left_nanos) if is_money else f"{short.left_nanos:,}"
        return (
            f"This request may take {wanted}, and {left} of the {of_it} of usage that plan {short.plan} includes is "
            f"left for {short.holder}; it begins anew {resets}; {ask}"
        )
    return (
        f"The {of_it} of usage that plan {short.plan} includes for {short.holder} is used up; it begins anew {resets}; "
        f"{ask}"
    )


def _shown(nanos: int) -> str:
    """In cents, rounded up; below a cent, exactly."""
    cent = 10_000_000
    return format_usd(-(-nanos // cent) * cent) if nanos >= cent else format_usd(nanos)


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _moment(at_us: int, zone: ZoneInfo) -> str:
    at = datetime.fromtimestamp(at_us // 1_000_000, zone)
    return f"{_MONTHS[at.month - 1]} {at.day} {at:%H:%M} {at.tzname()}"
