"""What a tenant is told when a limit is in its way: which one, how large it is, and when it gives again."""

from __future__ import annotations

from tenantry.domain.admission import Obstacle, Scope
from tenantry.domain.errors import RateLimited
from tenantry.domain.limits import Limits
from tenantry.gateway.authentication import Principal

_SHARED = {
    "upstream_retry_after": "The upstream asked for a pause",
    "sessions_max": "The upstream behind this endpoint takes no more requests at the moment",
    "requests_per_minute": "The upstream's requests per minute are used up",
    "input_tokens_per_minute": "The upstream's input tokens per minute are used up",
    "output_tokens_per_minute": "The upstream's output tokens per minute are used up",
}


def limit_refusal(obstacle: Obstacle, principal: Principal) -> RateLimited:
    """The 429 for what is in the way of a request of `principal`."""
    if obstacle.is_shared:
        what, reason = _SHARED[obstacle.limit], f"upstream.{obstacle.limit}"
    elif obstacle.scope is Scope.KEY and principal.key.limits is not None:
        what, reason = (
            f"This key is limited to {_amount(obstacle.limit, principal.key.limits)}",
            f"key.{obstacle.limit}",
        )
    else:
        tenant = principal.tenant
        what = f"Tenant {tenant.slug} is limited to {_amount(obstacle.limit, tenant.limits)} (tier {tenant.tier})"
        reason = obstacle.limit
    error = RateLimited(what, reason, obstacle.seconds)
    error.message = f"{what}. Try again in {error.retry_after_seconds} s."
    return error


def _amount(limit: str, limits: Limits) -> str:
    number = getattr(limits, limit) or 0
    return {
        "sessions_max": f"{number:,} requests in flight",
        "requests_per_minute": f"{number:,} requests a minute, {limits.request_burst:,} at once",
        "input_tokens_per_minute": f"{number:,} input tokens a minute",
        "output_tokens_per_minute": f"{number:,} output tokens a minute",
    }[limit]
