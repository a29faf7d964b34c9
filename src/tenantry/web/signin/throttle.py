"""Guesses at passwords and codes are slowed down: for each address, for each name, and for all together.

Whoever guesses at a name uses up what the name has, and would lock its owner out: an address that somebody signed in
from lately has guesses of its own for them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tenantry.web.guesses import TRUSTED_SECONDS, Guesses

# Ten at once, then one each minute: 1,450 a day at a password of twelve characters, from however many addresses.
NAME_GUESSES: Final = 10
NAME_SECONDS_EACH: Final = 60.0
# Pairs of name and address from which somebody signed in, each for a day.
_KNOWN_MAX: Final = 1024


class Throttle:
    """Asked by several threads. `now`: seconds that never go back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._addresses = Guesses(now)
        self._names = Guesses(now, NAME_GUESSES, NAME_SECONDS_EACH)
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()

    def take(self, name: str, address: str) -> int:
        """Take a guess; 0, or the whole seconds after which there is one again. `name` "": of nobody in particular."""
        with self._lock:
            wait = self._addresses.take(address)
            return wait or (self._names.take(self._key(name, address)) if name else 0)

    def was_right(self, name: str, address: str, *, is_whole: bool = True) -> None:
        """Both guesses are given back. `is_whole`: nothing more is asked for, so the address is known for the name.

        Whoever has a password alone is not known by it: codes are guessed at within what the name has.
        """
        with self._lock:
            self._addresses.was_right(address)
            if name:
                self._names.was_right(self._key(name, address))
            if not name or not is_whole:
                return
            self._known[name.lower(), address] = self._now()
            self._known.move_to_end((name.lower(), address))
            while len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)

    def to_tell(self) -> int:
        """One was wrong, or refused: how many have been since the last line of the audit log; 0: no line now."""
        with self._lock:
            return self._addresses.to_tell()

    def _key(self, name: str, address: str) -> str:
        at = self._known.get((name.lower(), address))
        is_known = at is not None and self._now() - at < TRUSTED_SECONDS
        # No name has a blank in it. The address first: a key is cut off behind 64 characters.
        return f"{address} {name.lower()}" if is_known else f"name {name.lower()}"
