"""The fields of a file of tenants: how each is read, and what the JSON schema for editors says of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

from tenantry.control.host_names import read_host
from tenantry.domain.alerts import THRESHOLD_PERCENT_MAX, THRESHOLDS_MAX, BadThresholds, check_thresholds
from tenantry.domain.billing_details import DUE_DAYS_MAX, NO_VAT, STANDARD_VAT, TAXES_MAX
from tenantry.domain.billing_details import TEXT_CHARS_MAX as DETAIL_CHARS_MAX
from tenantry.domain.hosts import HOST_CHARS_MAX, BadHost
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import LIMITS, Limit
from tenantry.domain.money import BadAmount, check_amount, read_usd, usd_to_nanos
from tenantry.domain.plans import (
    CHANGES,
    DISCOUNTED,
    OVERAGES,
    PRICE_NAMES,
    TRIAL_DAYS_MAX,
    BadTerms,
    read_price_table,
)
from tenantry.storage.directory.hosts import HOSTS_MAX

TEXT_CHARS_MAX = 200
# Of a column that keeps a label.
LABEL_CHARS_MAX = 128
# A trillion dollars: what an amount can never be, and what still fits into 64 bits of nano-dollars is 9 billion.
USD_MAX = 1_000_000_000
DAYS_MAX = 3650
PERCENT_MAX = 1000
# Of a key's end: none ends before there were keys, and a time of the year 1 or 9999 does not exist in every time zone.
_YEAR_MIN, _YEAR_MAX = 2000, 2999

_REFERENCE = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:[^\s].*|vault:[^\s].*)")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REFERENCE_PATTERN = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:\S.*|vault:\S.*)$"
_PERCENT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_USD_PATTERN = r"^[0-9]+(\.[0-9]{1,9})?$"


class BadField(ValueError):
    """A field cannot be what it is; the message says what it must be."""


@dataclass(frozen=True, slots=True)
class Field:
    """`read` gives the value, or raises BadField. `schema` is what JSON Schema has for it."""

    read: Callable[[Any], Any]
    help: str
    schema: Mapping[str, Any]


def _text(raw: object) -> str:
    if not isinstance(raw, str) or not raw.strip() or len(raw) > TEXT_CHARS_MAX or not raw.isprintable():
        raise BadField(f"must be a text of 1 to {TEXT_CHARS_MAX} characters on one line")
    return raw.strip()


def _identifier(raw: object) -> str:
    if not isinstance(raw, str) or _IDENTIFIER.fullmatch(raw) is None:
        raise BadField("must be an id of letters, digits, - and _, 64 at most: it becomes a header field")
    return raw


def _slug(raw: object) -> str:
    if not isinstance(raw, str) or not is_slug(raw):
        raise BadField("must be a name of a-z, 0-9 and inner hyphens")
    return raw


def _flag(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise BadField("must be true or false")
    return raw


def _choice(*choices: str) -> Callable[[Any], str]:
    def read(raw: object) -> str:
        if raw not in choices:
            raise BadField(f"must be {' or '.join(f'{one!r}' for one in choices)}")
        return str(raw)

    return read


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
            raise BadField(f"must be a whole number from {low} to {high}")
        return raw

    return read


def _reference(raw: object) -> str:
    if not isinstance(raw, str) or _REFERENCE.fullmatch(raw) is None or not raw.isprintable():
        # What was written may be the secret itself: it is not repeated.
        raise BadField("must be 'env:NAME', 'file:PATH' or 'vault:NAME'; a secret never stands in the file")
    return raw


def _outside(raw: object) -> str:
    reference = _reference(raw)
    if reference.startswith("vault:"):
        raise BadField("must be 'env:NAME' or 'file:PATH'")
    return reference


def _references(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise BadField("must be a list of references such as 'env:ACME_ALERT_URL'")
    found = tuple(_reference(one) for one in cast("list[object]", raw))
    if len(set(found)) != len(found):
        raise BadField("must not name one twice")
    return tuple(sorted(found))


def _hosts(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(one, str) for one in cast("list[object]", raw)):
        raise BadField('must be a list of host names such as ["ai.client.example"]')
    found: list[str] = []
    for one in cast("list[str]", raw):
        try:
            found.append(read_host(one))
        except BadHost as error:
            raise BadField(f"holds {one[:TEXT_CHARS_MAX]!r}, which {error}") from None
    if len(set(found)) != len(found) or len(found) > HOSTS_MAX:
        raise BadField(f"must have at most {HOSTS_MAX} names, each of them once")
    return tuple(sorted(found))


def _budget(raw: object) -> int:
    nanos = _usd(raw)
    try:
        check_amount(nanos)
    except BadAmount as error:
        raise BadField(f"must be an amount of dollars above 0: {error}") from None
    return nanos


def _usd(raw: object) -> int:
    if isinstance(raw, float):
        raise BadField('must be written in quotes, such as "50.00": money is exact')
    try:
        nanos = read_usd(str(raw)) if isinstance(raw, str | int) and not isinstance(raw, bool) else -1
    except BadAmount:
        nanos = -1
    if not 0 <= nanos <= usd_to_nanos(str(USD_MAX)):
        raise BadField(f'must be an amount of dollars such as "50.00", up to {USD_MAX:,}')
    return nanos


def _percent(raw: object) -> str:
    is_plain = isinstance(raw, str | int) and not isinstance(raw, bool) and _PERCENT.fullmatch(str(raw))
    value = Decimal(str(raw)) if is_plain else Decimal(-1)
    if not 0 <= value <= PERCENT_MAX:
        raise BadField('must be a percentage in quotes, such as "20"')
    return f"{value.normalize():f}"


def _day(raw: object) -> str:
    if isinstance(raw, str):
        try:
            raw = date.fromisoformat(raw)
        except ValueError:
            raw = None
    if isinstance(raw, date) and not isinstance(raw, datetime) and _YEAR_MIN <= raw.year <= _YEAR_MAX:
        return raw.isoformat()
    raise BadField("must be a date such as 2027-01-31")


def _date(raw: object) -> date:
    return date.fromisoformat(_day(raw))


def _lines(raw: object) -> str:
    text = raw.strip() if isinstance(raw, str) else ""
    if not text or len(text) > DETAIL_CHARS_MAX or not text.replace("\n", "").isprintable():
        raise BadField(f"must be a text of 1 to {DETAIL_CHARS_MAX} characters, on one or more lines")
    return text


def _decimal(raw: object) -> str:
    if not isinstance(raw, str) or _PERCENT.fullmatch(raw) is None:
        raise BadField('must be a number in quotes, such as "0.92"')
    return raw


def _taxes(raw: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(raw, Mapping):
        raise BadField('must be a table of percents, such as { VAT = "19" }')
    taxes = cast("Mapping[str, object]", raw)
    return tuple((text, _percent(percent)) for text, percent in taxes.items())


def _prices(raw: object) -> dict[str, dict[str, str]]:
    models = cast("Mapping[str, object]", raw) if isinstance(raw, Mapping) else {"": raw}
    if not all(isinstance(one, Mapping) for one in models.values()):
        raise BadField('must be a table of tables, such as { "claude-haiku-*" = { input = "2", output = "9" } }')
    tables = cast("Mapping[str, Mapping[str, object]]", models)
    if not all(isinstance(text, str) for table in tables.values() for text in table.values()):
        raise BadField('must have dollars in quotes, such as "2.50": money is exact')
    try:
        return read_price_table(cast("Mapping[str, Mapping[str, str]]", tables))
    except BadTerms as error:
        raise BadField(f": {error}") from None


def _thresholds(raw: object) -> tuple[int, ...]:
    values = cast("list[object]", raw) if isinstance(raw, list) else []
    numbers = [one for one in values if isinstance(one, int) and not isinstance(one, bool)]
    try:
        found = check_thresholds(numbers)
    except BadThresholds:
        found = ()
    if not isinstance(raw, list) or len(found) != len(values) or list(found) != numbers:
        raise BadField("must be a list of percentages from low to high, such as [70, 90, 100], or [] for none")
    return found


def read_expiry(zone: ZoneInfo) -> Callable[[Any], datetime]:
    """A time with its offset, or a day: the end of it in the agency's time zone."""

    def read(raw: object) -> datetime:
        if isinstance(raw, str):  # as a plan in JSON keeps it
            try:
                raw = date.fromisoformat(raw) if len(raw) == len("2027-01-31") else datetime.fromisoformat(raw)
            except ValueError:
                raw = None
        if isinstance(raw, date) and _YEAR_MIN <= raw.year <= _YEAR_MAX:
            if not isinstance(raw, datetime):
                return datetime.combine(raw + timedelta(days=1), time(), zone)
            if raw.tzinfo is not None:
                return raw
        raise BadField(
            f"must be a date such as 2027-01-31, or a time with an offset such as 2027-01-31T12:00:00Z, of the years "
            f"{_YEAR_MIN} to {_YEAR_MAX}"
        )

    return read


_LINED = {"type": "string", "minLength": 1, "maxLength": DETAIL_CHARS_MAX}
_DATED = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
_TEXT = {"type": "string", "minLength": 1, "maxLength": TEXT_CHARS_MAX}
_NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
_REFERRED = {"type": "string", "pattern": _REFERENCE_PATTERN}
_IDENTIFIED = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_PERCENTAGE = {"anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}, {"type": "integer", "minimum": 0}]}
_MONEY = {"anyOf": [{"type": "string", "pattern": _USD_PATTERN}, {"type": "integer", "minimum": 0}]}

TENANT_FIELDS: dict[str, Field] = {
    "name": Field(_text, "the client's name; required", _TEXT),
    "tier": Field(_slug, "its tier; default standard", _NAME),
    "plan": Field(_slug, "its commercial plan", _NAME),
    "status": Field(_choice("active", "disabled"), "default active", {"enum": ["active", "disabled"]}),
    "contact": Field(_text, "whom to write to", _TEXT),
    "credential": Field(
        _reference, "its Anthropic key: env:NAME, file:PATH, or vault:NAME for one that is stored", _REFERRED
    ),
    "shared_credential": Field(_flag, "others may use the same credential", {"type": "boolean"}),
    "fallback": Field(_reference, "the credential to use when the first cannot serve", _REFERRED),
    "upstream": Field(_text, "the upstream that its credential belongs to", _TEXT),
    "user_profile": Field(_identifier, "sent as anthropic-user-profile-id", _IDENTIFIED),
    "workspace": Field(_identifier, "sent as anthropic-workspace-id with its credential", _IDENTIFIED),
    "disconnect": Field(
        _choice("drain", "cancel"), "what happens to an answer whose client left", {"enum": ["drain", "cancel"]}
    ),
    "offboard": Field(
        _choice("keep", "delete"), "what removing the block does with its data", {"enum": ["keep", "delete"]}
    ),
    "plan_slots": Field(
        _whole(1, 1_000_000), "slots agreed on beside its plan's number", {"type": "integer", "minimum": 1}
    ),
    "plan_from": Field(_date, "the first day on its plan; left out: as the plan says", _DATED),
    "hosts": Field(
        _hosts,
        "host names of the client's own that lead here (CNAME): each is an endpoint of this tenant alone",
        {
            "type": "array",
            "maxItems": HOSTS_MAX,
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 3, "maxLength": HOST_CHARS_MAX},
        },
    ),
}
BUDGET_FIELDS: dict[str, Field] = {
    "month_usd": Field(_budget, "dollars in a calendar month", _MONEY),
    "week_usd": Field(_budget, "dollars in a week", _MONEY),
    "day_usd": Field(_budget, "dollars in a day", _MONEY),
    "mode": Field(_choice("hard", "soft"), "refuse beyond it, or only alert", {"enum": ["hard", "soft"]}),
}
ALERT_FIELDS: dict[str, Field] = {
    "thresholds": Field(
        _thresholds,
        "percent of the budget, from low to high",
        {
            "type": "array",
            "maxItems": THRESHOLDS_MAX,
            "items": {"type": "integer", "minimum": 1, "maximum": THRESHOLD_PERCENT_MAX},
        },
    ),
    "targets": Field(_references, "where alerts go: references to URLs", {"type": "array", "items": _REFERRED}),
}
BILLING_FIELDS: dict[str, Field] = {
    "name": Field(_text, "as it stands on the invoice", _TEXT),
    "address": Field(_lines, "on several lines", _LINED),
    "street": Field(_lines, "the address in parts, in place of address", _LINED),
    "postcode": Field(_text, "of the town", _TEXT),
    "city": Field(_text, "the town", _TEXT),
    "country": Field(_text, "such as DE", {"type": "string", "pattern": "^[A-Z]{2}$"}),
    "contact": Field(_text, "whom to ask", _TEXT),
    "phone": Field(_text, "for questions", _TEXT),
    "email": Field(_text, "for questions", _TEXT),
    "tax_id": Field(_text, "such as a VAT number", _TEXT),
    "vat_category": Field(
        _choice(STANDARD_VAT, *NO_VAT), "why there is no tax; S: the taxes", {"enum": [STANDARD_VAT, *NO_VAT]}
    ),
    "payment": Field(_lines, "how to pay", _LINED),
    "note": Field(_lines, "a text below", _LINED),
    "currency": Field(_text, "such as EUR; left out: the agency's", {"type": "string", "pattern": "^[A-Z]{3}$"}),
    "rate": Field(
        _decimal, "how much of the currency a dollar is, in quotes", {"type": "string", "pattern": _USD_PATTERN}
    ),
    "taxes": Field(
        _taxes,
        'percent by text, such as { VAT = "19" }; {} for none',
        {"type": "object", "maxProperties": TAXES_MAX, "additionalProperties": _PERCENTAGE},
    ),
    "locale": Field(_text, "such as de_DE", {"type": "string", "pattern": "^[A-Za-z]{2,3}(_[A-Za-z0-9]{2,8}){0,3}$"}),
    "due_days": Field(
        _whole(0, DUE_DAYS_MAX), "days to pay", {"type": "integer", "minimum": 0, "maximum": DUE_DAYS_MAX}
    ),
    "purchase_order": Field(_text, "the client's order number", _TEXT),
    "buyer_reference": Field(_text, "the client's own sign, such as a Leitweg-ID", _TEXT),
}
KEY_FIELDS: dict[str, Field] = {
    "expires": Field(
        read_expiry(ZoneInfo("UTC")),
        "the last day on which it works, or a time with an offset",
        {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}([T ].*)?$"},
    ),
    "rotate_days": Field(
        _whole(1, DAYS_MAX), "replace it at this age", {"type": "integer", "minimum": 1, "maximum": DAYS_MAX}
    ),
    "slot": Field(_slug, "for this slot of the tenant alone, whose limits it has", _NAME),
    "digest_of": Field(
        _outside,
        "take over an existing key: env:NAME or file:PATH of its text",
        {"type": "string", "pattern": r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:\S.*)$"},
    ),
}
# Beside its terms: from which day on they count.
PLAN_DAY = "from"
PLAN_DAY_FIELDS: dict[str, Field] = {
    PLAN_DAY: Field(_date, "the day from which these terms count; left out: as the plan says", _DATED)
}
PLAN_FIELDS: dict[str, Field] = {
    "fee_usd": Field(_usd, "dollars a month", _MONEY),
    "included_usd": Field(_usd, "dollars of usage within the fee", _MONEY),
    "markup_percent": Field(_percent, "on top of what usage costs", _PERCENTAGE),
    "slots": Field(
        _whole(1, 1_000_000), "how many endpoints with a key and lane of their own", {"type": "integer", "minimum": 1}
    ),
    "extra_slot_usd": Field(_usd, "dollars a month for each slot beyond them", _MONEY),
    "setup_usd": Field(_usd, "dollars once, with the first invoice", _MONEY),
    "minimum_usd": Field(_usd, "dollars a month at least", _MONEY),
    "included_tokens": Field(
        _whole(0, 10**15), "tokens of all classes within the fee", {"type": "integer", "minimum": 0}
    ),
    "fair_use": Field(_flag, "all usage is within the fee, without a number", {"type": "boolean"}),
    "overage": Field(_choice(*OVERAGES), "what happens beyond the included", {"enum": list(OVERAGES)}),
    "throttle_tier": Field(_slug, "the tier that is left beyond the included", _NAME),
    "prices": Field(
        _prices,
        "own prices by model, or by the beginning of some and a *",
        {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": {name: {"type": "string", "pattern": _USD_PATTERN} for name in PRICE_NAMES},
            },
        },
    ),
    "surcharges": Field(
        _flag,
        "own prices bear those of list prices: fast mode, US, long prompts; default true",
        {"type": "boolean"},
    ),
    "bill_estimates": Field(_flag, "also what is known as an estimate only; default true", {"type": "boolean"}),
    "discount_percent": Field(_percent, "less of the fee, or of all", _PERCENTAGE),
    "discount_on": Field(_choice(*DISCOUNTED), "the fee alone, or usage too", {"enum": list(DISCOUNTED)}),
    "discount_until": Field(
        _day, "the last day with the discount", {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
    ),
    "trial_days": Field(
        _whole(0, TRIAL_DAYS_MAX),
        "days without charge for a tenant that had no plan before",
        {"type": "integer", "minimum": 0, "maximum": TRIAL_DAYS_MAX},
    ),
    "byok": Field(_flag, "the tenant pays the upstream itself", {"type": "boolean"}),
    "service_fee_percent": Field(_percent, "of the list price, with byok", _PERCENTAGE),
    "changes": Field(_choice(*CHANGES), "from when on a change counts", {"enum": list(CHANGES)}),
}


def limit_schema(limit: Limit) -> dict[str, Any]:
    """A limit as JSON Schema has it."""
    if limit.patterns:
        return {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 100}
    if limit.choices:
        return {"enum": list(limit.choices)}
    number: dict[str, Any] = {"type": "integer", "minimum": limit.low, "maximum": limit.high}
    return {"anyOf": [number, {"const": "none"}]} if limit.optional else number


def limit_schemas(names: tuple[str, ...] = tuple(LIMITS)) -> dict[str, Any]:
    return {name: {"description": LIMITS[name].help, **limit_schema(LIMITS[name])} for name in names}
