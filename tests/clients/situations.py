"""Tenants of the gateway in the states that a client may meet: free, at its rate limit, over budget, revoked."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from tests.stack import Stack, wait_for

# One request each 3 s: what has to wait is told 3 s or less, which every client should obey.
LIMITED_REQUESTS_PER_MINUTE = 20
ACTS_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Access:
    """Where a client is sent, and with which key. `path` is that of the tenant's own endpoint."""

    path: str
    key: str


class Situations:
    """Makes tenants on a running site; one change at a time, for its directory is one object."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._lock = threading.Lock()

    def make(self, kind: str, name: str) -> Access:
        """A tenant called for `name`, in the state `kind`."""
        slug = f"{kind}-{name}"
        with self._lock:
            return Access(f"/t/{slug}", getattr(self, f"_{kind}")(slug))

    def use_up(self, access: Access) -> None:
        """Take the one request that a tenant at its limit may send at once."""
        wait_for(lambda: self._status(access.key) == 200, ACTS_SECONDS_MAX, "a request of the limited tenant")

    def _status(self, key: str) -> int:
        return self._stack.message(key)[0]

    def _free(self, slug: str) -> str:
        return self._stack.tenant(slug)

    def _limited(self, slug: str) -> str:
        limits = {
            "requests_per_minute": LIMITED_REQUESTS_PER_MINUTE,
            "request_burst": 1,
            "queue_depth_max": 0,
        }
        return self._stack.tenant(slug, **limits)

    def _spent(self, slug: str) -> str:
        key = self._stack.tenant(slug)
        self._stack.site.directory.set_budgets(slug, {"month": 1}, "hard")
        wait_for(lambda: self._status(key) != 200, ACTS_SECONDS_MAX, "the budget")
        return key

    def _revoked(self, slug: str) -> str:
        key = self._stack.tenant(slug)
        for one in self._stack.site.directory.list_keys(slug):
            self._stack.site.directory.revoke_key(one.key_id)
        wait_for(lambda: self._status(key) == 403, ACTS_SECONDS_MAX, "the revocation")
        return key
