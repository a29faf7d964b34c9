"""Limits, errors and expectations in words that a client understands."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tenantry.domain.limits import Limits

# English text and code, as the gateway itself estimates before it knows (docs/decisions/0002).
BYTES_PER_TOKEN = 4
# The examples of the fair-use terms: a source file, a repository of some 50,000 lines, a night's batch.
FILE_BYTES = 40_000
CODEBASE_BYTES = 2_000_000
BATCH_REQUESTS = 10_000

_UNITS = ((3600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True, slots=True)
class Row:
    """One limit: what it is called, what it is for this client, and what it means."""

    limits: tuple[str, ...]
    title: str
    value: str
    meaning: str


def limits_in_words(limits: Limits) -> list[Row]:
    """Every limit of `Limits`, in the order in which a request meets them."""
    return [*_traffic(limits), *_contents(limits), *_prompts(limits), *_waiting(limits)]


def _traffic(limits: Limits) -> list[Row]:
    return [
        Row(
            ("sessions_max",),
            "Requests in flight",
            f"{limits.sessions_max:,} at once",
            "A request counts from its start to the last byte of its answer, streams included.",
        ),
        Row(
            ("requests_per_minute", "request_burst"),
            "Requests",
            _requests(limits),
            "Refilled continuously, not at the full minute.",
        ),
        Row(
            ("input_tokens_per_minute",),
            "Input tokens",
            _per_minute(limits.input_tokens_per_minute),
            "Uncached input and cache writes count; cache reads do not.",
        ),
        Row(
            ("output_tokens_per_minute",),
            "Output tokens",
            _per_minute(limits.output_tokens_per_minute),
            "Counted as they are produced; `max_tokens` itself does not count.",
        ),
    ]


def _contents(limits: Limits) -> list[Row]:
    return [
        Row(("max_tokens_cap", "max_tokens_policy"), "`max_tokens` of a request", _cap(limits), _cap_meaning(limits)),
        Row(
            ("models",),
            "Models",
            _patterns(limits.models, "all that the upstream offers"),
            "Another model is answered 400, which names the ones you may use.",
        ),
        Row(("speeds",), "`speed`", _patterns(limits.speeds, "any value"), "Fast answers cost more."),
        Row(
            ("inference_geos",),
            "`inference_geo`",
            _patterns(limits.inference_geos, "any value"),
            "Where the model runs; `us` costs more.",
        ),
        Row(
            ("service_tiers",),
            "`service_tier`",
            _patterns(limits.service_tiers, "any value"),
            "Which capacity of the upstream is used.",
        ),
        Row(
            ("server_tools",),
            "Server tools",
            "none" if limits.server_tools == ("-",) else _patterns(limits.server_tools, "all"),
            "Tools that run at the upstream, such as web search; some cost extra. Your own tools are not limited.",
        ),
    ]


def _prompts(limits: Limits) -> list[Row]:
    return [
        Row(
            ("context_tokens_max", "context_tokens_warn"),
            "Size of a prompt",
            _prompt_size(limits),
            "Estimated from the request; a larger one is answered 400 `policy_blocked`, a warning stands in "
            "`x-tenantry-warning`.",
        ),
        Row(
            ("tool_depth_alert",),
            "Tool loops",
            "not watched" if limits.tool_depth_alert is None else f"watched from {limits.tool_depth_alert:,} in a row",
            "Your agency is told when an agent sends that many tool results without a word of its user.",
        ),
        Row(
            ("auto_cache_system",),
            "Caching of system prompts",
            "added for you" if limits.auto_cache_system == "on" else "left to you",
            "A system prompt that repeats costs a fraction once it has `cache_control`.",
        ),
    ]


def _prompt_size(limits: Limits) -> str:
    if limits.context_tokens_max is not None:
        most = f"at most {limits.context_tokens_max:,} tokens"
    else:
        most = "no limit but the model's"
    return most if limits.context_tokens_warn is None else f"{most}; a warning above {limits.context_tokens_warn:,}"


def _waiting(limits: Limits) -> list[Row]:
    return [
        Row(
            ("queue_depth_max", "queue_wait_ms_max"),
            "Waiting",
            _queue(limits),
            "A request that only lacks time waits for you here, before it is refused.",
        ),
        Row(
            ("weight",),
            "Share of a busy upstream",
            f"weight {limits.weight:,}",
            "When many clients want more than the upstream gives, they are served in turn, by weight.",
        ),
    ]


def _requests(limits: Limits) -> str:
    if limits.requests_per_minute is None:
        return "no limit of your own"  # nor a burst: that is the size of what is refilled a minute
    return f"{limits.requests_per_minute:,} a minute; {limits.request_burst:,} may come at once"


def _per_minute(tokens: int | None) -> str:
    return "no limit of your own" if tokens is None else f"{tokens:,} a minute"


def _cap(limits: Limits) -> str:
    return "no limit but the model's" if limits.max_tokens_cap is None else f"at most {limits.max_tokens_cap:,}"


def _cap_meaning(limits: Limits) -> str:
    if limits.max_tokens_cap is None:
        return "Ask for what you need, not for the most."
    if limits.max_tokens_policy == "refuse":
        return "A request for more is answered 400."
    return "A request for more is served with this many."


def _patterns(patterns: tuple[str, ...], everything: str) -> str:
    return ", ".join(f"`{pattern}`" for pattern in patterns) if patterns else everything


def _queue(limits: Limits) -> str:
    if not limits.queue_depth_max or not limits.queue_wait_ms_max:
        return "none"
    return f"up to {limits.queue_depth_max:,} requests, {seconds(limits.queue_wait_ms_max / 1000)} each"


def seconds(amount: float) -> str:
    """A span of time as people say it, rounded up to a tenth."""
    size, unit = next(((size, unit) for size, unit in _UNITS if amount >= size), _UNITS[-1])
    count = math.ceil(amount / size * 10) / 10
    return f"{count:,g} {unit}" + ("" if count == 1 else "s")


@dataclass(frozen=True, slots=True)
class Expectation:
    """A kind of work, how to do it within the limits, and what it takes at best."""

    title: str
    how: str
    takes: str


def expectations(limits: Limits, offers_batches: bool) -> list[Expectation]:
    """The patterns of use that are welcome, with this client's own figures."""
    file_tokens, codebase_tokens = FILE_BYTES // BYTES_PER_TOKEN, CODEBASE_BYTES // BYTES_PER_TOKEN
    files = CODEBASE_BYTES // FILE_BYTES
    return [
        Expectation(
            "File analysis",
            "One file or document in a request, with the answer kept short. Repeated instructions go into a cached "
            "system prompt (`cache_control`): cache reads are cheap and do not count as input tokens.",
            f"A file of {FILE_BYTES // 1000} KB is about {file_tokens:,} tokens: "
            f"{_files_a_minute(limits, file_tokens)}.",
        ),
        Expectation(
            "Codebase scans",
            f"At most {_at_once(limits)}, so that your other work still has room. Send what is needed, not the whole "
            "tree again in every request; keep the common part at the front and cache it.",
            f"A codebase of {CODEBASE_BYTES // 1_000_000} MB is about {codebase_tokens:,} tokens in {files} requests: "
            f"{_at_best(_longest(limits, files, codebase_tokens))}.",
        ),
        Expectation(
            "Batches",
            _batches(offers_batches)
            + " Put many small questions on the same text into one request, and run what is not urgent at night.",
            f"{BATCH_REQUESTS:,} requests of 1,000 input tokens: "
            f"{_at_best(_longest(limits, BATCH_REQUESTS, BATCH_REQUESTS * 1000))}.",
        ),
    ]


def _at_once(limits: Limits) -> str:
    half = max(1, limits.sessions_max // 2)
    return f"{half:,} request{'s' if half > 1 else ''} at once"


def _files_a_minute(limits: Limits, tokens: int) -> str:
    bounds = [limits.requests_per_minute]
    if limits.input_tokens_per_minute is not None:
        bounds.append(max(1, limits.input_tokens_per_minute // tokens))
    known = [bound for bound in bounds if bound is not None]
    if not known:
        return "as many as you have requests in flight"
    return f"up to {min(known):,} of them a minute"


def _longest(limits: Limits, requests: int, tokens: int) -> float:
    """Seconds that the slowest of the rates needs; the buckets' first filling is left out."""
    spans = [0.0]
    if limits.requests_per_minute is not None:
        spans.append(requests * 60 / limits.requests_per_minute)
    if limits.input_tokens_per_minute is not None:
        spans.append(tokens * 60 / limits.input_tokens_per_minute)
    return max(spans)


def _at_best(span: float) -> str:
    return f"about {seconds(span)} at best" if span else "as fast as the models answer"


def _batches(offers_batches: bool) -> str:
    if offers_batches:
        return "Use the Message Batches API: it costs half and does not compete with your live traffic."
    return (
        "This endpoint does not offer the Message Batches API; run batches as ordinary requests from a small pool of "
        "workers that obey `retry-after`."
    )


def not_offered(offers_batches: bool) -> list[str]:
    """What the Claude API has beside messages, and this endpoint has not."""
    batches = [] if offers_batches else ["Message batches (`/v1/messages/batches`): send their requests one by one."]
    return [
        *batches,
        "Files (`/v1/files`): send documents and images within the message, as base64 or as a `url`.",
        "Skills, user profiles, managed agents, and administration of the organization (`/v1/organizations`).",
        "OpenAI's paths (`/v1/chat/completions`, `/v1/responses`, `/v1/embeddings`): use the Claude API's own.",
    ]
