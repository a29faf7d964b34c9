"""What this process knows about upstreams: breakers, retry budgets, credentials that are of no use until a date."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tenantry.domain.breaker import Breakers
from tenantry.domain.directory import Change, Credential, Upstream
from tenantry.domain.standing import Standing

# How long a credential that the upstream refused (401) is passed over where the tenant has another.
REFUSED_SECONDS: Final = 30.0
# A credential out of money is tried again so often, with the next request that costs money: its limit may have been
# raised since, and an upstream says so by nothing else.
PROBE_SPENT_SECONDS: Final = 60.0


# A standing that was not used for so long is forgotten; what its retry budget owed is then forgiven, so it is long.
IDLE_SECONDS: Final = 3600.0
# How many of the longest known standings are looked at for each new one: two, so that those forgotten catch up.
LOOKED_AT: Final = 2
# So many credentials that find an upstream down are named, once a second, where it serves others.
NAMED_MAX: Final = 100


@dataclass(slots=True)
class _Dead:
    """The secret is kept beside the date: a rotated credential is another one, and so is one that was checked since.

    `probe_at`: when it is tried again, in seconds of the loop's time; `since`: when it was found so.
    """

    name: str
    secret: str = field(repr=False)
    checked_at: datetime | None
    until: datetime
    is_spent: bool
    since: float
    probe_at: float

    def is_of(self, credential: Credential) -> bool:
        return self.secret == credential.secret and self.checked_at == credential.checked_at


class Health:
    """By credential. `now` is the event loop's time in seconds. `dead`: what is of no use until a date."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._standings: OrderedDict[str, Standing] = OrderedDict()
        self._breakers: dict[str, Breakers] = {}  # by upstream
        self._shut: dict[str, Breakers] = {}  # those of which some have opened
        self.dead: dict[str, _Dead] = {}

    def of(self, credential: Credential) -> Standing:
        """What is known of the credential at its upstream; a credential that goes elsewhere begins anew."""
        standing = self._standings.get(credential.credential_id)
        if standing is not None:
            if standing.upstream is credential.upstream:
                return standing
            if _is_same(standing.upstream, credential.upstream):
                standing.upstream = credential.upstream
                return standing
        self._forget_idle()
        name = credential.upstream.name
        breakers = self._breakers.get(name)
        if breakers is None:
            breakers = self._breakers[name] = Breakers(name, self._shut)
        standing = self._standings[credential.credential_id] = Standing(credential, breakers)
        standing.breaker.used_at = self._now()
        return standing

    def _forget_idle(self) -> None:
        before = self._now() - IDLE_SECONDS
        for _ in range(min(LOOKED_AT, len(self._standings))):
            credential_id, standing = self._standings.popitem(last=False)
            if standing.breaker.used_at >= before:
                self._standings[credential_id] = standing

    def mark_dead(self, credential: Credential, until: datetime, *, is_spent: bool) -> None:
        """`is_spent`: its account is out of money, so that a request is not worth sending; else it was refused."""
        now = self._now()
        self.dead[credential.credential_id] = _Dead(
            credential.name,
            credential.secret,
            credential.checked_at,
            until,
            is_spent,
            now,
            now + PROBE_SPENT_SECONDS if is_spent else math.inf,
        )

    def dead_until(self, credential: Credential) -> datetime | None:
        """When the credential can be used again; None when it can be now."""
        entry = self.dead.get(credential.credential_id)
        if entry is None:
            return None
        if not entry.is_of(credential) or entry.until <= datetime.now(UTC):
            del self.dead[credential.credential_id]
            return None
        return entry.until

    def is_spent(self, credential: Credential) -> bool:
        """Whether a dead credential is out of money."""
        entry = self.dead.get(credential.credential_id)
        return entry is not None and entry.is_spent

    def may_probe(self, credential: Credential) -> bool:
        """Whether a credential out of money may be tried again now; asking spends nothing."""
        entry = self.dead.get(credential.credential_id)
        return entry is not None and self._now() >= entry.probe_at

    def probed(self, credential: Credential) -> None:
        """A request goes out under it; where it is out of money, that is the probe of this minute."""
        entry = self.dead.get(credential.credential_id)
        if entry is not None and entry.is_spent:
            entry.probe_at = self._now() + PROBE_SPENT_SECONDS

    def paid(self, credential: Credential, begun_at: float) -> None:
        """A request that costs money, begun at `begun_at` (the loop's time), was served under it: it has some."""
        entry = self.dead.get(credential.credential_id)
        if entry is not None and begun_at >= entry.since:
            del self.dead[credential.credential_id]

    def apply(self, change: Change) -> None:
        """Forget what was known of credentials that are others now: rotated, or checked by hand."""
        if not self.dead:
            return
        tenants = change.snapshot.tenants
        for tenant_id in tenants if change.tenants is None else change.tenants:
            tenant = tenants.get(tenant_id)
            for credential in (tenant.credential, tenant.fallback) if tenant is not None else ():
                if credential is not None:
                    self.dead_until(credential)

    def standings(self) -> list[tuple[str, Standing]]:
        """What is known, by credential."""
        return list(self._standings.items())

    def facts(self) -> dict[str, Any]:
        """For people and alerts; no secret in it."""
        now, dead = datetime.now(UTC), self.dead.values()
        return {
            "upstreams_down": self._down(),
            "credentials_dead": {one.name: one.until.isoformat(timespec="seconds") for one in dead if one.until > now},
            "credentials_spent": sorted(one.name for one in dead if one.is_spent and one.until > now),
        }

    def _down(self) -> list[str]:
        """Upstreams whose breakers are open; with the credential where it finds only some of them so."""
        now, found = self._now(), list[str]()
        for name, breakers in list(self._shut.items()):
            is_serving = breakers.serves(now)
            shut = self._open(breakers, NAMED_MAX if is_serving else 1, now)
            if not shut:
                del self._shut[name]
            elif is_serving:
                found += [f"{name} ({standing.credential})" for standing in shut]
            else:
                found.append(name)
        return sorted(found)

    def _open(self, breakers: Breakers, most: int, now: float) -> list[Standing]:
        """Some that find it down. Whoever does so no more is not looked at again."""
        found: list[Standing] = []
        for credential_id in list(breakers.opened):
            standing = self._standings.get(credential_id)
            if standing is None or not standing.breaker.is_open(now):
                del breakers.opened[credential_id]
                continue
            found.append(standing)
            if len(found) >= most:
                break
        return found


def _is_same(upstream: Upstream, other: Upstream) -> bool:
    return upstream.upstream_id == other.upstream_id and upstream.base_url == other.base_url
