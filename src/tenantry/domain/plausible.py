"""What an answer can have used at most, by what was asked: told beyond it, it is taken at that bound, and flagged.

One number that is wrong by a few digits would else spend a tenant's month. The bounds are wide where the body sets
none, for a real answer must never be flagged: `max_tokens` holds for each answer of a model (reference 1.1), the
context window for each prompt (5.6), and an answer with server tools, fallbacks, advice or summaries is several (5.1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeVar

from tenantry.domain.asked import MessageFields
from tenantry.domain.charges import CONTEXT_TOKENS, context_tokens
from tenantry.domain.usage import Iteration, Usage

OUTPUT_ABOVE_MAX: Final = "output_above_max_tokens"
PROMPT_ABOVE_CONTEXT: Final = "prompt_above_context"
SEARCHES_ABOVE_MAX: Final = "searches_above_max_uses"

# An answer to `max_tokens: 0` may tell the placeholder of message_start, "1..few" (reference 4.4, 5.2 rule 5).
SLACK_TOKENS: Final = 16
# `max_tokens` bounds neither a summary nor advice: the longest output there is, by the beta `output-300k-2026-03-24`.
WRITTEN_TOKENS_MAX: Final = 300_000
# Upstream pauses a turn after some ten uses; ten times that is no turn of any model.
USES_UNDECLARED_MAX: Final = 100
# A use that fails is told to the model, and read, as one that succeeds; it does not count towards `max_uses`.
USES_SPARE: Final = 10
# More answers of a model than the body explains, each within its own bounds: they are believed, and flagged. Upstream
# pauses a turn after some ten uses of a tool. What tells more of them than that tells nonsense.
ANSWERS_SPARE: Final = 10
# The models that upstream chooses for `fallbacks: "default"`.
FALLBACKS_DEFAULT_MAX: Final = 4
# Summaries that upstream makes by itself, advice by a tool that stands in a thread.
WRITTEN_SPARE: Final = 2

_ANSWERS: Final = ("message", "fallback_message")


def could_be(usage: Usage, asked: MessageFields, served: str | None) -> tuple[Usage, tuple[str, ...]]:
    """The usage, no count of it above what can have been, and a flaw for each kind of count that was.

    `served`: the model that the answer names.
    """
    steps, written, searches = _steps(asked)
    fell_back = any(step.type == "fallback_message" for step in usage.iterations)
    found: set[str] = set()
    answers = sum([step.type in _ANSWERS and not _has_declined(step, fell_back) for step in usage.iterations])
    if steps < answers <= steps + ANSWERS_SPARE:
        found.add(OUTPUT_ABOVE_MAX)
        steps = answers
    left = [written, steps]
    window = _window(asked, served)
    each_max = asked.output_tokens_max if asked.max_tokens is not None else WRITTEN_TOKENS_MAX
    kept: list[Iteration] = []
    for step in usage.iterations:
        is_answer = step.type in _ANSWERS
        if is_answer and _has_declined(step, fell_back):
            kept.append(step)
            continue
        if left[is_answer] == 0:
            found.add(OUTPUT_ABOVE_MAX)  # more answers than were asked for
            continue
        left[is_answer] -= 1
        kept.append(_bounded(step, window, each_max if is_answer else WRITTEN_TOKENS_MAX, found))
    others = written if _has_written(usage, asked) else 0
    whole = _bounded(usage, (steps + others) * window, steps * each_max + others * WRITTEN_TOKENS_MAX, found)
    if usage.web_search_requests > searches:
        found.add(SEARCHES_ABOVE_MAX)
        whole = replace(whole, web_search_requests=searches)
    if not found:
        return usage, ()
    thinking = min(usage.thinking_tokens, whole.output_tokens)
    return replace(whole, thinking_tokens=thinking, iterations=tuple(kept)), tuple(sorted(found))


def _has_declined(step: Iteration, fell_back: bool) -> bool:
    """Whether this answer of a model is none, and not billed (reference 5.2 rule 1)."""
    return fell_back and step.output_tokens == 0


def _steps(asked: MessageFields) -> tuple[int, int, int]:
    """How many answers of models there can be, how many summaries and pieces of advice, and how many searches."""
    attempts = 1 + len(asked.fallbacks) + (FALLBACKS_DEFAULT_MAX if asked.fallbacks_default else 0)
    uses = advice = 0
    for tool in asked.server_tools:
        times = USES_UNDECLARED_MAX if tool.max_uses is None else tool.max_uses
        uses += times + USES_SPARE
        advice += times + USES_SPARE if tool.is_advisor or tool.type == "unreadable" else 0
    if asked.has_thread:  # its tools may stand upstream
        uses += USES_UNDECLARED_MAX
    steps = attempts + uses
    is_compacted = asked.is_compaction or asked.compact_at_tokens is not None
    return steps, WRITTEN_SPARE + advice + (steps if is_compacted else 0), uses + USES_SPARE


def _has_written(usage: Usage, asked: MessageFields) -> bool:
    """Whether the totals may hold more than answers: the API's do not (reference 0, fact 5), others' may."""
    is_asked = asked.is_compaction or asked.compact_at_tokens is not None or bool(asked.server_tools)
    return is_asked or any(step.type not in _ANSWERS for step in usage.iterations)


def _window(asked: MessageFields, served: str | None) -> int:
    """The largest prompt that any of the models takes which may have read it."""
    if asked.fallbacks_default:
        return CONTEXT_TOKENS
    return max(context_tokens(model) for model in (asked.model, served or asked.model, *asked.other_models))


_Counts = TypeVar("_Counts", Usage, Iteration)


def _bounded(told: _Counts, prompt_max: int, output_max: int, found: set[str]) -> _Counts:
    """No more than a prompt and an output can have. Of a prompt the dearest tokens are kept: it is a bound."""
    counts = told
    if told.output_tokens > output_max + SLACK_TOKENS:
        found.add(OUTPUT_ABOVE_MAX)
        counts = replace(counts, output_tokens=output_max)
    if told.prompt_tokens > prompt_max:
        found.add(PROMPT_ABOVE_CONTEXT)
        write_1h = min(told.cache_write_1h_tokens, prompt_max)
        write_5m = min(told.cache_write_5m_tokens, prompt_max - write_1h)
        plain = min(told.input_tokens, prompt_max - write_1h - write_5m)
        counts = replace(
            counts,
            input_tokens=plain,
            cache_write_5m_tokens=write_5m,
            cache_write_1h_tokens=write_1h,
            cache_read_tokens=min(told.cache_read_tokens, prompt_max - write_1h - write_5m - plain),
        )
    return counts
