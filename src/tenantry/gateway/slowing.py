"""Tenants whose plan throttles: beyond what it includes they go on under the limits of a slower tier.

To the rest of the gateway such a tenant is one with other limits: its lanes, its policies and what it is told follow as
they do when the directory changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tenantry.domain.directory import Change, Snapshot, Tenant, Tier
from tenantry.domain.limits import LOWERED_LIMITS, Limits


class Slowing:
    """Lays the throttled limits over the directory. `snapshot` is the directory as the store has it."""

    __slots__ = ("_slow", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._slow: dict[str, str] = {}  # the tier that is left, by tenant

    def over(self, change: Change) -> Change:
        """The same change, with those who are throttled under their lower limits."""
        self.snapshot = change.snapshot
        if not self._slow:
            return change
        tenants = None if change.tenants is None else change.tenants | self._slow.keys()
        return Change(self._laid(), tenants, change.keys)

    def turn(self, slow: Mapping[str, str]) -> Change | None:
        """From now on these are throttled, each to a tier, and no others; None: they are already."""
        if slow == self._slow:
            return None
        changed = {one for one in slow.keys() | self._slow.keys() if slow.get(one) != self._slow.get(one)}
        self._slow = dict(slow)
        return Change(self._laid(), frozenset(changed), frozenset())

    def _laid(self) -> Snapshot:
        tenants = self.snapshot.tenants.copy()
        for tenant_id, tier in self._slow.items():
            tenant, found = tenants.get(tenant_id), self.snapshot.tiers.get(tier)
            if tenant is not None and found is not None:
                tenants[tenant_id] = _slower(tenant, found)
        return replace(self.snapshot, tenants=tenants)


def _slower(tenant: Tenant, tier: Tier) -> Tenant:
    limits = lower_of(tenant.limits, tier.limits, LOWERED_LIMITS)
    lowered = {name for name in LOWERED_LIMITS if getattr(limits, name) != getattr(tenant.limits, name)}
    return replace(tenant, tier=tier.name, limits=limits, own_limits=tenant.own_limits - lowered)


def lower_of(own: Limits, other: Limits, names: Iterable[str]) -> Limits:
    """Of these limits the lower of both; the rest is `own`'s: which models a tenant may ask for stays as it is."""
    changes: dict[str, int] = {}
    for name in names:
        mine: int | None = getattr(own, name)
        theirs: int | None = getattr(other, name)
        if theirs is not None and (mine is None or theirs < mine):
            changes[name] = theirs
    return own.with_changes(changes)
