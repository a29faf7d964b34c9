"""How much money to hold for a request: its worst case, or for a stream what it has used and one step more.

What a request may be charged at most is in `charges`. What is billed beyond it is recorded as excess, and makes what
the same tenant holds for the same model larger until it has proved enough for long.

Times are unix microseconds. No float touches money.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from tenantry.domain.asked import MessageFields
from tenantry.domain.charges import (
    CONTEXT_TOKENS,
    CONTEXT_TOKENS_OLD,
    OVERHEAD_TOKENS,
    charges_of,
    context_tokens,
    input_rate,
    is_fast,
    is_plain,
    rough_input_bound,
)
from tenantry.domain.prices import PriceTable
from tenantry.domain.usage import Usage

__all__ = [
    "Bound",
    "Histories",
    "History",
    "StreamMeter",
    "bound_of",
    "nanos_by_time",
    "per_second",
    "produced_tokens",
    "rough_input_bound",
    "tokens_bound",
]

# A stream's first guess of its output, before anything has been learned, and its bounds afterwards.
OUTPUT_TOKENS_FIRST: Final = 2_048
OUTPUT_TOKENS_LOW: Final = 512
OUTPUT_TOKENS_HIGH: Final = 8_192
# A stream holds this much more than it has produced; an extension adds a step on top. The margin covers what
# upstream generates while a refusal is on its way: at 150 tokens a second, seven seconds.
MARGIN_TOKENS: Final = 1_024
STEP_TOKENS: Final = 2_048
# Thinking may be omitted from a stream (reference 7.5) and is billed all the same, so time counts beside characters.
# Standard models write some 50 to 100 tokens a second, fast mode 2.5 times as much.
TOKENS_PER_SECOND: Final = 150
FAST_TOKENS_PER_SECOND: Final = 400
# English has about four characters a token, code three; half of that is the safety.
CHARS_PER_TOKEN: Final = 2
# A body below this is mostly framing, and a token has at least a byte: what a tiny one with a thread or tools costs
# says nothing of a large one's text.
LEARNED_BODY_BYTES_MIN: Final = 2_048
TOKENS_PER_KB_MAX: Final = 1_024
# A hold is scaled by 256ths. Sixteen times is the worst ratio that is believed; a 64th of what is above 1 goes with
# each bill that stays below its hold, so some 200 of them forget an excess of four times.
SCALE_ONE: Final = 256
SCALE_MAX: Final = 16 * SCALE_ONE
SCALE_DECAY_SHIFT: Final = 6
# So many histories are looked at, at most, to make place for another: some 10 us.
LOOKED_AT_MAX: Final = 64


@dataclass(init=False, slots=True)
class Bound:
    """The most that a request may cost, as known when it is sent.

    `output_tokens` are those in it, and `output_nanos` what each of them may cost; `output_tokens_max` those that all
    models which may answer can write together: a stream's are held as they come.
    """

    nanos: Final[int]
    output_nanos: Final[int]
    output_tokens: Final[int]
    output_tokens_max: Final[int]

    def __init__(
        self,
        nanos: int,
        output_nanos: int,
        output_tokens: int,
        output_tokens_max: int,
    ) -> None:
        self.nanos = nanos
        self.output_nanos = output_nanos
        self.output_tokens = output_tokens
        self.output_tokens_max = output_tokens_max


def nanos_by_time(
    bound_nanos: int, output_nanos: int, output_tokens: int, output_tokens_max: int, elapsed_us: int, per_second: int
) -> int:
    """What a request of which nothing was told may have cost so long after it was sent: never below its prompt.

    What is generated on while a broken connection is noticed is in it (`MARGIN_TOKENS`). Arguments as in `Bound`.
    """
    tokens = produced_tokens(0, elapsed_us, 0, per_second) + MARGIN_TOKENS
    return bound_nanos + output_nanos * (min(tokens, output_tokens_max) - output_tokens)


def bound_of(
    prices: PriceTable,
    fields: MessageFields,
    body_bytes: int,
    at_us: int,
    history: History | None,
    prompt_tokens: int | None = None,
) -> Bound:
    """The bound of a request; `prompt_tokens`: what the upstream has counted, else `body_bytes` bound the prompt."""
    if fields.is_simple:
        prompt, output = prompt_tokens, fields.max_tokens or 0
        if prompt is None:
            prompt = body_bytes + OVERHEAD_TOKENS
            if prompt > CONTEXT_TOKENS_OLD:  # every model takes so much
                prompt = min(prompt, context_tokens(fields.model))
        quote = prices.quote(fields.model, prompt, at_us)
        rate = quote.held_output_nanos
        nanos = quote.held_input_nanos * prompt + rate * output
        return Bound(nanos if history is None else history.scale(nanos), rate, output, output)
    prompt = rough_input_bound(body_bytes, fields) if prompt_tokens is None else prompt_tokens
    output = fields.output_tokens_max
    if is_plain(fields):
        speed, is_us = "fast" if is_fast(fields) else "standard", fields.inference_geo != "global"
        rates = prices.rates_lately(fields.model, prompt, at_us, speed=speed, is_us=is_us)
        rate = rates[4]
        nanos = (input_rate(rates, fields) if fields.has_cache_control else rates[0]) * prompt + rate * output
    else:
        charges = charges_of(prices, fields, prompt, at_us)
        output *= charges.attempts
        rate = charges.output_nanos + charges.again_nanos
        nanos = charges.total(prompt, output)
    if history is not None:
        nanos = history.scale(nanos)
    return Bound(nanos, rate, output, output)


def tokens_bound(
    prices: PriceTable, fields: MessageFields, bound: Bound, body_bytes: int, prompt_tokens: int | None, at_us: int
) -> int:
    """The most tokens of all classes that a request may be charged for. Arguments as in `bound_of`.

    Where one model reads the prompt once, it is the prompt and all of `max_tokens`. Elsewhere what it may cost, at the
    lowest price that a token may have: too much rather than too little.
    """
    prompt = rough_input_bound(body_bytes, fields) if prompt_tokens is None else prompt_tokens
    if is_plain(fields):
        return prompt + fields.output_tokens_max
    speed, is_us = "fast" if is_fast(fields) else "standard", fields.inference_geo != "global"
    lowest = max(1, prices.rates_lately(fields.model, prompt, at_us, speed=speed, is_us=is_us)[3])
    most_nanos = bound.nanos + bound.output_nanos * (bound.output_tokens_max - bound.output_tokens)
    return max(prompt, most_nanos // lowest)


class History:
    """What one tenant's answers by one model have been like: output tokens, and prompt tokens a kilobyte of body.

    Integers scaled by 256; the last eight or so answers weigh most. And how far a bill has passed what was held.
    """

    __slots__ = ("_deviation", "_mean", "_scale", "_tokens_per_kb", "answers", "is_used")

    def __init__(self) -> None:
        self.answers = 0
        self._mean = 0
        self._deviation = 0
        self._scale: int = SCALE_ONE
        self._tokens_per_kb = 0
        self.is_used = False  # again, since `Histories` looked

    def learn(self, output_tokens: int, prompt_tokens: int = 0, body_bytes: int = 0) -> None:
        """One answer ended by itself. A prompt of 0 or a small body teaches nothing about the ratio."""
        # One very long answer must not be what small ones are held at for long.
        most = 2 * OUTPUT_TOKENS_HIGH
        seen = (most if output_tokens > most else output_tokens if output_tokens > 0 else 0) << 8
        if self.answers == 0:
            self._mean, self._deviation = seen, seen >> 1
        else:
            beyond = seen - self._mean
            self._deviation += ((beyond if beyond > 0 else -beyond) - self._deviation) >> 3
            self._mean += beyond >> 3
        self.answers += 1
        if body_bytes >= LEARNED_BODY_BYTES_MIN and prompt_tokens > 0:
            ratio = min((min(prompt_tokens, CONTEXT_TOKENS) << 18) // body_bytes, TOKENS_PER_KB_MAX << 8)
            known = self._tokens_per_kb
            # Up at once, down slowly: too much is waited for, too little is a surprise.
            self._tokens_per_kb = ratio if ratio > known else known - ((known - ratio) >> 3)

    def learn_excess(self, held_nanos: int, billed_nanos: int) -> None:
        """One hold has been settled. A bill above it makes later holds larger at once; others take that back slowly."""
        scale = self._scale
        if billed_nanos > held_nanos > 0:
            # What was held was scaled by what is known already.
            worst = min(SCALE_MAX, -(-billed_nanos * scale // held_nanos))
            self._scale = max(scale, worst)
        elif scale > SCALE_ONE:
            self._scale = scale - 1 - ((scale - SCALE_ONE) >> SCALE_DECAY_SHIFT)

    def scale(self, amount_nanos: int) -> int:
        """What to hold where the prices and bounds say `amount_nanos`."""
        return amount_nanos if self._scale == SCALE_ONE else -(-amount_nanos * self._scale >> 8)

    @property
    def output_tokens(self) -> int:
        """What the next answer is likely to stay below: mean and two deviations, within the bounds."""
        if self.answers == 0:
            return OUTPUT_TOKENS_FIRST
        return min(OUTPUT_TOKENS_HIGH, max(OUTPUT_TOKENS_LOW, (self._mean + 2 * self._deviation) >> 8))

    def input_tokens(self, body_bytes: int) -> int:
        """The likely prompt of a body: for rate limits and warnings, never for a hard budget.

        Before anything is learned: 3 bytes a token.
        """
        if self._tokens_per_kb == 0:
            return -(-body_bytes // 3)
        return -(-body_bytes * self._tokens_per_kb >> 18)


class Histories:
    """The history of each tenant and model. Of more than `entries_max`, one that is not used is forgotten.

    A client may name any model, so what is kept has to be bounded: some 400 bytes an entry. Entries stand in a row as
    pages do in a clock cache: one that was used again since it was looked at last goes to the end.
    """

    __slots__ = ("_by_tenant", "_entries_max", "_row")

    def __init__(self, entries_max: int = 10_000) -> None:
        self._by_tenant: dict[str, dict[str, History]] = {}
        self._row: deque[tuple[str, str]] = deque()
        self._entries_max = entries_max

    def of(self, tenant_id: str, model: str) -> History:
        models = self._by_tenant.get(tenant_id)
        history = models.get(model) if models is not None else None
        if history is None:
            return self._begin(tenant_id, model)
        history.is_used = True
        return history

    def _begin(self, tenant_id: str, model: str) -> History:
        if len(self._row) >= self._entries_max:
            self._forget()
        history = self._by_tenant.setdefault(tenant_id, {})[model] = History()
        self._row.append((tenant_id, model))
        return history

    def _forget(self) -> None:
        """Forget the first that was not used again; where many were, one of them."""
        row = self._row
        for _ in range(LOOKED_AT_MAX):
            tenant_id, model = row[0]
            history = self._by_tenant[tenant_id][model]
            if not history.is_used:
                break
            history.is_used = False
            row.rotate(-1)
        tenant_id, model = row.popleft()
        models = self._by_tenant[tenant_id]
        del models[model]
        if not models:
            del self._by_tenant[tenant_id]


class StreamMeter:
    """How much a stream has to hold, from its start to its end.

    `first_bound` is to be held before it is sent. `started` takes the usage of message_start: the prompt's cost is then
    exact. `produced` is asked as the answer grows. Amounts are totals, for `Hold.resize`; when one does not fit, the
    stream has to end: what was produced is still covered, by at least the margin.

    The cost passes the hold only if the model writes more than twice as fast in characters a token and faster in time
    than the constants above say, if a refusal takes longer than the margin lasts, or where `charges` ends.
    """

    __slots__ = (
        "_again_nanos",
        "_charges",
        "_fields",
        "_history",
        "_input_nanos",
        "_output_nanos",
        "_per_second",
        "held_tokens",
        "max_tokens",
    )

    def __init__(
        self, prices: PriceTable, fields: MessageFields, input_tokens_bound: int, history: History | None, at_us: int
    ) -> None:
        charges = self._charges = charges_of(prices, fields, input_tokens_bound, at_us)
        self._fields = fields
        self._history = history
        self._input_nanos = charges.input_nanos * input_tokens_bound
        self._again_nanos = charges.again_nanos * input_tokens_bound + charges.fixed_nanos
        self._output_nanos = charges.output_nanos + charges.again_nanos
        self._per_second = per_second("fast" if is_fast(fields) else "standard")
        self.max_tokens = fields.output_tokens_max * charges.attempts
        likely = history.output_tokens if history is not None else OUTPUT_TOKENS_FIRST
        self.held_tokens = min(self.max_tokens, likely + MARGIN_TOKENS)

    @property
    def step_nanos(self) -> int:
        """What it may have to hold beside what it holds, at once, as it grows."""
        amount = self._output_nanos * STEP_TOKENS
        return amount if self._history is None else self._history.scale(amount)

    def first_bound(self) -> Bound:
        """What is to be held before it is sent, and what of it is output."""
        return Bound(self._total(), self._output_nanos, self.held_tokens, self.max_tokens)

    def _total(self) -> int:
        amount = self._input_nanos + self._again_nanos + self._output_nanos * self.held_tokens
        return amount if self._history is None else self._history.scale(amount)

    def started(self, prices: PriceTable, model: str, usage: Usage, at_us: int) -> int:
        """What to hold once message_start has told the prompt, the model, the speed and the place.

        With fallbacks in the request, another model may yet take over: the bound of the start stays, for no less than
        the prompt that was told. What is read
        again later stays at its bound too, but for the prompt's own tokens, which are now known.
        """
        fields, charges = self._fields, self._charges
        told = usage.prompt_tokens
        if fields.fallbacks or fields.fallbacks_default:
            self._input_nanos = max(self._input_nanos, charges.input_nanos * told)
            return self._total()
        if told == 0:  # no prompt is empty: some servers tell it with the end alone
            return self._total()
        row = told
        if charges.readings > 1:
            row = charges.readings * told + charges.again_tokens + (charges.readings - 1) * self.max_tokens
        # What was asked for may be told with the end alone.
        is_us = usage.inference_geo == "us" or fields.inference_geo == "us"
        speed = "fast" if usage.speed == "standard" and fields.speed == "fast" else usage.speed
        rates = prices.rates_lately(model or fields.model, row, at_us, speed=speed, is_us=is_us)
        self._output_nanos = rates[4] + charges.again_nanos
        self._input_nanos = (
            rates[0] * usage.input_tokens
            + rates[1] * usage.cache_write_5m_tokens
            + rates[2] * usage.cache_write_1h_tokens
            + rates[3] * usage.cache_read_tokens
        )
        if not fields.is_compaction and fields.compact_at_tokens is None:
            # A summary is made of the prompt as it was before: what message_start tells may come after it.
            self._again_nanos = charges.again_nanos * told + charges.fixed_nanos
        return self._total()

    def produced(self, chars: int, elapsed_us: int, output_tokens: int = 0) -> int | None:
        """What to hold now; None while the present hold is enough.

        `chars` were generated in `elapsed_us` since message_start. `output_tokens`: what a message_delta told, which
        counts when it is more.
        """
        tokens = produced_tokens(chars, elapsed_us, output_tokens, self._per_second)
        if tokens + MARGIN_TOKENS <= self.held_tokens or self.held_tokens >= self.max_tokens:
            return None
        self.held_tokens = min(self.max_tokens, tokens + MARGIN_TOKENS + STEP_TOKENS)
        return self._total()

    def told_in_all(self, output_tokens: int) -> None:
        """So much output has been told. Where no one answer may have so much, another one is under way."""
        if output_tokens > self.max_tokens:
            self.max_tokens = output_tokens + self._fields.output_tokens_max

    def produced_tokens(self, chars: int, elapsed_us: int, output_tokens: int = 0) -> int:
        """The most that may have been generated: for a stream that was cut. Never more than was asked for."""
        produced = produced_tokens(chars, elapsed_us, output_tokens, self._per_second)
        return max(output_tokens, min(self.max_tokens, produced))


def per_second(speed: str) -> int:
    """The most tokens that a model writes in a second."""
    return TOKENS_PER_SECOND if speed == "standard" else FAST_TOKENS_PER_SECOND


def produced_tokens(chars: int, elapsed_us: int, output_tokens: int = 0, per_second: int = TOKENS_PER_SECOND) -> int:
    """The most that was generated: by characters, by time, or as told."""
    return max(-(-chars // CHARS_PER_TOKEN), max(0, elapsed_us) * per_second // 1_000_000, output_tokens)
