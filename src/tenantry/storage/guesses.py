"""Guesses, counted over all control processes that share a store: so many at once, then one for each while.

What is left of an allowance is one number: the moment at which all of it has come back. A guess moves that on by what
one takes to come back, and is refused where that would be later than an empty allowance is full again (the generic
cell rate algorithm, ITU-T I.371).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from sqlalchemy import Connection, Engine, case, delete, select, update

from tenantry.domain.values import value
from tenantry.storage.control_tables import guesses
from tenantry.storage.many import insert_of
from tenantry.storage.server import store_us

_SECOND_US: Final = 1_000_000
# Rows say nothing for as long before they are deleted, so that nobody else is about to change one.
_KEPT_US: Final = 3600 * _SECOND_US
_CLEARED_EACH_SECONDS: Final = 60.0


@value
class Allowance:
    """Of `counted`: `most` at once, then one for each `seconds_each`."""

    counted: str
    most: int
    seconds_each: float

    @property
    def key(self) -> bytes:
        return _key(self.counted)

    @property
    def each_us(self) -> int:
        return int(self.seconds_each * _SECOND_US)

    def wait_us(self, until_us: int, now_us: int) -> int:
        """Until there is one; 0: there is. All has come back at `until_us`.

        What no guess could have left there is of a clock that was set back since: it is as if nothing was left.
        """
        if until_us > now_us + self.most * self.each_us:
            return 0
        return max(0, until_us - now_us - (self.most - 1) * self.each_us)


class GuessStore:
    """`engine`: of the store that all controls share. Asked by several threads."""

    def __init__(self, engine: Engine, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._cleared_at = monotonic()

    def take(self, wanted: Sequence[Allowance]) -> int:
        """Take a guess of each, or of none: 0, or the microseconds until there is one of each.

        Nothing is written for who is refused. Raises: SQLAlchemyError.
        """
        with self._engine.connect() as connection:
            wait_us = _wait_us(connection, wanted)
        if wait_us:
            return wait_us
        self._clear()
        try:
            with self._engine.begin() as connection:
                now_us = store_us(connection)
                for one in sorted(wanted, key=lambda one: one.key):
                    _take(connection, one, now_us)
        except _NoneLeft as refused:  # others were faster
            return refused.wait_us
        return 0

    def give_back(self, wanted: Sequence[Allowance]) -> None:
        """The guesses that were taken were right."""
        with self._engine.begin() as connection:
            for one in sorted(wanted, key=lambda one: one.key):
                mine = update(guesses).where(guesses.c.counted == one.key)
                connection.execute(mine.values(until_us=guesses.c.until_us - one.each_us))

    def know(self, names: Collection[str], seconds: float) -> None:
        """Each of these is known for so long."""
        with self._engine.begin() as connection:
            until_us = store_us(connection) + int(seconds * _SECOND_US)
            for key in sorted(map(_key, names)):
                new = insert_of(connection.dialect, guesses).values(counted=key, until_us=until_us)
                connection.execute(
                    new.on_conflict_do_update(
                        index_elements=[guesses.c.counted], set_={"until_us": new.excluded.until_us}
                    )
                )

    def known(self, names: Collection[str]) -> set[str]:
        """Those of them that are."""
        keys = {_key(name): name for name in names}
        with self._engine.connect() as connection:
            query = select(guesses.c.counted).where(
                guesses.c.counted.in_(keys), guesses.c.until_us > store_us(connection)
            )
            return {keys[bytes(key)] for key in connection.execute(query).scalars()}

    def _clear(self) -> None:
        if self._monotonic() - self._cleared_at < _CLEARED_EACH_SECONDS:
            return
        self._cleared_at = self._monotonic()
        with self._engine.begin() as connection:
            connection.execute(delete(guesses).where(guesses.c.until_us < store_us(connection) - _KEPT_US))


class _NoneLeft(Exception):
    """There is none of one of them."""

    def __init__(self, wait_us: int) -> None:
        super().__init__()
        self.wait_us = wait_us


def _key(counted: str) -> bytes:
    return hashlib.sha256(counted.encode("utf-8", "surrogatepass")).digest()


def _wait_us(connection: Connection, wanted: Sequence[Allowance]) -> int:
    by_key = {one.key: one for one in wanted}
    now_us = store_us(connection)
    rows = connection.execute(select(guesses).where(guesses.c.counted.in_(by_key)))
    return max([by_key[bytes(row.counted)].wait_us(int(row.until_us), now_us) for row in rows], default=0)


def _take(connection: Connection, one: Allowance, now_us: int) -> None:
    """Raises: _NoneLeft."""
    full_us = now_us + one.most * one.each_us
    new = insert_of(connection.dialect, guesses).values(counted=one.key, until_us=now_us + one.each_us)
    until_us = guesses.c.until_us
    then = case((until_us > full_us, full_us), (until_us > now_us, until_us + one.each_us), else_=now_us + one.each_us)
    taken = new.on_conflict_do_update(
        index_elements=[guesses.c.counted],
        set_={"until_us": then},
        where=(until_us <= full_us - one.each_us) | (until_us > full_us),
    )
    if connection.execute(taken.returning(guesses.c.until_us)).first() is None:
        raise _NoneLeft(max(1, _wait_us(connection, [one])))
