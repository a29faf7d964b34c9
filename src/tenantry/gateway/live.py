"""What goes on now, for people: the use of each tenant that changed since it was told last, and health.

A tenant is told when it has been used; while something of it is in flight it is looked at each time, and told where it
is another. So a second in which nothing happens costs nothing for any tenant.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tenantry.domain.admission import Bucket, Lane
from tenantry.domain.directory import Change, Tenant
from tenantry.domain.holds import Account
from tenantry.gateway.parts import Parts
from tenantry.ledger.live import LiveBucket, LiveCapacity, LiveHead, LiveHealth, LiveSpent, LiveTenant, encode_line

log = logging.getLogger("tenantry.gateway")

# Of the credentials that do not open, so many are named.
CLOSED_TOLD_MAX = 10
# So many tenants are looked at before the event loop does other things: some 0.1 ms (5 us each).
TENANTS_AT_ONCE = 16

# What of a tenant's use changes by being used: time alone does not change it.
_Seen = tuple[object, ...]


class LiveChanges:
    """`directory_fault`: why the directory cannot be followed. `closed`: credentials that do not open, in words."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: set[str] = set()  # that were told of
        self._seen: dict[str, _Seen] = {}  # of those in flight
        self.directory_fault = ""
        self.closed: list[str] = []

    def tell_closed(self, closed: list[str]) -> None:
        """Which credentials do not open now, in words; each change of that is a line of the log."""
        for words in closed:
            if words not in self.closed:
                log.error("%s; its tenants keep the secret that opened last, or have none", words)
        if self.closed and not closed:
            log.warning("every credential opens again")
        self.closed = closed

    def apply(self, change: Change) -> None:
        """Who is another now is told again, if it was told before."""
        if change.tenants is None:
            self.tell_all_again()
        else:
            for tenant_id in change.tenants:
                self.tell_again(tenant_id)

    def tell_again(self, tenant_id: str) -> None:
        """A tenant is another now, though it may ask for nothing."""
        if tenant_id in self._known:
            self._parts.lanes.register.tell_again(tenant_id)

    def tell_all_again(self) -> None:
        for tenant_id in self._known:
            self._parts.lanes.register.tell_again(tenant_id)

    def take(self) -> Iterator[dict[str, bytes]]:
        """The lines of what has changed, by tenant or capacity, some at a time."""
        register = self._parts.lanes.register
        announced = register.take_announced()
        if announced:
            yield {name: encode_line(LiveCapacity(name, models)) for name, models in announced.items()}
        told = register.take_told()
        for first in range(0, len(told), TENANTS_AT_ONCE):
            lines: dict[str, bytes] = {}
            for tenant_id in told[first : first + TENANTS_AT_ONCE]:
                line = self._line(tenant_id)
                if line is not None:
                    lines[tenant_id] = encode_line(line)
            yield lines

    def head(self) -> LiveHead:
        """That what was taken is true now, and how the gateway is."""
        parts = self._parts
        health = LiveHealth(
            **parts.health.facts(),
            journal_works=parts.recorder.works,
            directory_fault=self.directory_fault,
            credentials_closed=self.closed[:CLOSED_TOLD_MAX],
        )
        tallies = parts.tallies
        added, lag_us = tallies.added, tallies.loop_lag_us
        return LiveHead(parts.clock.wall_us() / 1_000_000, health, list(added.counts), added.sum_us, lag_us)

    def _line(self, tenant_id: str) -> LiveTenant | None:
        parts = self._parts
        tenant = parts.latest.snapshot.tenants.get(tenant_id)
        own, free = parts.lanes.register.told_of(tenant_id)
        account = parts.till.account_of(tenant_id)
        grants = parts.cells is None or tenant_id in parts.cells.tenure.tenants
        if not grants and tenant_id not in self._known:
            return None
        if any(lane is not None and lane.is_told for lane in (own, free)):
            seen = (*_seen(own, free, account), grants)
            if self._seen.get(tenant_id) == seen:
                return None
            self._seen[tenant_id] = seen
        else:
            self._seen.pop(tenant_id, None)
        if tenant is None:
            return None
        self._known.add(tenant_id)
        line = _told(tenant, own, free, account, parts.clock.now(), parts.clock.wall_us())
        line.grants = grants
        return line


def _seen(own: Lane | None, free: Lane | None, account: Account | None) -> _Seen:
    found: list[object] = []
    for lane in (own, free):
        if lane is not None:
            found += (lane.limits, lane.sessions, lane.waiting, *(bucket.level for bucket in lane.buckets))
    if account is not None:
        found += (account.budget, account.held_nanos, *account.spent.values())
    return tuple(found)


def _told(
    tenant: Tenant, own: Lane | None, free: Lane | None, account: Account | None, now: float, at_us: int
) -> LiveTenant:
    lane = own or free or Lane(tenant.limits, now)  # one that was forgotten is at rest
    line = LiveTenant(
        tenant.tenant_id,
        at_us / 1_000_000,
        sum(each.sessions for each in (own, free) if each is not None),
        sum(each.waiting for each in (own, free) if each is not None),
        _bucket(lane.requests, now),
        _bucket(lane.input_tokens, now),
        _bucket(lane.output_tokens, now),
    )
    if account is not None and (account.budget.caps or account.held_nanos):
        account.advance(at_us)
        line.held_nanos, line.excess_nanos = account.held_nanos, account.excess_nanos
        periods = account.periods
        line.spent = {kind: LiveSpent(nanos, periods[kind].end_us) for kind, nanos in account.spent.items()}
        used = account.utilization(at_us)
        line.budget_percent = used[0] if used is not None else None
    return line


def _bucket(bucket: Bucket | None, now: float) -> LiveBucket | None:
    if bucket is None:
        return None
    bucket.refill(now)
    return LiveBucket(round(bucket.level, 3), round(bucket.rate * 60, 3), bucket.size)
