"""Running totals that a gateway keeps for people: refusals by tenant and reason, and the last use of each key."""

from __future__ import annotations

import time
from typing import Final

from tenantry.domain.attempts import KeyUse, RefusalCount, Tally
from tenantry.domain.printable import printable

AGENT_CHARS_MAX: Final = 200
# Of a head of 64 KiB; each character has at least one byte, and no name needs four for each.
AGENT_BYTES_MAX: Final = 4 * AGENT_CHARS_MAX


class Tallies:
    """Counts in memory; `take` hands over what has changed since it was last called."""

    def __init__(self) -> None:
        self._refusals: dict[tuple[str, str], list[int]] = {}
        self._refused: set[tuple[str, str]] = set()
        self._used: dict[str, tuple[str, bytes]] = {}

    def refused(self, tenant_id: str, reason: str) -> None:
        key = (tenant_id, reason)
        count = self._refusals.get(key)
        if count is None:
            count = self._refusals[key] = [0, 0]
        count[0] += 1
        count[1] = time.time_ns() // 1000
        self._refused.add(key)

    def used(self, key_id: str, address: str, agent: bytes) -> None:
        self._used[key_id] = (address, agent)

    def take(self) -> Tally | None:
        """What changed, as totals of this run; None when nothing did."""
        if not self._refused and not self._used:
            return None
        now_us = time.time_ns() // 1000
        refusals = [RefusalCount(*key, *self._refusals[key]) for key in self._refused]
        uses = [
            KeyUse(key_id, now_us, address[:64], printable(agent.decode("utf-8", "replace"))[:AGENT_CHARS_MAX])
            for key_id, (address, agent) in self._used.items()
        ]
        self._refused.clear()
        self._used.clear()
        return Tally(refusals, uses)
