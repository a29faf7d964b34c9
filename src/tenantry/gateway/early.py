"""What a large request is told on its head alone (DESIGN 4.1): a body that changes nothing need not come."""

from __future__ import annotations

from tenantry.domain.asks import BYTES_PER_TOKEN
from tenantry.domain.errors import ApiError
from tenantry.domain.holds import CEILING
from tenantry.gateway.authentication import Principal
from tenantry.gateway.caller import Caller
from tenantry.gateway.parts import Parts
from tenantry.wire.routes import Kind


def refusal_on_head(parts: Parts, principal: Principal, caller: Caller, size: int) -> ApiError | None:
    """Why a large request is refused before its body is read, where no body could change that; `size` 0: not known.

    Only what lasts beyond the tenant's longest wait counts: a full bucket, a budget that is spent. Nothing is taken.
    """
    kind = caller.target.route.kind
    obstacle = parts.lanes.hopeless(principal.tenant, principal.key, size // BYTES_PER_TOKEN, kind is Kind.MESSAGES)
    if obstacle is not None:
        return parts.telling.limit_refusal(obstacle, principal)
    if kind is not Kind.MESSAGES:
        return None
    at_us = parts.clock.wall_us()
    for account in caller.accounts(parts, principal):
        short = account.short_of(1, 1, at_us)
        if short is not None and short.is_hard and not short.fits_later and short.period != CEILING:
            return parts.telling.budget_refusal(short, at_us)
    return None
