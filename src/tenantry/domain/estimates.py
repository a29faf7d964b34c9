"""How much money to hold for a request: its worst case, or for a stream what it has used and one step more.

Bounds, and where they end. A token is at least one byte of the text it stands for, so the bytes of a body bound its
text (byte-level encodings never give more tokens than bytes). An image has a bound of its own. Documents, files and
threads are bounded by nothing that the body says: such a request is held at the model's whole context window. What
server tools bring into the prompt, and what an advisor writes without a declared `max_tokens`, is known to nobody
beforehand: the constants below stand for it. What is billed beyond them is recorded as excess and refuses the next
request.

Times are unix microseconds. No float touches money.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime

from tenantry.domain.asked import MessageFields
from tenantry.domain.prices import PriceTable, Rates, max_rates
from tenantry.domain.usage import Usage

# Reference 5.6: 1M of context from 4.6 on; the older ones take 200k.
CONTEXT_TOKENS = 1_000_000
CONTEXT_TOKENS_OLD = 200_000
_OLD_MODELS = ("claude-haiku-4-5", "claude-opus-4-5", "claude-sonnet-4-5", "claude-opus-4-1", "claude-haiku-3-5")
# One image, whatever its bytes: upstream scales it down to what some 4,800 tokens hold.
IMAGE_TOKENS = 5_000
# The framing of messages, and the system prompt that upstream adds for tools: hundreds of tokens; a typed tool is a few
# bytes that stand for a whole description (about 3,000 tokens for computer use).
OVERHEAD_TOKENS = 64
TOOLS_OVERHEAD_TOKENS = 1_000
TYPED_TOOL_TOKENS = 5_000
# Upstream pauses a turn (stop_reason pause_turn) after some ten uses of server tools.
TOOL_USES_UNDECLARED = 10
# A page of search results or a fetched page.
TOOL_RESULT_TOKENS = 10_000
# One piece of advice when its tool declares no max_tokens.
ADVICE_TOKENS = 8_000

# A stream's first guess of its output, before anything has been learned, and its bounds afterwards.
OUTPUT_TOKENS_FIRST = 2_048
OUTPUT_TOKENS_LOW = 512
OUTPUT_TOKENS_HIGH = 8_192
# A stream holds this much more than it has produced; an extension adds a step on top. The margin covers what
# upstream generates while a refusal is on its way: at 150 tokens a second, seven seconds.
MARGIN_TOKENS = 1_024
STEP_TOKENS = 2_048
# Thinking may be omitted from a stream (reference 7.5) and is billed all the same, so time counts beside characters.
# Standard models write some 50 to 100 tokens a second, fast mode 2.5 times as much.
TOKENS_PER_SECOND = 150
FAST_TOKENS_PER_SECOND = 400
# English has about four characters a token, code three; half of that is the safety.
CHARS_PER_TOKEN = 2


def context_tokens(model: str) -> int:
    """The largest prompt that the model takes."""
    return CONTEXT_TOKENS_OLD if model.startswith(_OLD_MODELS) else CONTEXT_TOKENS


def rough_input_bound(body_bytes: int, fields: MessageFields) -> int:
    """An upper bound on the prompt's tokens. More than the context window is refused upstream and costs nothing."""
    window = context_tokens(fields.model)
    if fields.has_sources or fields.has_thread:
        return window
    bound = body_bytes - fields.image_bytes + IMAGE_TOKENS * fields.images + OVERHEAD_TOKENS
    if fields.has_tools:
        bound += TOOLS_OVERHEAD_TOKENS + TYPED_TOOL_TOKENS * len(fields.server_tools)
    return min(window, bound)


def worst_rates(prices: PriceTable, fields: MessageFields, prompt_tokens: int, at_us: int) -> Rates:
    """The dearest price of each class of token among the models that may answer.

    A model without a price is taken at the dearest known one. Where the body does not say `global`, the workspace may
    default to US inference (reference 5.1), so that is what is held.
    """
    is_us = fields.inference_geo != "global"
    speed = "fast" if fields.speed == "fast" or "fast" in fields.fallback_speeds else "standard"
    if not fields.fallbacks and not fields.fallbacks_default:
        return prices.rates_lately(fields.model, prompt_tokens, at_us, speed=speed, is_us=is_us)
    at = datetime.fromtimestamp(at_us / 1_000_000, UTC)
    if fields.fallbacks_default:
        return prices.rates_max(prompt_tokens, at, speed=speed, is_us=is_us)
    return max_rates(
        [_rates(prices, model, prompt_tokens, at, speed, is_us) for model in (fields.model, *fields.fallbacks)]
    )


def _rates(prices: PriceTable, model: str, prompt_tokens: int, at: datetime, speed: str, is_us: bool) -> Rates:
    rates = prices.rates(model, prompt_tokens, at, speed=speed, is_us=is_us)
    return rates if rates is not None else prices.rates_max(prompt_tokens, at, speed=speed, is_us=is_us)


def _input_rate(rates: Rates, fields: MessageFields) -> int:
    """What a token of the prompt may cost at most: written to the cache, at the longest time in the body."""
    if fields.wants_1h:
        return max(rates[0], rates[1], rates[2])
    return max(rates[0], rates[1]) if fields.has_cache_control else rates[0]


def tool_nanos(prices: PriceTable, fields: MessageFields, input_tokens: int, at_us: int, rates: Rates) -> int:
    """What server tools may add: searches, the results that come into the prompt, and an advisor's own calls."""
    if not fields.server_tools:
        return 0
    at = datetime.fromtimestamp(at_us / 1_000_000, UTC)
    is_us = fields.inference_geo != "global"
    input_rate = _input_rate(rates, fields)
    total = 0
    for tool in fields.server_tools:
        uses = TOOL_USES_UNDECLARED if tool.max_uses is None else tool.max_uses
        if tool.is_advisor:
            advice = _rates(prices, tool.model or "", input_tokens, at, fields.speed or "standard", is_us)
            read = input_tokens + fields.output_tokens_max
            written = ADVICE_TOKENS if tool.max_tokens is None else tool.max_tokens
            total += uses * (max(advice[:3]) * read + advice[4] * written)
            continue
        total += uses * TOOL_RESULT_TOKENS * input_rate
        if tool.is_web_search:
            total += uses * prices.web_search_nanos
    return total


def worst_case_nanos(prices: PriceTable, fields: MessageFields, input_tokens_bound: int, at_us: int) -> int:
    """What a request that is not streamed may cost at most.

    The whole prompt as a cache write at the highest TTL in the body (plain input without `cache_control`), all of
    `max_tokens`, once for the model and once for each fallback, at the dearest of them; and `tool_nanos`.
    """
    rates = worst_rates(prices, fields, input_tokens_bound, at_us)
    once = _input_rate(rates, fields) * input_tokens_bound + rates[4] * fields.output_tokens_max
    attempts = 1 + (1 if fields.fallbacks_default else len(fields.fallbacks))
    return once * attempts + tool_nanos(prices, fields, input_tokens_bound, at_us, rates)


class History:
    """What one tenant's answers by one model have been like: output tokens, and prompt tokens a kilobyte of body.

    Integers scaled by 256; the last eight or so answers weigh most.
    """

    __slots__ = ("_deviation", "_mean", "_tokens_per_kb", "answers")

    def __init__(self) -> None:
        self.answers = 0
        self._mean = 0
        self._deviation = 0
        self._tokens_per_kb = 0

    def learn(self, output_tokens: int, prompt_tokens: int = 0, body_bytes: int = 0) -> None:
        """One answer ended by itself. Prompt and body of 0 teach nothing about the ratio."""
        # One very long answer must not be what small ones are held at for long.
        seen = min(max(0, output_tokens), 2 * OUTPUT_TOKENS_HIGH) << 8
        if self.answers == 0:
            self._mean, self._deviation = seen, seen >> 1
        else:
            self._deviation += (abs(seen - self._mean) - self._deviation) >> 3
            self._mean += (seen - self._mean) >> 3
        self.answers += 1
        if prompt_tokens > 0 and body_bytes > 0:
            ratio = (min(prompt_tokens, CONTEXT_TOKENS) << 18) // body_bytes
            known = self._tokens_per_kb
            # Up at once, down slowly: too much is waited for, too little is a surprise.
            self._tokens_per_kb = ratio if ratio > known else known - ((known - ratio) >> 3)

    def learn_excess(self, held: int, billed: int) -> None:
        pass

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
    """The history of each tenant and model. Of more than `entries_max`, the longest unused is forgotten.

    A client may name any model, so what is kept has to be bounded: some 300 bytes an entry.
    """

    __slots__ = ("_entries_max", "_found")

    def __init__(self, entries_max: int = 10_000) -> None:
        self._found: OrderedDict[tuple[str, str], History] = OrderedDict()
        self._entries_max = entries_max

    def of(self, tenant_id: str, model: str) -> History:
        key = (tenant_id, model)
        history = self._found.get(key)
        if history is None:
            history = self._found[key] = History()
            if len(self._found) > self._entries_max:
                self._found.popitem(last=False)
        else:
            self._found.move_to_end(key)
        return history


class StreamMeter:
    """How much a stream has to hold, from its start to its end.

    `first_nanos` is to be held before it is sent. `started` takes the usage of message_start: the prompt's cost is then
    exact. `produced` is asked as the answer grows. Amounts are totals, for `Hold.resize`; when one does not fit, the
    stream has to end: what was produced is still covered, by at least the margin.

    The cost passes the hold only if the model writes more than twice as fast in characters a token and faster in time
    than the constants above say, if a refusal takes longer than the margin lasts, or through server tools.
    """

    __slots__ = ("_fields", "_input_nanos", "_output_rate", "_per_second", "_tools_nanos", "held_tokens", "max_tokens")

    def __init__(
        self, prices: PriceTable, fields: MessageFields, input_tokens_bound: int, history: History | None, at_us: int
    ) -> None:
        rates = worst_rates(prices, fields, input_tokens_bound, at_us)
        attempts = 1 + (1 if fields.fallbacks_default else len(fields.fallbacks))
        self._fields = fields
        self._input_nanos = _input_rate(rates, fields) * input_tokens_bound * attempts
        self._tools_nanos = tool_nanos(prices, fields, input_tokens_bound, at_us, rates)
        self._output_rate = rates[4]
        is_fast = fields.speed == "fast" or "fast" in fields.fallback_speeds
        self._per_second = FAST_TOKENS_PER_SECOND if is_fast else TOKENS_PER_SECOND
        self.max_tokens = fields.output_tokens_max * attempts
        likely = history.output_tokens if history is not None else OUTPUT_TOKENS_FIRST
        self.held_tokens = min(self.max_tokens, likely + MARGIN_TOKENS)

    @property
    def first_nanos(self) -> int:
        return self._total()

    def _total(self) -> int:
        return self._input_nanos + self._tools_nanos + self._output_rate * self.held_tokens

    def started(self, prices: PriceTable, model: str, usage: Usage, at_us: int) -> int:
        """What to hold once message_start has told the prompt, the model, the speed and the place.

        With fallbacks in the request, another model may yet take over: the bound of the start stays.
        """
        fields = self._fields
        if fields.fallbacks or fields.fallbacks_default:
            return self._total()
        at = datetime.fromtimestamp(at_us / 1_000_000, UTC)
        is_us = usage.inference_geo == "us"
        rates = _rates(prices, model or fields.model, usage.prompt_tokens, at, usage.speed, is_us)
        self._output_rate = rates[4]
        self._input_nanos = (
            rates[0] * usage.input_tokens
            + rates[1] * usage.cache_write_5m_tokens
            + rates[2] * usage.cache_write_1h_tokens
            + rates[3] * usage.cache_read_tokens
        )
        return self._total()

    def produced_tokens(self, chars: int, elapsed_us: int, output_tokens: int) -> int:
        return produced_tokens(chars, elapsed_us, output_tokens, self._per_second)

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


def produced_tokens(chars: int, elapsed_us: int, output_tokens: int = 0, per_second: int = TOKENS_PER_SECOND) -> int:
    """The most that was generated: by characters, by time, or as told."""
    return max(-(-chars // CHARS_PER_TOKEN), max(0, elapsed_us) * per_second // 1_000_000, output_tokens)
