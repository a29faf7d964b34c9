"""Guesses at admin tokens are slowed down: for each address, and for all of them together.

A token has 256 bits and cannot be guessed; what is bounded here is what trying costs: processor time, and lines of the
audit log. A guess is taken before the token is looked at, and given back when it was right, so that many at once are
counted too. When all addresses together have guessed too often, those that an admin came from lately go on, each
within its own allowance: nobody locks the admins out from elsewhere. Each process counts for itself: it is its own
processor time. Guesses at passwords and codes are counted in the store (signin/throttle.py).
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# An admin who pastes a wrong token tries a few times; then one more every 6 s.
ADDRESS_GUESSES: Final = 10
ADDRESS_SECONDS_EACH: Final = 6.0
# Of all addresses together, which may be made up behind a proxy that is not ours.
ALL_GUESSES: Final = 100
ALL_SECONDS_EACH: Final = 1.0
# Some 100 bytes each. One that is forgotten may guess anew, within what all may together.
ADDRESSES_MAX: Final = 1024
# Addresses from which a right token came, for so long.
TRUSTED_MAX: Final = 64
TRUSTED_SECONDS: Final = 24 * 3600.0
# Lines of the audit log: a guesser must not fill it. What was not told is counted in the next line.
TOLD_SECONDS_EACH: Final = 30.0
TOLD_AT_ONCE: Final = 4
_ADDRESS_CHARS_MAX: Final = 64
# Whoever has one address of IPv6 has all of its network (RFC 6177).
_NETWORK_BITS: Final = 64


@dataclass(slots=True)
class _Allowance:
    """So many at once, then one for each `seconds_each`. `left` is as of `at`."""

    most: int
    seconds_each: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        self.left = min(self.most, self.left + max(0.0, now - self.at) / self.seconds_each)
        self.at = now

    def seconds_until_one(self) -> float:
        return (1 - self.left) * self.seconds_each


class Telling:
    """Of what is wrong the audit log is told some lines a minute at most. `now`: as `Guesses` has it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._allowance = _Allowance(TOLD_AT_ONCE, TOLD_SECONDS_EACH, TOLD_AT_ONCE, now())
        self._untold = 0

    def to_tell(self) -> int:
        """One was wrong, or refused: how many have been since the last line of the audit log; 0: no line now."""
        self._untold += 1
        self._allowance.fill(self._now())
        if self._allowance.left < 1:
            return 0
        self._allowance.left -= 1
        count, self._untold = self._untold, 0
        return count


class Guesses:
    """Asked by the event loop alone. `now`: seconds that never go back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._addresses: OrderedDict[str, _Allowance] = OrderedDict()
        self._trusted: OrderedDict[str, float] = OrderedDict()
        self._all = _Allowance(ALL_GUESSES, ALL_SECONDS_EACH, ALL_GUESSES, now())
        self._telling = Telling(now)

    def take(self, address: str) -> int:
        """Take a guess; 0, or the whole seconds after which there is one again."""
        now, key = self._now(), network_of(address)
        own = self._of(key, now)
        own.fill(now)
        self._all.fill(now)
        wait = own.seconds_until_one() if own.left < 1 else 0.0
        if not self._is_trusted(key, now) and self._all.left < 1:
            wait = max(wait, self._all.seconds_until_one())
        if wait > 0:
            return max(1, math.ceil(wait))
        own.left -= 1
        self._all.left = max(0.0, self._all.left - 1)
        return 0

    def was_right(self, address: str) -> None:
        """The token is one: the guess is given back, and the address trusted for a day."""
        now, key = self._now(), network_of(address)
        for one in (self._of(key, now), self._all):
            one.left = min(one.most, one.left + 1)
        self._trusted[key] = now
        self._trusted.move_to_end(key)
        while len(self._trusted) > TRUSTED_MAX:
            self._trusted.popitem(last=False)

    def to_tell(self) -> int:
        """As `Telling` has it."""
        return self._telling.to_tell()

    def _of(self, key: str, now: float) -> _Allowance:
        own = self._addresses.get(key)
        if own is None:
            own = self._addresses[key] = _Allowance(ADDRESS_GUESSES, ADDRESS_SECONDS_EACH, ADDRESS_GUESSES, now)
            while len(self._addresses) > ADDRESSES_MAX:
                self._addresses.popitem(last=False)
        self._addresses.move_to_end(key)
        return own

    def _is_trusted(self, key: str, now: float) -> bool:
        at = self._trusted.get(key)
        return at is not None and now - at < TRUSTED_SECONDS

    def __len__(self) -> int:
        return len(self._addresses) + len(self._trusted)


def network_of(address: str) -> str:
    """What is counted as one address."""
    try:
        parsed = ipaddress.ip_address(address[:_ADDRESS_CHARS_MAX].partition("%")[0])
    except ValueError:
        return address[:_ADDRESS_CHARS_MAX]
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _NETWORK_BITS), strict=False))
