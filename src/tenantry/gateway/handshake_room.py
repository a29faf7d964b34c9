"""How many TLS handshakes may go on at once, and which gives way: they hold memory before anybody has said a word."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

# What OpenSSL and its buffers hold for one that has begun is some 43 KB (measured, 2026-11-28): 88 MB of all, 22 of an
# address. One takes a client two round trips and us a millisecond, so these are more than there are at a time in a
# burst of new connections.
HANDSHAKES_MAX: Final = 2048
HANDSHAKES_PER_PEER_MAX: Final = 512
# One that has taken so long gives way to a new one where there is no room: clients on the slowest of lines have ended
# theirs by then, and who ends none has nothing to lose. A flood that is faster than this is refused.
YIELD_SECONDS: Final = 2.0


class HandshakeRoom:
    """The handshakes that go on, by their sockets, the oldest first."""

    def __init__(self) -> None:
        self._begun: dict[socket.socket, tuple[str, float]] = {}
        self._peers: dict[str, dict[socket.socket, None]] = {}

    def __len__(self) -> int:
        return len(self._begun)

    def __iter__(self) -> Iterator[socket.socket]:
        return iter([*self._begun])

    def enter(self, raw: socket.socket, peer: str, now: float) -> tuple[bool, socket.socket | None]:
        """Whether there is room for one more, and which other one has to be ended for that. `now` is in seconds."""
        own = self._peers.get(peer, {})
        older: socket.socket | None = None
        if len(own) >= HANDSHAKES_PER_PEER_MAX:
            older = next(iter(own))
        elif len(self._begun) >= HANDSHAKES_MAX:
            older = next(iter(self._begun))
        if older is not None:
            if now - self._begun[older][1] < YIELD_SECONDS:
                return False, None
            self.leave(older)
        self._begun[raw] = peer, now
        self._peers.setdefault(peer, {})[raw] = None
        return True, older

    def leave(self, raw: socket.socket) -> None:
        """It has ended, in whichever way. Told twice, it counts once."""
        found = self._begun.pop(raw, None)
        if found is None:
            return
        own = self._peers[found[0]]
        del own[raw]
        if not own:
            del self._peers[found[0]]
