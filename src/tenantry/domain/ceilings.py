"""How much of a budget an owner takes beforehand, and what another one counts that takes over (decision 0021).

The owner of a tenant may have spent and held, from when it opened an account, at most what stands in the store as
*taken*. So whoever takes over knows the most that a dead owner may have spent, though its journal is on its disk: what
it has taken, less what is known of it. That is held, in every period, until the journal is booked to its end.

All amounts count from the opening of one account by one gateway, and only ever grow: they do not care in which period
something was spent, which cap is lowest, or at what time of the night a period ends. Nano-dollars, or tokens.
"""

from __future__ import annotations

from typing import Final

# What is taken at a time: enough that a store which is away for some seconds is not noticed, and little enough that
# what a machine takes down with it does not matter. A dollar is a long answer of the dearest model.
ENVELOPE_NANOS_MIN: Final = 1_000_000_000
ENVELOPE_TOKENS_MIN: Final = 1_000_000
# Or two hundredths of what is left.
ENVELOPE_DIVISOR: Final = 50
# More is asked for when so much of an envelope is left: one part in two.
LOW_DIVISOR: Final = 2
# Ceilings are raised ahead of need: half of an envelope has to last for so long.
RAISE_SECONDS: Final = 0.1


def envelope(left: int, least: int) -> int:
    """How much to take where so much is left of a budget."""
    return max(0, min(left, max(least, left // ENVELOPE_DIVISOR)))


class Ceiling:
    """What an owner has taken of one account. `mark`: beyond which use more is asked for.

    `tenant_id`, `key_id` and `unit` say whose it is; `asked` is where those gather that want more. `since_us`: when the
    account began to count, 0 where that was with its tenant.
    """

    __slots__ = ("asked", "is_asked", "key_id", "least", "mark", "missing", "since_us", "taken", "tenant_id", "unit")

    def __init__(
        self,
        least: int,
        tenant_id: str = "",
        key_id: str = "",
        unit: str = "",
        asked: list[Ceiling] | None = None,
        since_us: int = 0,
    ) -> None:
        self.since_us = since_us
        self.least = least
        self.tenant_id = tenant_id
        self.key_id = key_id
        self.unit = unit
        self.asked = asked
        self.taken = 0
        self.mark = 0
        self.missing = 0  # beyond what is taken, by a request that waits
        self.is_asked = False

    def ask(self, missing: int) -> None:
        """More is needed soon; `missing`: so much is lacking for a request now."""
        self.missing = max(self.missing, missing)
        if not self.is_asked:
            self.is_asked = True
            if self.asked is not None:
                self.asked.append(self)

    def next_taken(self, used: int, left: int, step: int = 0) -> int:
        """What is to be taken: so much is used, and so much is left of the budget beside it. It never becomes less.

        `step`: what all streams together may need at once. When more is asked for there has to be as much.
        """
        ahead = max(self.taken if self.missing else 0, used + envelope(left, max(self.least, LOW_DIVISOR * step)))
        return max(self.taken, min(used + max(0, left), ahead + self.missing))

    def take(self, taken: int, used: int, left: int) -> None:
        """So much stands in the store. Where it is all that is left, there is nothing more to ask for."""
        self.taken = max(self.taken, taken)
        headroom = self.taken - used
        self.mark = self.taken if headroom >= left or headroom <= 0 else self.taken - headroom // LOW_DIVISOR
        self.is_asked = False
        self.missing = 0

    def lower(self, used: int) -> None:
        """Nothing beyond what was used is taken any more."""
        self.taken = self.mark = used
        self.is_asked = False


def unknown(taken: int, known: int) -> int:
    """What an owner that cannot be asked may have spent beside what is known of it."""
    return max(0, taken - known)
