"""What the gateway says to a client beside the upstream's answer, and where no answer of the upstream's ends it."""

from __future__ import annotations

from tenantry.domain.asks import Ask
from tenantry.domain.errors import ApiError, NotReady, UpstreamBroken
from tenantry.domain.prompt_budget import WARNING_FIELD
from tenantry.gateway.answer import Client, ClientAnswer, HeldAnswer
from tenantry.gateway.parts import Parts
from tenantry.gateway.relay import Relay
from tenantry.gateway.request import Request


def own_lines(parts: Parts, request: Request, ask: Ask | None, status: int, now: float, at_us: int) -> bytes:
    """What the tenant is told of its quota, of its budget, of its prompt: whole header lines."""
    lines = quota_lines(parts, request, ask, now, at_us)
    caller = request.caller
    if status == 200 and caller.has_budget and request.fields is not None:
        accounts = caller.accounts(parts, request.principal)
        lines += parts.telling.budget_lines(accounts, at_us, caller.budget_lines)
    if request.warning:
        lines += b"%b: %b\r\n" % (WARNING_FIELD, request.warning.encode())
    return lines


def quota_lines(parts: Parts, request: Request, ask: Ask | None, now: float, at_us: int) -> bytes:
    """The tenant's own rate-limit fields as header lines."""
    way = ask.way if ask is not None and ask.credential is not None else None
    if way is not None:
        return parts.telling.quota_lines(way.tenant, way.key, now, at_us)
    lanes, principal = parts.lanes, request.principal
    key_lane = lanes.key_lane_of(principal.key) if principal.key.limits is not None else None
    return parts.telling.quota_lines(lanes.lane_of(principal.tenant), key_lane, now, at_us)


def refuse(client: Client, parts: Parts, request: Request, ask: Ask | None, error: ApiError | None) -> None:
    """An error of the gateway's own."""
    clock = parts.clock
    lines = quota_lines(parts, request, ask, clock.now(), clock.wall_us())
    client.refuse(error or NotReady(), request.request_id, lines)


def tell_held(
    client: Client, parts: Parts, request: Request, ask: Ask | None, held: HeldAnswer, *, is_final: bool
) -> None:
    """A failed answer of the upstream's. `is_final`: it was tried again; an SDK must not multiply that (DESIGN 4.7)."""
    clock = parts.clock
    lines = quota_lines(parts, request, ask, clock.now(), clock.wall_us())
    answer = ClientAnswer(client)
    answer.begin(held.head, request.name, lines, request.caller.head.http_1_0, is_final=is_final)
    answer.body(held.body())
    answer.finish()


def interrupt(answer: ClientAnswer, relay: Relay | None, error: ApiError | None) -> None:
    """End an answer that has begun, so that the client can tell."""
    error = error or UpstreamBroken()
    rest = relay.interrupted(error.error_type, error.message) if relay is not None else None
    if rest is None:
        answer.cut()
    else:
        answer.body(rest)
    answer.finish()
