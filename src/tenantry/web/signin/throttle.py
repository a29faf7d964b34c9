"""Guesses at passwords and codes are slowed down: for each address, for each name, and for all together.

They are counted in the store, so that who guesses at several control processes has no more of them. Whoever guesses at
a name uses up what the name has, and would lock its owner out: an address that somebody signed in from lately has
guesses of its own for them. A guess is taken before it is looked at, and given back when it was right, so that many at
once are counted too.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine

from tenantry.storage.guesses import Allowance, GuessStore
from tenantry.web.token_guesses import (
    ADDRESS_GUESSES,
    ADDRESS_SECONDS_EACH,
    ALL_GUESSES,
    ALL_SECONDS_EACH,
    TRUSTED_SECONDS,
    Telling,
    network_of,
)

# Ten at once, then one each minute: 1,450 a day at a password of twelve characters, from however many addresses.
NAME_GUESSES: Final = 10
NAME_SECONDS_EACH: Final = 60.0
_SECOND_US: Final = 1_000_000


class Throttle:
    """Asked by several threads. `now`: seconds that never go back."""

    def __init__(self, engine: Engine, now: Callable[[], float]) -> None:
        self._store = GuessStore(engine)
        self._telling = Telling(now)
        self._lock = threading.Lock()

    def take(self, name: str, address: str) -> int:
        """Take a guess; 0, or the whole seconds after which there is one again. `name` "": of nobody in particular."""
        return math.ceil(self._store.take(self._counted(name, address)) / _SECOND_US)

    def was_right(self, name: str, address: str, *, is_whole: bool = True) -> None:
        """The guess is given back. `is_whole`: nothing more is asked for, so the address is known for the name.

        Whoever has a password alone is not known by it: codes are guessed at within what the name has.
        """
        self._store.give_back(self._counted(name, address))
        known = [_known(address)]
        if name and is_whole:
            known.append(_known_for(name, address))
        self._store.know(known, TRUSTED_SECONDS)

    def to_tell(self) -> int:
        """One was wrong, or refused: how many have been since the last line of the audit log; 0: no line now."""
        with self._lock:
            return self._telling.to_tell()

    def _counted(self, name: str, address: str) -> list[Allowance]:
        """What a guess is taken of. When all addresses together have guessed too often, those that are known go on.

        A name is whatever was typed: it stands last, or one could be made up whose guesses are those of somebody else.
        """
        own, for_name = _known(address), _known_for(name, address)
        known = self._store.known([own, for_name] if name else [own])
        found = [Allowance(f"address {network_of(address)}", ADDRESS_GUESSES, ADDRESS_SECONDS_EACH)]
        if own not in known:
            found.append(Allowance("all", ALL_GUESSES, ALL_SECONDS_EACH))
        if name:
            whose = f"name {name.lower()}" if for_name not in known else f"at {address} {name.lower()}"
            found.append(Allowance(whose, NAME_GUESSES, NAME_SECONDS_EACH))
        return found


def _known(address: str) -> str:
    return f"known {network_of(address)}"


def _known_for(name: str, address: str) -> str:
    return f"known {address} as {name.lower()}"
