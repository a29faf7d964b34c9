"""No bill that the reference's rules allow for a body passes what was held for it.

The upstream here uses every freedom that it has within the published limits: each tool to its last use and its largest
result, the dearest cache write, an advisor at its cap, summaries whenever they are asked for, every fallback after a
refusal in mid-answer, US inference. It prices by its own few lines (reference 5.2), not by those of the gateway.
"""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tenantry.domain import charges
from tenantry.domain.estimates import StreamMeter, bound_of, rough_input_bound
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Usage
from tenantry.wire.inspect import inspect_message

PRICES = load_default_prices()
AT_US = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp()) * 1_000_000
TABLE = json.loads((Path(charges.__file__).parent / "prices.json").read_text())["models"]
MODELS = [
    "claude-haiku-5-5",
    "claude-haiku-5-5",
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-opus-4-8",
    "claude-fable-5-2",
]
CASES = 1_500
SEED = int(os.environ.get("TENANTRY_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 30)


def price(model: str, prompt: int, output: int, row_prompt: int, write: str, speed: str, is_us: bool) -> Fraction:
    """One iteration, in nano-dollars: all of its prompt at one class of token."""
    row = TABLE[model]
    for tier in row.get("tiers", []):
        if row_prompt > tier["prompt_tokens_above"]:
            row = row | tier
    amount = 1000 * (Fraction(row[write]) * prompt + Fraction(row["output"]) * output)
    if speed == "fast" and "fast_multiplier" in row:
        amount *= Fraction(row["fast_multiplier"])
    return amount * Fraction("1.1") if is_us and row.get("us_inference", True) else amount


def body_of(chance: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": chance.choice(MODELS),
        "max_tokens": chance.choice([0, 1, 500, 4_000, 60_000]),
        "messages": [{"role": "user", "content": "x" * chance.choice([1, 1_000, 49_000, 89_900, 99_000, 150_000])}],
    }
    tools: list[dict[str, Any]] = []
    if chance.random() < 0.5:
        tools.append({"type": "web_search_20260318", "name": "web_search"})
    if chance.random() < 0.3:
        tools.append(
            {"type": "web_fetch_20260318", "name": "f", "max_content_tokens": chance.choice([None, 100, 90_000])}
        )
    if chance.random() < 0.3:
        advisor = {"type": "advisor_20260301", "name": "advisor", "model": chance.choice(MODELS)}
        tools.append(
            advisor | chance.choice([{}, {"max_tokens": 500}, {"caching": {"type": "ephemeral", "ttl": "1h"}}])
        )
    for tool in tools:
        tool["max_uses"] = chance.choice([None, 0, 1, 3, 12])
    if chance.random() < 0.3:
        tools.append({"type": "computer_20251124", "name": "computer"})
    if tools:
        body["tools"] = tools
    if chance.random() < 0.3:
        body["fallbacks"] = [{"model": chance.choice(MODELS)} for _ in range(chance.randrange(1, 3))]
        if chance.random() < 0.5:
            body["fallbacks"][0] |= {"max_tokens": 9_000, "speed": "fast"}
    if chance.random() < 0.3:
        trigger = chance.choice([None, {"type": "input_tokens", "value": chance.choice([50_000, 120_000])}])
        body["context_management"] = {"edits": [{"type": "compact_20260112", "trigger": trigger}]}
    elif chance.random() < 0.2:
        body["compaction"] = {"type": "summarize"}
    if chance.random() < 0.4:
        body["cache_control"] = chance.choice([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
    for name, value in (("speed", "fast"), ("inference_geo", chance.choice(["us", "global"]))):
        if chance.random() < 0.4:
            body[name] = value
    return body


def result_of(tool: dict[str, Any]) -> int:
    if tool["type"].startswith("advisor"):
        return tool.get("max_tokens") or charges.ADVICE_TOKENS
    if tool["type"].startswith("web_fetch"):
        most = tool.get("max_content_tokens")
        return charges.FETCH_TOKENS if most is None else most * 5 // 4
    return charges.TOOL_RESULT_TOKENS


def bill(body: dict[str, Any], text: bytes, chance: random.Random, has_iterations: bool) -> int:
    """What the greediest upstream charges. Without iterations the row is that of the sum, and there is one model."""
    tools = [tool for tool in body.get("tools", []) if not tool["type"].startswith("computer")]
    typed = len(body.get("tools", [])) - len(tools)
    wants = "ttl" in str(body)
    write = "cache_write_1h" if wants else "cache_write_5m" if "ephemeral" in str(body) else "input"
    is_us = body.get("inference_geo", "us") == "us"
    prompt = len(text) + charges.TYPED_TOOL_TOKENS * typed
    steps: list[tuple[str, int, int, str]] = []
    total = Fraction(0)
    compaction = next((edit for edit in body.get("context_management", {}).get("edits", [])), None)
    at = ((compaction["trigger"] or {}).get("value", 150_000)) if compaction else None
    if "compaction" in body:
        steps.append((body["model"], prompt + 500, charges.SUMMARY_TOKENS, body.get("speed", "standard")))
    uses = [tool for tool in tools for _ in range(10 if tool["max_uses"] is None else tool["max_uses"])]
    chance.shuffle(uses)
    chain = [(body["model"], body["max_tokens"], body.get("speed", "standard"))]
    for entry in body.get("fallbacks", []):
        chain.append(
            (
                entry["model"],
                entry.get("max_tokens", body["max_tokens"]),
                entry.get("speed", body.get("speed", "standard")),
            )
        )
    used = 0
    for hop, (model, max_tokens, speed) in enumerate(chain):
        left = len(uses) - used if hop == len(chain) - 1 else chance.randrange(len(uses) - used + 1)
        written = 0
        for turn in range(left + 1):
            if at is not None and prompt >= at:
                steps.append((model, prompt + 500, charges.SUMMARY_TOKENS, speed))
                prompt = charges.SUMMARY_TOKENS + 100
            output = max_tokens - written if turn == left else chance.choice([0, (max_tokens - written) // 2])
            written += output
            steps.append((model, prompt, output, speed))
            prompt += output
            if turn < left:
                tool = uses[used]
                used += 1
                if tool["type"].startswith("advisor"):
                    steps.append((tool["model"], prompt, result_of(tool), "standard"))
                if tool["type"].startswith("web_search"):
                    total += 10_000_000
                prompt += result_of(tool)
    whole = sum(step[1] for step in steps)
    for model, step_prompt, output, speed in steps:
        total += price(model, step_prompt, output, step_prompt if has_iterations else whole, write, speed, is_us)
    return -(-total.numerator // total.denominator)


@pytest.mark.parametrize("part", range(4))
def test_no_bill_by_the_rules_passes_what_was_held(part: int) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED + part)
    for number in range(CASES):
        body = body_of(chance)
        text = json.dumps(body, separators=(",", ":")).encode()
        fields = inspect_message(text)
        prompt = rough_input_bound(len(text), fields)
        is_single = "fallbacks" not in body and not any("advisor" in tool["type"] for tool in body.get("tools", []))
        is_single = is_single and "compaction" not in body and "context_management" not in body
        cost = bill(body, text, chance, not is_single or chance.random() < 0.5)
        held = bound_of(PRICES, fields, len(text), AT_US, None).nanos
        assert cost <= held, (SEED, part, number, body["model"], cost / held)
        meter = StreamMeter(PRICES, fields, prompt, None, AT_US)
        meter.held_tokens = meter.max_tokens
        assert meter.first_bound().nanos == held
        if "fallbacks" not in body:
            told = Usage(input_tokens=len(text), inference_geo="global" if fields.inference_geo == "global" else "us")
            assert meter.started(PRICES, fields.model, told, AT_US) <= held
