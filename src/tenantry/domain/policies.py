"""What a tenant or a key may ask for: models, sizes, speeds, places, server tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tenantry.domain.asked import MessageFields
from tenantry.domain.errors import ApiError, ModelNotAllowed, NotAllowed
from tenantry.domain.limits import Limits, allowed

# What a refusal names; a longer list helps nobody.
_NAMED_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class CapTokens:
    """`max_tokens` is to be lowered to this."""

    max_tokens: int


def has_policies(limits: Limits) -> bool:
    """Whether there is anything in the limits that a request's fields could be against, or be edited by."""
    return bool(
        limits.models
        or limits.speeds
        or limits.inference_geos
        or limits.service_tiers
        or limits.server_tools
        or limits.max_tokens_cap is not None
        or limits.context_tokens_max is not None
        or limits.context_tokens_warn is not None
        or limits.tool_depth_alert is not None
        or limits.auto_cache_system == "on"
    )


def check_policies(
    limits: Limits, fields: MessageFields, key_limits: Limits | None = None, known_models: Sequence[str] = ()
) -> ApiError | CapTokens | None:
    """Whether the request may be made, under its tenant's limits and its key's.

    None: as it is. `known_models` are the ids that a refusal can name when the limits have only patterns.
    """
    both = (limits,) if key_limits is None or key_limits is limits else (limits, key_limits)
    lowest: int | None = None
    for each in both:
        if each.models and not _models_allowed(each, fields):
            return _model_refusal(both, fields, known_models)
        refusal = _words_refusal(each, fields)
        if refusal is not None:
            return refusal
        cap = each.max_tokens_cap
        if cap is not None and fields.output_tokens_max > cap:
            # Only a request's own max_tokens is ever edited.
            if each.max_tokens_policy == "refuse" or fields.fallback_max_tokens > cap:
                return NotAllowed(
                    f"max_tokens: {fields.output_tokens_max} is above the {cap} that this key may ask for."
                )
            lowest = cap if lowest is None else min(lowest, cap)
    return None if lowest is None else CapTokens(lowest)


def _models_allowed(limits: Limits, fields: MessageFields) -> bool:
    if fields.fallbacks_default:
        return False  # upstream would choose
    return all(allowed(limits.models, model) for model in (fields.model, *fields.other_models))


def _model_refusal(both: Sequence[Limits], fields: MessageFields, known: Sequence[str]) -> ModelNotAllowed:
    def is_allowed(model: str) -> bool:
        return all(allowed(each.models, model) for each in both)

    wanted = next((model for model in (fields.model, *fields.other_models) if not is_allowed(model)), None)
    names = [model for model in known if is_allowed(model)] or _strictest(both)
    told = "Allowed: " + ", ".join(names[:_NAMED_MAX]) + "."
    if wanted is None:
        return ModelNotAllowed(f"fallbacks: the models must be named for this key. {told}")
    return ModelNotAllowed(f"model: {wanted} is not allowed for this key. {told}")


def _strictest(both: Sequence[Limits]) -> list[str]:
    """The patterns of the narrower holder: the last that has any."""
    return list(next(each.models for each in reversed(both) if each.models))


def _words_refusal(limits: Limits, fields: MessageFields) -> NotAllowed | None:
    """The words of the request against the patterns; what is absent is what upstream then assumes (reference 1.1)."""
    if limits.speeds:
        for speed in (fields.speed or "standard", *fields.fallback_speeds):
            if not allowed(limits.speeds, speed):
                return _word_refusal("speed", speed, limits.speeds)
    if limits.inference_geos and not allowed(limits.inference_geos, fields.inference_geo or "global"):
        return _word_refusal("inference_geo", fields.inference_geo or "global", limits.inference_geos)
    if limits.service_tiers and not allowed(limits.service_tiers, fields.service_tier or "auto"):
        return _word_refusal("service_tier", fields.service_tier or "auto", limits.service_tiers)
    if limits.server_tools:
        for tool in fields.server_tools:
            if not allowed(limits.server_tools, tool.type):
                return _word_refusal("tools", tool.type, limits.server_tools)
    return None


def _word_refusal(name: str, value: str, patterns: tuple[str, ...]) -> NotAllowed:
    names = [pattern for pattern in patterns if pattern != "-"]
    told = f"Allowed: {', '.join(names[:_NAMED_MAX])}." if names else "None is allowed."
    return NotAllowed(f"{name}: {value[:100]} is not allowed for this key. {told}")
