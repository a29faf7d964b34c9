"""Running totals that a gateway keeps for people: refusals by tenant and reason, the last use of each key, own time."""

from __future__ import annotations

import time
from typing import Final

from tenantry.domain.attempts import KeyUse, RefusalCount, RefusedRequest, Tally
from tenantry.domain.histograms import OWN_BOUNDS_US, Histogram
from tenantry.domain.printable import printable

AGENT_CHARS_MAX: Final = 200
# Of a head of 64 KiB; each character has at least one byte, and no name needs four for each.
AGENT_BYTES_MAX: Final = 4 * AGENT_CHARS_MAX
# So many refusals and uses of keys at most are handed over before the event loop does other things: some 0.3 ms.
TAKEN_AT_ONCE: Final = 64

# Of the requests refused between two tallies, a second, so many are told one by one: for who is asked about an id. One
# tenant that is refused without end takes a quarter of the places. 150 bytes of the journal each.
RECENT_OF_TENANT_MAX: Final = 32
RECENT_MAX: Final = 128
# As the column of the ledger that sums by model.
MODEL_CHARS_MAX: Final = 128


class Tallies:
    """Counts in memory; `take` hands over what has changed since it was handed over, some of it at a time.

    `added`: what the gateway itself has added to each request that it sent, before its first byte upstream; a wait for
    a turn is not in it. `loop_lag_us`: the longest that the event loop came late since somebody set it to 0.
    """

    def __init__(self) -> None:
        self.added = Histogram(OWN_BOUNDS_US)
        self.loop_lag_us = 0
        self._refusals: dict[tuple[str, str], list[int]] = {}
        self._refused: dict[tuple[str, str], None] = {}
        self._used: dict[str, tuple[str, bytes]] = {}
        self._recent: list[RefusedRequest] = []
        self._recent_of: dict[str, int] = {}

    def refused(self, tenant_id: str, reason: str) -> None:
        key = (tenant_id, reason)
        count = self._refusals.get(key)
        if count is None:
            count = self._refusals[key] = [0, 0]
        count[0] += 1
        count[1] = time.time_ns() // 1000
        self._refused[key] = None

    def turned_away(
        self, tenant_id: str, key_id: str, request_id: str, status: int, error: str, reason: str, model: str
    ) -> None:
        """Keep one refused request, where there is a place. `tenant_id` "": nobody's."""
        own = self._recent_of.get(tenant_id, 0)
        if own >= RECENT_OF_TENANT_MAX or len(self._recent) >= RECENT_MAX:
            return
        self._recent_of[tenant_id] = own + 1
        told = printable(model[:MODEL_CHARS_MAX])[:MODEL_CHARS_MAX]
        at_us = time.time_ns() // 1000
        self._recent.append(RefusedRequest(request_id, tenant_id, key_id, at_us, status, error, reason, told))

    def used(self, key_id: str, address: str, agent: bytes) -> None:
        self._used[key_id] = (address, agent)

    @property
    def steps(self) -> int:
        """How often `take` is to be called for all that has changed until now."""
        return -(-max(len(self._refused), len(self._used), len(self._recent)) // TAKEN_AT_ONCE)

    def take(self) -> Tally | None:
        """Some of what changed, as totals of this run; None when nothing did."""
        if not self._refused and not self._used and not self._recent:
            return None
        now_us = time.time_ns() // 1000
        refusals: list[RefusalCount] = []
        uses: list[KeyUse] = []
        while self._refused and len(refusals) < TAKEN_AT_ONCE:
            key, _ = self._refused.popitem()
            refusals.append(RefusalCount(*key, *self._refusals[key]))
        while self._used and len(uses) < TAKEN_AT_ONCE:
            key_id, (address, agent) = self._used.popitem()
            told = printable(agent.decode("utf-8", "replace"))[:AGENT_CHARS_MAX]
            uses.append(KeyUse(key_id, now_us, address[:64], told))
        recent, self._recent = self._recent[:TAKEN_AT_ONCE], self._recent[TAKEN_AT_ONCE:]
        if not self._recent:
            self._recent_of.clear()
        return Tally(refusals, uses, recent)
