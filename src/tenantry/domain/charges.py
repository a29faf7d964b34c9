"""What a request may be charged at most, from what its body says: per token, and beside tokens.

Bounds, and where they end. A token is at least one byte of the text it stands for, so the bytes of a body bound its
text (byte-level encodings never give more tokens than bytes). An image has a bound of its own. Documents, files and
threads are bounded by nothing that the body says: such a request is held at the model's whole context window.

A server tool answers within the same request, and the model then reads the whole prompt again, with the result and
with what it has written (reference 5.1: `usage.iterations`, one `message` for each reading). So the prompt of every
reading is bounded first, and the price row is that of all of them together: where upstream tells no iterations, their
sum is what the row depends on (reference 5.2 rule 3 and section 12). What a tool brings in and an advisor or a summary
writes where the body sets no limit is known to nobody beforehand; the constants below stand for it, and what is billed
beyond them makes later holds larger (`estimates.History.learn_excess`).

Times are unix microseconds, money is integer nano-dollars.
"""

from __future__ import annotations

from typing import Final

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.domain.prices import PriceTable, Rates, max_rates

# Reference 5.6: 1M of context from 4.6 on, and by a beta of 2025 for Sonnet 4.5; the older ones take 200k.
CONTEXT_TOKENS: Final = 1_000_000
CONTEXT_TOKENS_OLD: Final = 200_000
_OLD_MODELS: Final = ("claude-haiku-4-5", "claude-opus-4-5", "claude-opus-4-1", "claude-haiku-3-5")
# One image, whatever its bytes: upstream scales it down to what some 4,800 tokens hold.
IMAGE_TOKENS: Final = 5_000
# The framing of messages, and the system prompt that upstream adds for tools: hundreds of tokens; a typed tool, the
# client's own too, is a few bytes that stand for a whole description (about 3,000 tokens for computer use).
OVERHEAD_TOKENS: Final = 64
TOOLS_OVERHEAD_TOKENS: Final = 1_000
TYPED_TOOL_TOKENS: Final = 5_000
# The tools that a server of the MCP connector describes: some dozens of a few hundred tokens.
MCP_SERVER_TOKENS: Final = 20_000
# Upstream pauses a turn (stop_reason pause_turn) after some ten uses of server tools.
TOOL_USES_UNDECLARED: Final = 10
# A page of search results, or what a program prints.
TOOL_RESULT_TOKENS: Final = 10_000
# A fetched page without `max_content_tokens`: 100 KB of documentation. With one, it is "approximate" (the SDK's
# beta_web_fetch_tool_20260318_param): a quarter more, and the framing.
FETCH_TOKENS: Final = 25_000
FETCH_OVERHEAD_TOKENS: Final = 500
# One piece of advice when its tool declares no max_tokens: the advisor model's own cap, which is not published.
ADVICE_TOKENS: Final = 16_000
# A summary is not bounded by `max_tokens`; the one of reference 4.2's fixture has 3,500. With it comes upstream's own
# prompt for it.
SUMMARY_TOKENS: Final = 16_000
SUMMARY_PROMPT_TOKENS: Final = 2_000

# No model has this name: it is taken at the dearest of each class of token.
_ANY_MODEL: Final = ""


class Charges:
    """What the tokens of one request may cost at most, in nano-dollars.

    `input_nanos`: a token of the prompt, read once by each model that may answer. `output_nanos`: a token of the
    answer. `again_nanos`: one of either, for all the times that it is read again, by the model after a tool, by an
    advisor, for a summary. `fixed_nanos`: the rest (searches, results, advice, summaries). `attempts`: how many models
    may answer. `again_tokens`: how much is read again beside the prompt; `readings`: how often the model reads it.
    """

    __slots__ = ("again_nanos", "again_tokens", "attempts", "fixed_nanos", "input_nanos", "output_nanos", "readings")

    def __init__(self, attempts: int, readings: int, again_tokens: int, input_nanos: int, output_nanos: int) -> None:
        self.attempts = attempts
        self.readings = readings
        self.again_tokens = again_tokens
        self.input_nanos = input_nanos
        self.output_nanos = output_nanos
        self.again_nanos = (readings - 1) * input_nanos
        self.fixed_nanos = again_tokens * input_nanos

    def total(self, prompt_tokens: int, output_tokens: int) -> int:
        return (
            (self.input_nanos + self.again_nanos) * prompt_tokens
            + (self.output_nanos + self.again_nanos) * output_tokens
            + self.fixed_nanos
        )


def is_plain(fields: MessageFields) -> bool:
    """Whether one model reads the prompt once and answers: nearly every request."""
    return not (
        fields.server_tools
        or fields.fallbacks
        or fields.fallbacks_default
        or fields.is_compaction
        or fields.compact_at_tokens is not None
    )


def context_tokens(model: str) -> int:
    """The largest prompt that the model takes."""
    return CONTEXT_TOKENS_OLD if model.startswith(_OLD_MODELS) else CONTEXT_TOKENS


def _window(fields: MessageFields) -> int:
    """The largest prompt that any of the models takes which may answer."""
    if fields.fallbacks_default:
        return CONTEXT_TOKENS
    most = context_tokens(fields.model)
    for model in fields.fallbacks:
        most = max(most, context_tokens(model))
    return most


def rough_input_bound(body_bytes: int, fields: MessageFields) -> int:
    """An upper bound on the prompt's tokens. More than the context window is refused upstream and costs nothing."""
    window = _window(fields)
    if fields.has_sources or fields.has_thread:
        return window
    bound = body_bytes - fields.image_bytes + IMAGE_TOKENS * fields.images + OVERHEAD_TOKENS
    if fields.has_tools:
        typed = fields.typed_tools + len(fields.server_tools)
        bound += TOOLS_OVERHEAD_TOKENS + TYPED_TOOL_TOKENS * typed + MCP_SERVER_TOKENS * fields.mcp_servers
    return min(window, bound)


def is_fast(fields: MessageFields) -> bool:
    return fields.speed == "fast" or "fast" in fields.fallback_speeds


def worst_rates(prices: PriceTable, fields: MessageFields, prompt_tokens: int, at_us: int) -> Rates:
    """The dearest price of each class of token among the models that may answer.

    A model without a price is taken at the dearest known one. Where the body does not say `global`, the workspace may
    default to US inference (reference 5.1), so that is what is held.
    """
    is_us = fields.inference_geo != "global"
    speed = "fast" if is_fast(fields) else "standard"
    if fields.fallbacks_default:
        return prices.rates_lately(_ANY_MODEL, prompt_tokens, at_us, speed=speed, is_us=is_us)
    first = prices.rates_lately(fields.model, prompt_tokens, at_us, speed=speed, is_us=is_us)
    if not fields.fallbacks:
        return first
    several = [first]
    for model in fields.fallbacks:
        several.append(prices.rates_lately(model, prompt_tokens, at_us, speed=speed, is_us=is_us))
    return max_rates(several)


def input_rate(rates: Rates, fields: MessageFields) -> int:
    """What a token of the prompt may cost at most: written to the cache, at the longest time in the body."""
    if fields.wants_1h:
        return max(rates[0], rates[1], rates[2])
    return max(rates[0], rates[1]) if fields.has_cache_control else rates[0]


def charges_of(prices: PriceTable, fields: MessageFields, prompt_tokens: int, at_us: int) -> Charges:
    """What a request with a prompt of at most `prompt_tokens` may be charged."""
    if is_plain(fields):
        rates = worst_rates(prices, fields, prompt_tokens, at_us)
        return Charges(1, 1, 0, input_rate(rates, fields), rates[4])
    attempts = 2 if fields.fallbacks_default else 1 + len(fields.fallbacks)
    uses = 0
    for tool in fields.server_tools:
        uses += _uses(tool)
    readings = attempts + uses
    results, again = _results(fields.server_tools, uses, attempts)
    output_tokens = attempts * fields.output_tokens_max
    final = prompt_tokens + results + output_tokens
    row = readings * prompt_tokens + again + (readings - 1) * output_tokens
    rates = worst_rates(prices, fields, row, at_us)
    charges = Charges(attempts, readings, again, input_rate(rates, fields), rates[4])
    _add_tools(charges, prices, fields, results, final, at_us)
    _add_summaries(charges, fields, rates[4], results, prompt_tokens, final, uses)
    return charges


def _uses(tool: ServerTool) -> int:
    return TOOL_USES_UNDECLARED if tool.max_uses is None else tool.max_uses


def _result_tokens(tool: ServerTool) -> int:
    """What one use of a tool brings into the prompt at most."""
    if tool.is_advisor:
        return ADVICE_TOKENS if tool.max_tokens is None else tool.max_tokens
    if tool.is_web_fetch:
        content = tool.max_content_tokens
        return FETCH_TOKENS if content is None else content + content // 4 + FETCH_OVERHEAD_TOKENS
    return TOOL_RESULT_TOKENS


def _results(tools: tuple[ServerTool, ...], uses: int, attempts: int) -> tuple[int, int]:
    """How many tokens all results have, and how many they are over all readings that follow each of them.

    The largest results come first, so that they are read most often: the `k`th of `uses` is read `uses - k + 1` times,
    and once more by each further model.
    """
    total = again = before = 0
    for tool in sorted(tools, key=_result_tokens, reverse=True) if len(tools) > 1 else tools:
        tokens, times = _result_tokens(tool), _uses(tool)
        total += times * tokens
        again += tokens * (times * (uses - before) - times * (times - 1) // 2)
        before += times
    return total, again + total * (attempts - 1)


def _add_tools(
    charges: Charges, prices: PriceTable, fields: MessageFields, results: int, final: int, at_us: int
) -> None:
    """Searches, and an advisor's own calls: each reads the whole conversation at its model's standard price."""
    is_us = fields.inference_geo != "global"
    for tool in fields.server_tools:
        uses = _uses(tool)
        if tool.is_web_search or tool.type in ("mcp_servers", "unreadable"):
            charges.fixed_nanos += uses * prices.web_search_nanos
        if tool.is_advisor or tool.type == "unreadable":
            advice = prices.rates_lately(tool.model or _ANY_MODEL, final, at_us, speed="standard", is_us=is_us)
            rate = input_rate(advice, fields)
            charges.again_nanos += uses * rate
            charges.fixed_nanos += uses * (rate * results + advice[4] * _result_tokens(tool))


def _add_summaries(
    charges: Charges, fields: MessageFields, output_rate: int, results: int, prompt: int, final: int, uses: int
) -> None:
    """Compaction reads the conversation and writes a summary, at the model's own price (reference 5.2 rule 1).

    One is asked for by `compaction`. Those of `context_management` come whenever the prompt has grown to their number
    of tokens: at most once before each reading, and not at all below it.
    """
    summaries = 1 if fields.is_compaction else 0
    at = fields.compact_at_tokens
    if at is not None and final >= at:
        summaries += charges.attempts + min(uses, (final - prompt) // max(1, at))
    if summaries:
        charges.again_nanos += summaries * charges.input_nanos
        tokens = results + SUMMARY_PROMPT_TOKENS
        charges.fixed_nanos += summaries * (charges.input_nanos * tokens + output_rate * SUMMARY_TOKENS)
        # A summary stands in the prompts that follow it.
        charges.fixed_nanos += summaries * charges.readings * charges.input_nanos * SUMMARY_TOKENS
