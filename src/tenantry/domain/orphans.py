"""What is booked for an attempt whose gateway died before it could write the end. A pure decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from tenantry.domain.attempts import BASIS_BOUND, AttemptBegun, AttemptEnded, AttemptProgress, Outcome
from tenantry.domain.estimates import nanos_by_time, per_second, produced_tokens
from tenantry.domain.prices import PriceTable
from tenantry.domain.settlement import COST_NANOS_MAX
from tenantry.domain.usage import Usage
from tenantry.domain.values import value

GATEWAY_DIED: Final = "gateway_died"
# The last second that a calendar of Python's can write: a damaged line may name any time.
_SECONDS_MAX: Final = 253_402_300_799


# A gateway writes what goes on every second, whether or not anything does.
QUIET_US: Final = 3_000_000


@value
class LastSigns:
    """Of a process that is dead: when it last wrote anything, when it was last seen alive, and until when it may have
    lived (unix microseconds).

    A process that was stopped (SIGSTOP) is alive, and writes nothing: where nobody looked, nobody knows for how long.
    """

    written_us: int
    alive_us: int
    seen_us: int

    @property
    def silent_us(self) -> int:
        """How long it was seen alive and wrote nothing: it was stopped, or its disk was. 0: no longer than usual."""
        silent_us = self.seen_us - self.written_us
        return silent_us if silent_us > QUIET_US else 0


def end_of_orphan(
    begun: AttemptBegun,
    progress: AttemptProgress | None,
    prices: PriceTable,
    ended_at_us: int,
    error: str = GATEWAY_DIED,
    signs: LastSigns | None = None,
) -> AttemptEnded:
    """The end of an attempt of which no end is known, at the best estimate that was journalled.

    What a stream had told is owed, and what was held covers what it generated until the next line. Of an attempt that
    had told nothing, only its bound is known, and what the time of its gateway was enough for. More than what was held
    or told it is never, as where a gateway lives and an answer breaks off: so no kill passes a budget. But for a
    gateway that was seen to have stopped: it could hold no more, and upstream went on.

    `ended_at_us` is when that was found out: the time of its beginning may lie in a period that is exported and
    invoiced already.
    """
    usage, price_version = Usage(), None
    cost_nanos: int | None = begun.bound_nanos
    if progress is None and signs is not None:
        cost_nanos = _nanos_by_time(begun, signs)
    if progress is not None:
        usage = _as_asked(progress.usage, begun)
        at = datetime.fromtimestamp(min(max(0, begun.begun_at_us // 1_000_000), _SECONDS_MAX), UTC)
        priced = prices.price(usage, progress.model_served or begun.model_requested, at)
        price_version = priced.price_version
        told_nanos = priced.cost_nanos or 0
        if told_nanos > COST_NANOS_MAX:  # it cannot be, and no row holds it
            told_nanos = 0
        cost_nanos = max(told_nanos, progress.held_nanos)
        if priced.cost_nanos is None and not progress.held_nanos:
            cost_nanos = None
        elif signs is not None:
            cost_nanos += _nanos_unwritten(begun, usage.output_tokens, signs)
    return AttemptEnded(
        attempt_id=begun.attempt_id,
        ended_at_us=ended_at_us,
        first_byte_at_us=None,
        status=None,
        outcome=Outcome.ORPHANED,
        model_served=(progress.model_served if progress is not None else None) or None,
        stop_reason=None,
        usage=usage,
        usage_raw="",
        cost_nanos=cost_nanos,
        price_version=price_version,
        upstream_request_id=progress.upstream_request_id if progress is not None else None,
        error=error,
        basis=BASIS_BOUND,
    )


def _nanos_by_time(begun: AttemptBegun, signs: LastSigns) -> int:
    """What can have been generated while the gateway may have lived, of what was held."""
    elapsed_us = signs.alive_us - begun.begun_at_us
    if elapsed_us < 0 or not begun.output_tokens_max:  # a clock that was set, a line of an older version
        return begun.bound_nanos
    by_time = nanos_by_time(
        begun.bound_nanos,
        begun.output_nanos,
        begun.output_tokens,
        begun.output_tokens_max,
        elapsed_us,
        per_second(begun.speed),
    )
    return min(by_time, begun.bound_nanos + _nanos_unwritten(begun, begun.output_tokens, signs))


def _nanos_unwritten(begun: AttemptBegun, output_tokens: int, signs: LastSigns) -> int:
    """What can have been generated beyond so much while the gateway was seen to live and wrote nothing."""
    tokens = produced_tokens(0, signs.silent_us, 0, per_second(begun.speed))
    return begun.output_nanos * max(0, min(tokens, begun.output_tokens_max - output_tokens))


def _as_asked(usage: Usage, begun: AttemptBegun) -> Usage:
    """The dearer of what was asked and what was told: an answer may tell speed and place only with its final usage."""
    return replace(
        usage,
        speed=begun.speed if usage.speed == "standard" else usage.speed,
        inference_geo=begun.inference_geo if usage.inference_geo == "global" else usage.inference_geo,
    )
