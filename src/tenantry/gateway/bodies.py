"""Large bodies are read one at a time beside the event loop, in fair turns.

Reading takes up to 30 ms a MB of one thread, and comes before any limit can look at what the body says. So the turn
goes round the tenants that have a body to be read, and what is refused once it was read counts as a request
(`Exchange._charge`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from tenantry.gateway.population import BODY_BYTES_MAX, TENANT_BODY_BYTES_MAX
from tenantry.wire.inspect import MessageFields

# A body above this is read beside the event loop: 5 ms a MB would hold up everybody (DESIGN 4.1).
BESIDE_BYTES_MIN: Final = 1024 * 1024

# What reads a body, and what is told what came of it.
Reading = Callable[[], MessageFields]
Then = Callable[[MessageFields | Exception], None]
# Reads a body beside the event loop, then calls back on it with what came of it.
Beside = Callable[[Reading, Then], None]


class Bodies:
    """Bodies that wait to be read, by tenant; what they take is bounded as that of bodies still coming is."""

    __slots__ = ("_beside", "_bytes", "_is_reading", "_sizes", "_turns", "_waiting")

    def __init__(self, beside: Beside) -> None:
        self._beside = beside
        self._waiting: dict[str, deque[tuple[int, Reading, Then]]] = {}
        self._turns: deque[str] = deque()  # tenants with bodies that wait, each once
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._is_reading = False

    def read(self, tenant_id: str, size: int, read: Reading, then: Then) -> bool:
        """Read a body of `size` bytes when its turn comes, and hand on what came of it. False: too much waits."""
        own = self._sizes.get(tenant_id, 0) + size
        if own > TENANT_BODY_BYTES_MAX or self._bytes + size > BODY_BYTES_MAX:
            return False
        self._sizes[tenant_id] = own
        self._bytes += size
        waiting = self._waiting.get(tenant_id)
        if waiting is None:
            waiting = self._waiting[tenant_id] = deque()
            self._turns.append(tenant_id)
        waiting.append((size, read, then))
        if not self._is_reading:
            self._next()
        return True

    def _next(self) -> None:
        if not self._turns:
            return
        tenant_id = self._turns.popleft()
        waiting = self._waiting[tenant_id]
        size, read, then = waiting.popleft()
        if waiting:
            self._turns.append(tenant_id)
        else:
            del self._waiting[tenant_id]
        self._is_reading = True

        def done(found: MessageFields | Exception) -> None:
            self._is_reading = False
            self._let_go(tenant_id, size)
            try:
                then(found)
            finally:
                if not self._is_reading:  # what follows may have begun the next
                    self._next()

        self._beside(read, done)

    def _let_go(self, tenant_id: str, size: int) -> None:
        self._bytes -= size
        left = self._sizes[tenant_id] - size
        if left:
            self._sizes[tenant_id] = left
        else:
            del self._sizes[tenant_id]

    @property
    def waiting_bytes(self) -> int:
        """Of all bodies that wait or are being read; 0 when nothing is going on."""
        return self._bytes
