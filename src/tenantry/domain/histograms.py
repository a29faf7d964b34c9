"""How many values fell below which bound: what a histogram of Prometheus is made of. Times are microseconds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

# What a gateway itself adds is tenths of a millisecond, and some milliseconds behind somebody's large prompt.
OWN_BOUNDS_US: Final = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000)
# A turn in a queue and a first word come within seconds; the longest answer that is not streamed takes ten minutes.
WAIT_BOUNDS_US: Final = (
    *(1_000, 10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000),
    *(30_000_000, 60_000_000, 120_000_000, 300_000_000, 600_000_000),
)


class Histogram:
    """`counts`: how many values were at most each bound and above the one before, and last those above all."""

    __slots__ = ("bounds_us", "counts", "sum_us")

    def __init__(self, bounds_us: Sequence[int]) -> None:
        self.bounds_us = tuple(bounds_us)
        self.counts = [0] * (len(self.bounds_us) + 1)
        self.sum_us = 0

    def add(self, value_us: int) -> None:
        self.counts[bisect_left(self.bounds_us, value_us)] += 1
        self.sum_us += value_us

    def grow(self, counts: Sequence[int], sum_us: int) -> None:
        """Add what another one has counted; one with other bounds counts for nothing."""
        if len(counts) == len(self.counts):
            self.counts = [own + more for own, more in zip(self.counts, counts, strict=True)]
            self.sum_us += sum_us
