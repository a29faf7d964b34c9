"""When the agency is to hear of something, and in what words. Pure: spending, periods and facts are passed in.

An alert is raised once for each `occasion`. For budgets the occasion is the period's label, the amount and the
threshold, so a restart, a second process or a clock that is set back cannot raise it again; another amount can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from tenantry.domain.allowances import Window
from tenantry.domain.budgets import Cap, amount_at
from tenantry.domain.money import format_usd
from tenantry.domain.periods import Period
from tenantry.domain.plans import BILL, BLOCK, THROTTLE

DEFAULT_THRESHOLDS = (70, 90, 100)
# A soft budget may be passed many times over.
THRESHOLD_PERCENT_MAX = 1000
THRESHOLDS_MAX = 10

# The trailing two weeks that a day is measured against, and how far it must stand out of them.
TRAILING_DAYS = 14
SPIKE_TIMES = 3
# Below it, three times nothing is still nothing: a dollar.
SPIKE_NANOS_MIN = 1_000_000_000
# With less history than this there is no usual day.
SPIKE_ACTIVE_DAYS_MIN = 3
# The first hours of a day say little of its rest: they count as a quarter of it.
_SPIKE_SHARE_MIN = 4

# The days whose pace is carried to the end of the month: whole weeks, since weekends differ.
PROJECTION_DAYS = 7

_DISK_PERCENT_MIN = 5
_DISK_ROOMY_BYTES = 10 * 1024**3
_DISK_BYTES_MIN = 256 * 1024**2

_MODEL_CHARS_MAX = 120

# Of what a plan includes, where a tenant has no thresholds of its own.
PLAN_THRESHOLDS = (80, 100)
_BEYOND = {
    BILL: "usage is billed",
    BLOCK: "requests are refused",
    THROTTLE: "the slower tier is left",
}
_PERIOD_WORDS = {"day": "daily", "week": "weekly", "month": "monthly"}


class AlertKind(StrEnum):
    BUDGET_THRESHOLD = "budget_threshold"
    PLAN_THRESHOLD = "plan_threshold"
    BUDGET_PROJECTED = "budget_projected"
    BUDGET_REFUSALS = "budget_refusals"
    SPEND_SPIKE = "spend_spike"
    CREDENTIAL_DEAD = "credential_dead"
    UPSTREAM_DOWN = "upstream_down"
    UNPRICED_MODEL = "unpriced_model"
    JOURNAL_TROUBLE = "journal_trouble"
    DISK_NEARLY_FULL = "disk_nearly_full"
    TOOL_LOOP = "tool_loop"
    USAGE_FLAWED = "usage_flawed"
    LEDGER_QUARANTINE = "ledger_quarantine"
    INVOICES = "invoices"
    SUMMARY = "summary"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to tell. `tenant_id` and `slug` are None where it concerns the whole site.

    `occasion` None: a condition, told again only when it comes back after it was away. `subject` is what it is about.
    """

    kind: AlertKind
    subject: str
    message: str
    occasion: str | None = None
    tenant_id: str | None = None
    slug: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict[str, object])


class BadThresholds(ValueError):
    """Thresholds are whole percents from 1 to 1000, ten at most, such as 70,90,100."""


def read_thresholds(text: str) -> tuple[int, ...]:
    """Thresholds that somebody typed, in order and each once; `none` is none at all.

    Raises:
        BadThresholds: they are not.
    """
    if text.strip() == "none":
        return ()
    parts = [part.strip().removesuffix("%") for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 4 for part in parts):
        raise BadThresholds(f"{(BadThresholds.__doc__ or '').rstrip('.')}, not {text[:40]!r}")
    return check_thresholds([int(part) for part in parts])


def check_thresholds(percents: Sequence[int]) -> tuple[int, ...]:
    """Raises: BadThresholds."""
    if len(percents) > THRESHOLDS_MAX or not all(1 <= percent <= THRESHOLD_PERCENT_MAX for percent in percents):
        raise BadThresholds(f"{(BadThresholds.__doc__ or '').rstrip('.')}, not {list(percents)[:20]}")
    return tuple(sorted(set(percents)))


def with_classic(percent: int) -> tuple[int, ...]:
    """The default thresholds, and the one of `usage_alert_threshold_percent`."""
    return tuple(sorted({*DEFAULT_THRESHOLDS, percent}))


def thresholds_passed(spent_nanos: int, amount_nanos: int, thresholds: Sequence[int]) -> list[int]:
    """Those that the spending has reached, to the nano."""
    return [percent for percent in thresholds if spent_nanos * 100 >= percent * amount_nanos]


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose budget it is: a tenant's, or with `key_id` that of one of its keys."""

    tenant_id: str
    slug: str
    key_id: str = ""

    @property
    def subject(self) -> str:
        return f"{self.slug}/{self.key_id}" if self.key_id else self.slug

    @property
    def words(self) -> str:
        return f"key {self.key_id} of {self.slug}" if self.key_id else self.slug


def budget_alerts(
    holder: Holder, cap: Cap, period: Period, spent_nanos: int, thresholds: Sequence[int], at_us: int
) -> Iterator[Alert]:
    """One for each threshold that is reached. A cap that allows nothing is reached by the first nano."""
    amount = amount_at(cap, at_us)
    if spent_nanos <= 0:
        return
    for percent in thresholds_passed(spent_nanos, amount, thresholds):
        yield Alert(
            AlertKind.BUDGET_THRESHOLD,
            holder.subject,
            f"{holder.words} has used {percent} % of its {_PERIOD_WORDS[cap.period]} budget: "
            f"{format_usd(spent_nanos)} of {format_usd(amount)} ({period.label})",
            f"{AlertKind.BUDGET_THRESHOLD}:{holder.tenant_id}:{holder.key_id}:{cap.period}:{period.label}:{percent}:{amount}",
            holder.tenant_id,
            holder.slug,
            {
                "key_id": holder.key_id,
                "period": cap.period,
                "period_label": period.label,
                "threshold_percent": percent,
                "spent_nanos": spent_nanos,
                "amount_nanos": amount,
            },
        )


def plan_alerts(
    holder: Holder, window: Window, zone: ZoneInfo, amount: int, used: int, thresholds: Sequence[int]
) -> Iterator[Alert]:
    """One for each threshold of what a plan includes that is reached; `amount` has raises, in the window's unit."""
    if used <= 0:
        return
    first, end = (datetime.fromtimestamp(at // 1_000_000, zone).date() for at in (window.start_us, window.end_us))
    last = end - timedelta(days=1)
    is_money = window.nanos is not None
    told = [format_usd(number) if is_money else f"{number:,}" for number in (used, amount)]
    for percent in thresholds_passed(used, amount, thresholds):
        yield Alert(
            AlertKind.PLAN_THRESHOLD,
            holder.subject,
            f"{holder.words} has used {percent} % of what its plan {window.plan} includes: {told[0]} of {told[1]}"
            f"{'' if is_money else ' tokens'} ({first} to {last}); beyond it {_BEYOND[window.overage]}",
            f"{AlertKind.PLAN_THRESHOLD}:{holder.tenant_id}:{window.plan}:{first}:{last}:{percent}:{amount}",
            holder.tenant_id,
            holder.slug,
            {
                "plan": window.plan,
                "overage": window.overage,
                "from": first.isoformat(),
                "to": last.isoformat(),
                "threshold_percent": percent,
                "unit": "nanos" if is_money else "tokens",
                "used": used,
                "amount": amount,
            },
        )


def projected_nanos(spent_nanos: int, recent_nanos: int, recent_us: int, left_us: int) -> int:
    """What a period will have cost at its end, if the rest goes at the recent pace."""
    return spent_nanos + (recent_nanos * left_us // recent_us if recent_us > 0 else 0)


def projection_alert(
    holder: Holder, cap: Cap, month: Period, spent_nanos: int, recent_nanos: int, recent_us: int, at_us: int
) -> Alert | None:
    """A monthly budget that will not last, at the pace of the last days. Once per month; not when it is spent already.

    Measured against what the cap will allow at the month's end: a raise that is over by then does not help.
    """
    amount = amount_at(cap, month.end_us - 1)
    projected = projected_nanos(spent_nanos, recent_nanos, recent_us, month.end_us - at_us)
    if projected <= amount or spent_nanos >= amount:
        return None
    return Alert(
        AlertKind.BUDGET_PROJECTED,
        holder.subject,
        f"{holder.words} is on the way to {format_usd(_cents(projected))} in {month.label}, above its budget of "
        f"{format_usd(amount)}; {format_usd(spent_nanos)} are spent",
        f"{AlertKind.BUDGET_PROJECTED}:{holder.tenant_id}:{month.label}",
        holder.tenant_id,
        holder.slug,
        {
            "period_label": month.label,
            "projected_nanos": projected,
            "spent_nanos": spent_nanos,
            "amount_nanos": amount,
        },
    )


def spike_pace_nanos(today_nanos: int, elapsed_us: int, day_us: int) -> int:
    """What the day will have cost at its pace so far."""
    return today_nanos * day_us // max(elapsed_us, day_us // _SPIKE_SHARE_MIN, 1)


def spike_alert(holder: Holder, day: Period, today_nanos: int, trailing: Sequence[int], at_us: int) -> Alert | None:
    """A day that goes at several times the pace of the two weeks before it. Once per day.

    `trailing` are the sums of the days before, newest first. A tenant that is new is measured against the days it has.
    """
    since_first = list(trailing)
    while since_first and since_first[-1] == 0:
        since_first.pop()
    if sum(1 for nanos in since_first if nanos > 0) < SPIKE_ACTIVE_DAYS_MIN or today_nanos < SPIKE_NANOS_MIN:
        return None
    usual = sum(since_first) // len(since_first)
    pace = spike_pace_nanos(today_nanos, at_us - day.start_us, day.end_us - day.start_us)
    if pace < SPIKE_TIMES * usual:
        return None
    return Alert(
        AlertKind.SPEND_SPIKE,
        holder.subject,
        f"{holder.words} spends unusually much today: {format_usd(today_nanos)} so far, at a pace of "
        f"{format_usd(_cents(pace))} a day; a usual day is {format_usd(_cents(usual))}",
        f"{AlertKind.SPEND_SPIKE}:{holder.tenant_id}:{day.label}",
        holder.tenant_id,
        holder.slug,
        {"day": day.label, "today_nanos": today_nanos, "pace_nanos": pace, "usual_nanos": usual},
    )


def refusals_alert(holder: Holder, day: Period) -> Alert:
    """Requests that a budget refused. Once per day."""
    return Alert(
        AlertKind.BUDGET_REFUSALS,
        holder.subject,
        f"requests of {holder.words} are refused because its budget is reached "
        f"(`tenantry budget show {holder.slug}` says which)",
        f"{AlertKind.BUDGET_REFUSALS}:{holder.tenant_id}:{day.label}",
        holder.tenant_id,
        holder.slug,
        {"day": day.label},
    )


def tool_loop_alert(holder: Holder, day: Period) -> Alert:
    """A conversation that answers tools again and again without a word of its user. Once per day."""
    return Alert(
        AlertKind.TOOL_LOOP,
        holder.subject,
        f"a tool loop of {holder.words} has run past its limit `tool_depth_alert` "
        f"(`tenantry tenants show {holder.slug}` counts them)",
        f"{AlertKind.TOOL_LOOP}:{holder.tenant_id}:{day.label}",
        holder.tenant_id,
        holder.slug,
        {"day": day.label},
    )


def unpriced_alert(model: str, month: Period) -> Alert:
    """A model without a price: budgets count what was held for it. Once per model and month."""
    # A client chose this text.
    model = "".join(mark if mark.isprintable() else "?" for mark in model[:_MODEL_CHARS_MAX])
    return Alert(
        AlertKind.UNPRICED_MODEL,
        model,
        f"there is no price for the model {model}: what it costs is on no bill until there is one; budgets "
        "count what was held for it",
        f"{AlertKind.UNPRICED_MODEL}:{model}:{month.label}",
        detail={"model": model},
    )


def flawed_usage_alert(upstream: str, flaws: str, day: Period) -> Alert:
    """Answers whose usage is not as the reference has it. Once per upstream, flaw and day."""
    return Alert(
        AlertKind.USAGE_FLAWED,
        upstream,
        f"the upstream {upstream} tells usage that cannot be read, or cannot be ({flaws}): such answers are booked at "
        "what was held for them, or at the most that they can have used",
        f"{AlertKind.USAGE_FLAWED}:{upstream}:{flaws}:{day.label}",
        detail={"upstream": upstream, "flaws": flaws},
    )


def quarantine_alert(holder: Holder | None, lines: int, day: Period) -> Alert:
    """Lines that cannot be booked; `holder` is None where nobody knows whose. Once per tenant and day."""
    whose = f" of {holder.words}" if holder is not None else ""
    return Alert(
        AlertKind.LEDGER_QUARANTINE,
        holder.subject if holder is not None else "ledger",
        f"{lines} lines of the journal{whose} cannot be booked and are in quarantine: "
        "`tenantry ledger quarantine` shows them and the cure",
        f"{AlertKind.LEDGER_QUARANTINE}:{holder.tenant_id if holder is not None else ''}:{day.label}",
        holder.tenant_id if holder is not None else None,
        holder.slug if holder is not None else None,
        {"lines": lines, "day": day.label},
    )


def mend_spent(credential: str) -> str:
    """What to do about a credential whose account upstream is out of money."""
    return (
        "Raise the limit where the account is managed (Claude Console: Settings, Limits) or bind another credential "
        f"(`tenantry credentials bind`). Then `tenantry credentials check {credential}`: it is used again at once; "
        "without, it is tried again once a minute"
    )


def dead_until_alert(credential: str, until: str) -> Alert:
    """A credential whose account upstream is at its own spending cap. Once per date on which it comes back.

    `until` is a time as RFC 3339; with "", nobody knows when.
    """
    return Alert(
        AlertKind.CREDENTIAL_DEAD,
        credential,
        f"the credential {credential} cannot serve{f' until {until}' if until else ''}: its account is at the "
        f"upstream's spending cap. {mend_spent(credential)}",
        f"{AlertKind.CREDENTIAL_DEAD}:{credential}:{until[:10]}" if until else None,
        detail={"credential": credential, "until": until},
    )


def refused_upstream_alert(credential: str, error: str) -> Alert:
    """A credential that the upstream does not take."""
    return Alert(
        AlertKind.CREDENTIAL_DEAD,
        credential,
        f"the upstream refuses the credential {credential} ({error}): it was revoked, or its account cannot pay",
        detail={"credential": credential, "error": error},
    )


def upstream_down_alert(name: str) -> Alert:
    return Alert(
        AlertKind.UPSTREAM_DOWN,
        name,
        f"the upstream {name} is down: requests to it fail",
        detail={"upstream": name},
    )


def journal_alert(why: str) -> Alert:
    return Alert(AlertKind.JOURNAL_TROUBLE, "journal", f"{why}: `tenantry doctor` says what to do")


def is_nearly_full(total_bytes: int, free_bytes: int) -> bool:
    """Below 5 % of a disk where that is not plenty, or below 256 MiB of any."""
    if free_bytes < _DISK_BYTES_MIN:
        return True
    return free_bytes * 100 < total_bytes * _DISK_PERCENT_MIN and free_bytes < _DISK_ROOMY_BYTES


def disk_alert(total_bytes: int, free_bytes: int) -> Alert:
    return Alert(
        AlertKind.DISK_NEARLY_FULL,
        "data_dir",
        f"the disk of data_dir is nearly full: {free_bytes // 1024**2:,} of {total_bytes // 1024**2:,} MiB are free; "
        "without room for the journal no request is forwarded",
        detail={"free_bytes": free_bytes, "total_bytes": total_bytes},
    )


def _cents(nanos: int) -> int:
    """A guess, rounded to cents."""
    cent = 10_000_000
    return (nanos + cent // 2) // cent * cent
