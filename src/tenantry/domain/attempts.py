"""One request sent upstream: what is known before it leaves, while it runs, and when it has ended.

These are the events of the journal. `AttemptBegun` is written before the first upstream byte, `AttemptProgress` when a
stream has told its input usage, `AttemptEnded` exactly once. A `Tally` now and then tells what is counted beside them.
All times are unix microseconds, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tenantry.domain.usage import Usage
from tenantry.domain.values import value


class Outcome(StrEnum):
    """How an attempt was booked.

    settled: upstream told the final usage. voided: nothing was generated, nothing is owed. estimated: the answer broke
    off before the final usage, so output is estimated from what was relayed. orphaned: the gateway died before it
    could write the end. unpriced: the usage is known but no price row matches the model.
    adjusted: not an attempt but the correction of one, booked later; it carries the difference alone.
    """

    SETTLED = "settled"
    VOIDED = "voided"
    ESTIMATED = "estimated"
    ORPHANED = "orphaned"
    UNPRICED = "unpriced"
    ADJUSTED = "adjusted"


# How a cost was found (`AttemptEnded.basis`): it follows from the usage, or it is what had been held.
BASIS_USAGE: Final = "usage"
BASIS_BOUND: Final = "bound"


@dataclass(init=False, slots=True)
class AttemptBegun:
    """An attempt that is about to be sent.

    `bound_nanos` is the most that it may cost as far as is known then, at the `speed` and place (`inference_geo`) that
    it asks for: what a crash before the first word of the answer leaves to be booked. `output_tokens` of it are output
    at `output_nanos` each, of `output_tokens_max` that may come, so that it can be told what a short time was enough
    for. Lines of older versions have none of these. `queue_wait_us`: how long its request had waited for a turn, None
    where it had not. `traceparent`: the client's (W3C Trace Context), where traces are made and it sent one.
    """

    attempt_id: Final[str]
    request_id: Final[str]
    tenant_id: Final[str]
    key_id: Final[str]
    credential_id: Final[str]
    upstream_id: Final[str]
    model_requested: Final[str]
    streaming: Final[bool]
    begun_at_us: Final[int]
    bound_nanos: int = field(default=0)
    speed: str = field(default="standard")
    inference_geo: str = field(default="global")
    output_nanos: int = field(default=0)
    output_tokens: int = field(default=0)
    output_tokens_max: int = field(default=0)
    queue_wait_us: int | None = field(default=None)
    traceparent: str | None = field(default=None)

    def __init__(
        self,
        attempt_id: str,
        request_id: str,
        tenant_id: str,
        key_id: str,
        credential_id: str,
        upstream_id: str,
        model_requested: str,
        streaming: bool,
        begun_at_us: int,
        bound_nanos: int = 0,
        speed: str = "standard",
        inference_geo: str = "global",
        output_nanos: int = 0,
        output_tokens: int = 0,
        output_tokens_max: int = 0,
        queue_wait_us: int | None = None,
        traceparent: str | None = None,
    ) -> None:
        self.attempt_id = attempt_id
        self.request_id = request_id
        self.tenant_id = tenant_id
        self.key_id = key_id
        self.credential_id = credential_id
        self.upstream_id = upstream_id
        self.model_requested = model_requested
        self.streaming = streaming
        self.begun_at_us = begun_at_us
        self.bound_nanos = bound_nanos
        self.speed = speed
        self.inference_geo = inference_geo
        self.output_nanos = output_nanos
        self.output_tokens = output_tokens
        self.output_tokens_max = output_tokens_max
        self.queue_wait_us = queue_wait_us
        self.traceparent = traceparent


@dataclass(init=False, slots=True)
class AttemptProgress:
    """What a stream has said so far; kept so that a crash leaves the best-known figures.

    `held_nanos` is what is held for it now, and covers what it generates until the next of these lines.
    """

    attempt_id: Final[str]
    model_served: Final[str]
    usage: Final[Usage]
    upstream_request_id: str | None = field(default=None)
    held_nanos: int = field(default=0)

    def __init__(
        self,
        attempt_id: str,
        model_served: str,
        usage: Usage,
        upstream_request_id: str | None = None,
        held_nanos: int = 0,
    ) -> None:
        self.attempt_id = attempt_id
        self.model_served = model_served
        self.usage = usage
        self.upstream_request_id = upstream_request_id
        self.held_nanos = held_nanos


@dataclass(init=False, slots=True)
class AttemptEnded:
    """The end of an attempt.

    `status` is the upstream's HTTP status, None when no head arrived. `cost_nanos` is None only when unpriced.
    `usage_raw` is the upstream's usage JSON as text ("" when none came). `error` is a short machine word for what went
    wrong, None for a clean end: `connect_failed`, `upstream_dropped`, `upstream_invalid_http`,
    `upstream_answer_too_large`, an `error.type` of the API; `client_gone` where
    the answer was read on for the bill, `client_gone_cancelled` where it was broken off.
    `saved_nanos`: what the cache breakpoint that the gateway added has saved, None where it added none.
    `basis`: whether the cost follows from the usage, or is what had been held (`BASIS_BOUND`). `flaws`: what was wrong
    with the usage that was told, such as `usage_unreadable`. `held_nanos`: what budgets count for an attempt without a
    price; None for every other.
    """

    attempt_id: Final[str]
    ended_at_us: Final[int]
    first_byte_at_us: Final[int | None]
    status: Final[int | None]
    outcome: Final[Outcome]
    model_served: Final[str | None]
    stop_reason: Final[str | None]
    usage: Final[Usage]
    usage_raw: Final[str]
    cost_nanos: Final[int | None]
    price_version: Final[str | None]
    upstream_request_id: Final[str | None]
    error: Final[str | None]
    saved_nanos: int | None = field(default=None)
    basis: str = field(default=BASIS_USAGE)
    flaws: tuple[str, ...] = field(default=())
    held_nanos: int | None = field(default=None)

    def __init__(
        self,
        attempt_id: str,
        ended_at_us: int,
        first_byte_at_us: int | None,
        status: int | None,
        outcome: Outcome,
        model_served: str | None,
        stop_reason: str | None,
        usage: Usage,
        usage_raw: str,
        cost_nanos: int | None,
        price_version: str | None,
        upstream_request_id: str | None,
        error: str | None,
        saved_nanos: int | None = None,
        basis: str = BASIS_USAGE,
        flaws: tuple[str, ...] = (),
        held_nanos: int | None = None,
    ) -> None:
        self.attempt_id = attempt_id
        self.ended_at_us = ended_at_us
        self.first_byte_at_us = first_byte_at_us
        self.status = status
        self.outcome = outcome
        self.model_served = model_served
        self.stop_reason = stop_reason
        self.usage = usage
        self.usage_raw = usage_raw
        self.cost_nanos = cost_nanos
        self.price_version = price_version
        self.upstream_request_id = upstream_request_id
        self.error = error
        self.saved_nanos = saved_nanos
        self.basis = basis
        self.flaws = flaws
        self.held_nanos = held_nanos

    @property
    def counted_nanos(self) -> int:
        """What it counts in budgets: its cost; without a price, what was held for it (unknown is not free)."""
        return self.cost_nanos if self.cost_nanos is not None else self.held_nanos or 0


# Counted as refusals are, though the request passes: a conversation that answers tools without end.
RUNAWAY_LOOP: Final = "runaway_tool_loop"


@value
class RefusalCount:
    """How often a gateway run has refused a tenant for one reason, in all, and when it last did."""

    tenant_id: str
    reason: str
    count: int
    last_at_us: int


@value
class KeyUse:
    """The last use of a gateway key. `agent` is what the client calls itself."""

    key_id: str
    at_us: int
    address: str
    agent: str


@value
class RefusedRequest:
    """One that a gateway refused: what its client was told, and nothing of what it said but the model's name.

    `tenant_id` "": nobody's key. `key_id` and `model` "": it did not come so far. `error` is the API's word for its
    kind, `reason` what it is counted as; "": it is not counted.
    """

    request_id: str
    tenant_id: str
    key_id: str
    at_us: int
    status: int
    error: str
    reason: str
    model: str


@value
class Tally:
    """Totals of a run, not differences: read twice, they change nothing. `recent`: some of those refused since."""

    refusals: list[RefusalCount]
    keys: list[KeyUse]
    recent: list[RefusedRequest] = field(default_factory=list[RefusedRequest])
