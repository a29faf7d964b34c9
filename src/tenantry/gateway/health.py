"""What this process knows about upstreams: breakers, retry budgets, credentials that are of no use until a date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tenantry.domain.directory import Credential
from tenantry.domain.retry import Breaker, RetryBudget

# How long a credential that the upstream refused (401) is passed over where the tenant has another.
REFUSED_SECONDS = 30.0


class Standing:
    """One upstream: its breaker and its retry budget."""

    __slots__ = ("breaker", "name", "retries")

    def __init__(self, name: str) -> None:
        self.name = name
        self.breaker = Breaker()
        self.retries = RetryBudget()


@dataclass(frozen=True, slots=True)
class _Dead:
    """The secret is kept beside the date: a rotated credential is another one."""

    name: str
    secret: str = field(repr=False)
    until: datetime
    is_spent: bool


class Health:
    """By upstream and by credential. `now` is the event loop's time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._upstreams: dict[str, Standing] = {}
        self._dead: dict[str, _Dead] = {}

    def of(self, credential: Credential) -> Standing:
        upstream = credential.upstream
        standing = self._upstreams.get(upstream.upstream_id)
        if standing is None:
            standing = self._upstreams[upstream.upstream_id] = Standing(upstream.name)
        return standing

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

    def facts(self) -> dict[str, Any]:
        """For people and alerts; no secret in it."""
        now, dead = datetime.now(UTC), self._dead.values()
        return {
            "upstreams_down": sorted(one.name for one in self._upstreams.values() if one.breaker.is_open(0)),
            "credentials_dead": {one.name: one.until.isoformat(timespec="seconds") for one in dead if one.until > now},
        }
