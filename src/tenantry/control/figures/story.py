"""One request's story, with what each attempt cost line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from tenantry.control.site import Site
from tenantry.domain.prices import PriceTable
from tenantry.ledger.story import find_story
from tenantry.storage.prices import load_prices

_CLASSES: Final = {
    "input_tokens": "input tokens",
    "cache_write_5m_tokens": "tokens written to the cache for 5 minutes",
    "cache_write_1h_tokens": "tokens written to the cache for an hour",
    "cache_read_tokens": "tokens read from the cache",
    "output_tokens": "output tokens",
}


@dataclass(frozen=True, slots=True)
class CostLine:
    """`count` of something at `rate_nanos` each; both None: a sum of its own."""

    words: str
    count: int | None
    rate_nanos: int | None
    nanos: int


@dataclass(frozen=True, slots=True)
class Chapter:
    """One row of the ledger as `ledger show` tells it, and its cost in lines that add up to it.

    `at_other_prices`: it was priced at another version of the prices than today's, so that only its sum is known here.
    """

    row: Mapping[str, Any]
    lines: Sequence[CostLine]
    at_other_prices: bool


def story_of(site: Site, wanted: str) -> list[Chapter]:
    """The chapters of the request that has this id; none where there is none."""
    prices = load_prices(site.engine)
    return [_chapter(row, prices) for row in find_story(site.engine, wanted)]


def _chapter(row: Mapping[str, Any], prices: PriceTable) -> Chapter:
    nanos = row["cost_nanos"]
    if not nanos or row["adjusts"]:
        return Chapter(row, [], False)
    if row["price_version"] != prices.version:
        return Chapter(row, [], True)
    return Chapter(row, cost_lines(row, prices), False)


def cost_lines(row: Mapping[str, Any], prices: PriceTable) -> list[CostLine]:
    """Lines that add up to the row's cost. What the classes of tokens do not explain stands in a line of its own."""
    usage, model = row["usage"], row["model_served"] or row["model_requested"]
    told = _told(row["usage_raw"])
    prompt = sum(usage[name] for name in _CLASSES if name != "output_tokens")
    at = datetime.fromisoformat(row["ended_at"]).astimezone(UTC)
    speed = str(told.get("speed") or "standard")
    rates = prices.rates(model, prompt, at, speed=speed, is_us=told.get("inference_geo") == "us")
    lines: list[CostLine] = []
    if rates is not None and row["basis"] != "bound":
        for (name, words), rate in zip(_CLASSES.items(), rates, strict=True):
            if usage[name]:
                lines.append(CostLine(words, usage[name], rate, usage[name] * rate))
        searches = usage["web_search_requests"]
        if searches:
            each = prices.web_search_nanos
            lines.append(CostLine("web searches", searches, each, searches * each))
    rest = row["cost_nanos"] - sum(one.nanos for one in lines)
    if rest:
        lines.append(CostLine(_rest(row, told, bool(lines)), None, None, rest))
    return lines


def _rest(row: Mapping[str, Any], told: Mapping[str, Any], has_lines: bool) -> str:
    if row["basis"] == "bound":
        return "the most that it can have cost: how it ended is not known to the token"
    if told.get("service_tier") == "batch":
        return "discount of a batch"
    if told.get("iterations"):
        return "steps of the answer that are billed one by one"
    return "billed otherwise than by the token" if has_lines else "in one sum"


def _told(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
