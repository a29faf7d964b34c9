"""What this process knows about upstreams: breakers, retry budgets, credentials that are of no use until a date."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tenantry.domain.breaker import MEMORY_SECONDS, Breaker
from tenantry.domain.directory import Credential
from tenantry.domain.retry import RetryBudget

# How long a credential that the upstream refused (401) is passed over where the tenant has another.
REFUSED_SECONDS: Final = 30.0


# A standing that was not used for so long is forgotten; what its retry budget owed is then forgiven, so it is long.
IDLE_SECONDS: Final = 3600.0
# How many of the longest known standings are looked at for each new one: two, so that those forgotten catch up.
LOOKED_AT: Final = 2


class Standing:
    """One upstream as one credential finds it: its breaker and its retry budget.

    Apart for each credential, so that one tenant's resets and hangs say nothing to another (their limits, proxies
    and prompts differ). `name` is the upstream's, `credential` the credential's.
    """

    __slots__ = ("base_url", "breaker", "credential", "name", "retries", "upstream_id")

    def __init__(self, credential: Credential, opened: set[str]) -> None:
        self.name = credential.upstream.name
        self.credential = credential.name
        self.upstream_id = credential.upstream.upstream_id
        self.base_url = credential.upstream.base_url
        self.breaker = Breaker(credential.credential_id, opened)
        self.retries = RetryBudget()

    def sent(self, now: float) -> None:
        """A request's first attempt goes out."""
        self.retries.sent()
        self.breaker.sent(now)


@dataclass(frozen=True, slots=True)
class _Dead:
    """The secret is kept beside the date: a rotated credential is another one."""

    name: str
    secret: str = field(repr=False)
    until: datetime
    is_spent: bool


class Health:
    """By credential. `now` is the event loop's time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._standings: OrderedDict[str, Standing] = OrderedDict()
        self._opened: set[str] = set()  # credentials whose breaker was open when it was last looked at, or opened since
        self._dead: dict[str, _Dead] = {}

    def of(self, credential: Credential) -> Standing:
        """What is known of the credential at its upstream; a credential that goes elsewhere begins anew."""
        standing = self._standings.get(credential.credential_id)
        if standing is not None:
            upstream = credential.upstream
            if standing.upstream_id == upstream.upstream_id and standing.base_url == upstream.base_url:
                return standing
        self._forget_idle()
        standing = self._standings[credential.credential_id] = Standing(credential, self._opened)
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
        self._dead[credential.credential_id] = _Dead(credential.name, credential.secret, until, is_spent)

    def dead_until(self, credential: Credential) -> datetime | None:
        """When the credential can be used again; None when it can be now."""
        if not self._dead:
            return None
        entry = self._dead.get(credential.credential_id)
        if entry is None:
            return None
        if entry.secret != credential.secret or entry.until <= datetime.now(UTC):
            del self._dead[credential.credential_id]
            return None
        return entry.until

    def is_spent(self, credential: Credential) -> bool:
        """Whether a dead credential is out of money."""
        entry = self._dead.get(credential.credential_id)
        return entry is not None and entry.is_spent

    def standings(self) -> list[tuple[str, Standing]]:
        """What is known, by credential."""
        return list(self._standings.items())

    def dead(self, credential: Credential) -> tuple[datetime, bool] | None:
        """Until when a credential is of no use, and whether it is out of money; None: it is of use."""
        entry = self._dead.get(credential.credential_id)
        return None if entry is None or self.dead_until(credential) is None else (entry.until, entry.is_spent)

    def facts(self) -> dict[str, Any]:
        """For people and alerts; no secret in it."""
        now, dead = datetime.now(UTC), self._dead.values()
        return {
            "upstreams_down": self._down(),
            "credentials_dead": {one.name: one.until.isoformat(timespec="seconds") for one in dead if one.until > now},
        }

    def _down(self) -> list[str]:
        """Upstreams whose breakers are open; with the credential where it finds only some of them so."""
        now = self._now()
        shut: dict[str, list[str]] = {}
        for credential_id in list(self._opened):
            standing = self._standings.get(credential_id)
            if standing is not None and standing.breaker.is_open(now):
                shut.setdefault(standing.name, []).append(standing.credential)
            else:
                self._opened.discard(credential_id)
        serving = self._serving(set(shut), now)
        return sorted(
            entry
            for name, credentials in shut.items()
            for entry in ([f"{name} ({each})" for each in credentials] if name in serving else [name])
        )

    def _serving(self, names: set[str], now: float) -> set[str]:
        """Those of the upstreams that serve some credential; it takes longest where they serve none."""
        found: set[str] = set()
        if names:
            for standing in self._standings.values():
                breaker = standing.breaker
                if standing.name in names and now - breaker.used_at < MEMORY_SECONDS and not breaker.is_open(now):
                    found.add(standing.name)
                    if len(found) == len(names):
                        break
        return found
