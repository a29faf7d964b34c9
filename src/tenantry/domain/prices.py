"""What usage costs: dated price rows and the billing rules of reference 5.2 and 5.3, in integer nano-dollars.

Prices in the data file are decimal dollars per million tokens. One dollar per million is exactly 1,000 nano-dollars a
token, so every list price is a whole number. Multipliers make exact fractions, rounded once, half up, at the end.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from importlib import resources
from typing import Final

from tenantry.domain.price_terms import (
    BadPriceTable,
    ModelPrices,
    PriceChange,
    Rates,
    Terms,
    changed,
    read_model,
    relative_of,
)
from tenantry.domain.usage import Iteration, Usage
from tenantry.domain.values import value

_DATE_SUFFIX: Final = re.compile(r"-\d{8}$")


# Behind the version of a price that a rule has assumed.
PROVISIONAL: Final = "/provisional"


@value
class Priced:
    """`cost_nanos` is None when nothing of the usage has a price. `reason` says what has none, also where only a part
    of it was taken at the dearest price there is.
    """

    cost_nanos: int | None
    price_version: str
    reason: str | None = None


_MINUTE_US: Final = 60_000_000
# Where no model has a row for long prompts.
_ANY_PROMPT: Final = 10**12
_LATELY_MAX: Final = 1000


class Quote:
    """The prices of one model at standard speed for prompts of up to `prompt_tokens_max`, in nano-dollars a token.

    `held_input_nanos` and `held_output_nanos` are what to hold: where inference may be bound to the US, and the dearest
    of all for a model without a price. The others are what is billed anywhere, by class of token; for such a model
    `is_known` is False. Good from `from_us` until before `until_us`, unix microseconds.
    """

    __slots__ = (
        "from_us",
        "held_input_nanos",
        "held_output_nanos",
        "input_nanos",
        "is_known",
        "output_nanos",
        "prompt_tokens_max",
        "read_nanos",
        "until_us",
        "write_1h_nanos",
        "write_5m_nanos",
    )

    def __init__(self, from_us: int, prompt_tokens_max: int, is_known: bool, held: Rates, billed: Rates) -> None:
        self.from_us = from_us
        self.until_us = from_us + _MINUTE_US
        self.prompt_tokens_max = prompt_tokens_max
        self.is_known = is_known
        self.held_input_nanos, self.held_output_nanos = held[0], held[4]
        self.input_nanos, self.write_5m_nanos, self.write_1h_nanos, self.read_nanos, self.output_nanos = billed

    def of_cache(self, write_5m: int, write_1h: int, read: int) -> int:
        """What tokens written to the cache and read from it cost."""
        return self.write_5m_nanos * write_5m + self.write_1h_nanos * write_1h + self.read_nanos * read


@dataclass(slots=True)
class PriceTable:
    """The prices of all models at one version.

    `assumes_relatives`: a model without a price is taken at that of the newest of its family, and the version that is
    told of it ends in `PROVISIONAL`. `unpriced` says of models that are known why they have no price.
    """

    version: str
    web_search_nanos: int
    batch_multiplier: Fraction
    us_multiplier: Fraction
    _rows: dict[str, ModelPrices] = field(repr=False)
    unpriced: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    assumes_relatives: bool = False
    _thresholds: list[int] = field(init=False, repr=False)
    _lately: dict[tuple[str, str, bool, int], tuple[int, Rates]] = field(init=False, repr=False)
    _short_max: int = field(init=False, repr=False)  # tokens of the longest prompt that no model has other prices for
    _quotes: dict[str, Quote] = field(init=False, repr=False)  # by model, for prompts at its usual price

    def __post_init__(self) -> None:
        terms = [one for row in self._rows.values() for _, one in row.periods]
        self._thresholds = sorted({one.long_prompt[0] for one in terms if one.long_prompt})
        self._lately = {}
        self._short_max = self._thresholds[0] if self._thresholds else _ANY_PROMPT
        self._quotes = {}

    @classmethod
    def load(cls, data: bytes) -> PriceTable:
        """Read the data file.

        Raises:
            BadPriceTable: it is not valid.
        """
        try:
            document = json.loads(data)
            return cls(
                version=document["version"],
                web_search_nanos=int(Fraction(document["web_search_per_1000"]) * 1_000_000),
                batch_multiplier=Fraction(document["batch_multiplier"]),
                us_multiplier=Fraction(document["us_inference_multiplier"]),
                _rows={model: read_model(model, row) for model, row in document["models"].items()},
                unpriced=dict(document.get("unpriced", {})),
            )
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise BadPriceTable(f"price table: {error!r}") from error

    def changed(self, version: str, changes: Iterable[PriceChange], assumes_relatives: bool) -> PriceTable:
        """This table after an operator's changes, in the order in which they were made, under another version.

        Raises:
            BadPriceTable: a change cannot be read.
        """
        return PriceTable(
            version,
            self.web_search_nanos,
            self.batch_multiplier,
            self.us_multiplier,
            changed(self._rows, changes),
            self.unpriced,
            assumes_relatives,
        )

    def become(self, other: PriceTable) -> None:
        """Go on as the other table: whoever holds this one has other prices from now on."""
        self.version = other.version
        self.web_search_nanos = other.web_search_nanos
        self.batch_multiplier, self.us_multiplier = other.batch_multiplier, other.us_multiplier
        self._rows, self.unpriced, self.assumes_relatives = other._rows, other.unpriced, other.assumes_relatives
        self.__post_init__()

    @property
    def short_prompt_tokens(self) -> int:
        """A prompt of at most so many tokens is a long one for no model, at no time."""
        return self._short_max

    def find_terms(self, model: str, at: datetime) -> Terms | None:
        """What a model costs at a time, or is assumed to; None: it has no price."""
        row = self._assumed(model)
        return row.terms(at) if row is not None else None

    def models(self) -> list[str]:
        return list(self._rows)

    def of(self, model: str) -> ModelPrices | None:
        """All prices of a model, by its own id or that without a date."""
        return self._find(model)

    def rates(
        self, model: str, prompt_tokens: int, at: datetime, *, speed: str = "standard", is_us: bool = False
    ) -> Rates | None:
        """Nano-dollars a token (input, 5 m write, 1 h write, cache read, output), each rounded up; None: no price.

        A speed that the model has no price for is taken at the dearest multiplier of any.
        """
        row = self._assumed(model)
        if row is None:
            return None
        terms = row.terms(at)
        rates = terms.rates_for(prompt_tokens)
        over = under = 1  # whole numbers: arithmetic on fractions takes most of a microsecond a step
        if speed != "standard":
            fast = terms.fast_multiplier or self._fast_multiplier_max()
            over, under = fast.numerator, fast.denominator
        if is_us and terms.us_inference:
            over *= self.us_multiplier.numerator
            under *= self.us_multiplier.denominator
        if over == under:
            return rates
        first, second, third, fourth, fifth = (-(-rate * over // under) for rate in rates)
        return first, second, third, fourth, fifth

    def rates_lately(self, model: str, prompt_tokens: int, at_us: int, *, speed: str, is_us: bool) -> Rates:
        """`rates`, or the dearest of all for a model without a price; `at_us` in unix microseconds.

        An answer is kept for its minute: prices change at midnight at the earliest.
        """
        minute = at_us // _MINUTE_US
        key = (model, speed, is_us, bisect_left(self._thresholds, prompt_tokens))
        kept = self._lately.get(key)
        if kept is not None and kept[0] == minute:
            return kept[1]
        at = datetime.fromtimestamp(at_us / 1_000_000, UTC)
        rates = self.rates(model, prompt_tokens, at, speed=speed, is_us=is_us)
        if rates is None:
            rates = self.rates_max(prompt_tokens, at, speed=speed, is_us=is_us)
        if len(self._lately) >= _LATELY_MAX:  # a client may name any model
            self._lately.clear()
        self._lately[key] = (minute, rates)
        return rates

    def quote(self, model: str, prompt_tokens: int, at_us: int) -> Quote:
        """What nearly every request is held at and nearly every answer costs; kept for the minute, as above."""
        kept = self._quotes.get(model)
        if kept is not None and kept.from_us <= at_us < kept.until_us and prompt_tokens <= kept.prompt_tokens_max:
            return kept
        held = self.rates_lately(model, prompt_tokens, at_us, speed="standard", is_us=True)
        billed = self.rates_lately(model, prompt_tokens, at_us, speed="standard", is_us=False)
        row = self._find(model)
        short_max = self._short_max
        if row is not None:
            long_prompt = row.terms(datetime.fromtimestamp(at_us / 1_000_000, UTC)).long_prompt
            short_max = long_prompt[0] if long_prompt is not None else _ANY_PROMPT
        is_short = prompt_tokens <= short_max
        from_us = at_us // _MINUTE_US * _MINUTE_US
        quote = Quote(from_us, short_max if is_short else _ANY_PROMPT, row is not None, held, billed)
        if is_short:
            if len(self._quotes) >= _LATELY_MAX:  # a client may name any model
                self._quotes.clear()
            self._quotes[model] = quote
        return quote

    def plain_cost(self, usage: Usage, model: str, at_us: int) -> int | None:
        """What `price` says of nearly every answer: one model, standard speed, no discount; None of any other.

        `at_us` in unix microseconds; the cost in nano-dollars.
        """
        if usage.iterations or usage.speed != "standard" or usage.inference_geo == "us":
            return None
        if usage.service_tier == "batch":
            return None
        read, write_5m, write_1h = usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens
        fresh, output = usage.input_tokens, usage.output_tokens
        quote = self.quote(model, fresh + write_5m + write_1h + read, at_us)
        if not quote.is_known:
            return None
        cost = quote.input_nanos * fresh + quote.output_nanos * output + quote.of_cache(write_5m, write_1h, read)
        return cost + self.web_search_nanos * usage.web_search_requests

    def rates_max(self, prompt_tokens: int, at: datetime, *, speed: str = "standard", is_us: bool = False) -> Rates:
        """The dearest of all models, class by class: what a model without a price may cost."""
        found = [self.rates(model, prompt_tokens, at, speed=speed, is_us=is_us) for model in self._rows]
        known = [rates for rates in found if rates is not None]
        return max_rates(known)

    def _fast_multiplier_max(self) -> Fraction:
        found = [terms.fast_multiplier for row in self._rows.values() for _, terms in row.periods]
        return max((one for one in found if one is not None), default=Fraction(2))

    def price(
        self, usage: Usage, model: str, at: datetime, *, content_empty: bool = False, stop_reason: str | None = None
    ) -> Priced:
        """The bill for `usage` of an answer by `model`, at list price on `at` (reference 5.2).

        Each iteration is priced on its own. One that has no price is taken at the dearest there is, and `reason` names
        it; only where nothing has a price is the answer unpriced.
        """
        is_refused = stop_reason == "refusal"
        version = self._version_for(usage, model)
        if usage.iterations:
            return self._price_steps(usage, model, at, is_refused, is_refused and content_empty, version)
        if is_refused and content_empty:
            return Priced(0, version)  # rule 2: declined before any output
        amount = self._amount(usage, usage.speed, model, usage, at)
        if amount is None:
            return Priced(None, version, _no_price(model, usage.speed))
        return Priced(_rounded(amount + self.web_search_nanos * usage.web_search_requests), version)

    def _price_steps(
        self, usage: Usage, model: str, at: datetime, is_refused: bool, is_empty: bool, version: str
    ) -> Priced:
        """Rule 1: the sum over the iterations. `is_empty`: the answer declined before any output."""
        fell_back = any(step.type == "fallback_message" for step in usage.iterations)
        total: int | Fraction = 0
        priced = unpriced = 0
        reason: str | None = None
        for step in usage.iterations:
            if has_declined(step, fell_back, is_refused, is_empty):
                continue
            step_model = step.model or model
            speed = self.step_speed(step, step_model, usage, at)
            amount = self._amount(step, speed, step_model, usage, at)
            if amount is None:
                unpriced += 1
                reason = reason or _no_price(step_model, speed)
                amount = self._dearest(step, speed, step_model, usage, at)
            else:
                priced += 1
            total += amount
        if unpriced and not priced:
            return Priced(None, version, reason)
        if not is_empty:
            total += self.web_search_nanos * usage.web_search_requests
        return Priced(_rounded(total), version, reason)

    def step_speed(self, step: Iteration, model: str, usage: Usage, at: datetime) -> str:
        """Rule 4: the speed is the executor's. An advisor has none; a fallback takes it where its model offers it."""
        if usage.speed == "standard" or step.type == "advisor_message":
            return "standard"
        if step.type == "fallback_message":
            row = self._assumed(model)
            return "fast" if usage.speed == "fast" and row is not None and row.terms(at).offers_fast(at) else "standard"
        return usage.speed

    def step_cost(self, step: Iteration, model: str, usage: Usage, at: datetime) -> int | Fraction:
        """What one step of an answer costs in nano-dollars, at the dearest there is where it has no price."""
        speed = self.step_speed(step, model, usage, at)
        amount = self._amount(step, speed, model, usage, at)
        return self._dearest(step, speed, model, usage, at) if amount is None else amount

    def _amount(
        self, step: Usage | Iteration, speed: str, model: str, usage: Usage, at: datetime
    ) -> int | Fraction | None:
        """Token money of one step in nano-dollars, None where it has no price. Place and tier are the answer's."""
        row = self._assumed(model)
        if row is None:
            return None
        terms = row.terms(at)
        amount: int | Fraction = _at(terms.rates_for(step.prompt_tokens), step)
        if speed != "standard":
            if speed != "fast" or terms.fast_multiplier is None or not terms.offers_fast(at):
                return None
            amount *= terms.fast_multiplier
        if usage.inference_geo == "us" and terms.us_inference:
            amount *= self.us_multiplier
        if usage.service_tier == "batch":
            amount *= self.batch_multiplier
        return amount

    def _dearest(self, step: Usage | Iteration, speed: str, model: str, usage: Usage, at: datetime) -> int | Fraction:
        """What a step without a price may cost at most, as it was held: `rates_lately` decides alike."""
        is_us = usage.inference_geo == "us"
        rates = self.rates(model, step.prompt_tokens, at, speed=speed, is_us=is_us)
        if rates is None:
            rates = self.rates_max(step.prompt_tokens, at, speed=speed, is_us=is_us)
        amount = _at(rates, step)
        return amount * self.batch_multiplier if usage.service_tier == "batch" else amount

    def _version_for(self, usage: Usage, model: str) -> str:
        """The version, with what says that some price of it was only assumed."""
        if self.assumes_relatives:
            models = {step.model or model for step in usage.iterations} or {model}
            if any(self._find(one) is None and self._assumed(one) is not None for one in models):
                return self.version + PROVISIONAL
        return self.version

    def _assumed(self, model: str) -> ModelPrices | None:
        """The model's prices, or those that it is assumed to have."""
        row = self._find(model)
        if row is None and self.assumes_relatives:
            relative = relative_of(model, self._rows)
            return self._rows[relative] if relative is not None else None
        return row

    def _find(self, model: str) -> ModelPrices | None:
        """Exactly the model, or the model with a date behind it; never a shorter relative of it."""
        row = self._rows.get(model)
        return row if row is not None else self._rows.get(_DATE_SUFFIX.sub("", model))


def max_rates(several: Sequence[Rates]) -> Rates:
    """The dearest of each class of token; nothing at all costs nothing."""
    if len(several) == 1:
        return several[0]
    first, second, third, fourth, fifth = (
        (max(rates, default=0) for rates in zip(*several, strict=True)) if several else (0,) * 5
    )
    return first, second, third, fourth, fifth


def _rounded(amount: int | Fraction) -> int:
    """Half up."""
    return (2 * amount.numerator + amount.denominator) // (2 * amount.denominator)


def _at(rates: Rates, step: Usage | Iteration) -> int:
    return (
        rates[0] * step.input_tokens
        + rates[1] * step.cache_write_5m_tokens
        + rates[2] * step.cache_write_1h_tokens
        + rates[3] * step.cache_read_tokens
        + rates[4] * step.output_tokens
    )


def has_declined(step: Iteration, fell_back: bool, is_refused: bool, is_empty: bool) -> bool:
    """Rules 1, 2 and 4: shown but not billed. What ran before the refusal, a compaction above all, is billed."""
    if step.type == "message":
        return is_empty or (step.output_tokens == 0 and (fell_back or is_refused))
    return step.type == "fallback_message" and (is_empty or (step.output_tokens == 0 and is_refused))


def _no_price(model: str, speed: str) -> str:
    return f"no price for model {model}" if speed == "standard" else f"no price for model {model} at speed {speed}"


def load_default_prices() -> PriceTable:
    """The table that ships with this version.

    Raises:
        BadPriceTable: the installed data file is damaged.
    """
    return PriceTable.load(resources.files("tenantry.domain").joinpath("prices.json").read_bytes())
