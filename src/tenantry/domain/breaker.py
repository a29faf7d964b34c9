"""Whether an upstream is sent to at all under a credential (DESIGN 4.7). Pure: time is passed in, in seconds."""

from __future__ import annotations

from typing import Final

# Hystrix's rolling window; an outage that is over must not be remembered for long.
WINDOW_SECONDS: Final = 10
# Half of what was tried (Hystrix, resilience4j): below it, more requests are served by sending than by refusing.
FAILURES_PER_CENT_MIN: Final = 50
# Hystrix asks for 20 results; a small tenant makes as many in an hour, so no more than five may be lost to find out.
FAILURES_MIN: Final = 5
# An answer of 5xx or 529 costs little and often passes; only when it lasts is it better not to ask.
LASTING_SECONDS: Final = 1.0
# How often an upstream that is down is tried: a recovery is seen in a second, and a dead one costs nothing.
PROBE_SECONDS: Final = 1.0
# What was learned this long ago says nothing about now.
MEMORY_SECONDS: Final = 60.0


# What a breaker knows: whether it is tripped, its times in seconds, its second, its results by the second.
BreakerState = tuple[bool, float, float, float, int, list[int], list[int], list[int]]


class Breakers:
    """All of one upstream, a breaker for each credential: those that have opened, and when it last answered any well.

    `shut` holds the upstreams of which some have opened, so that nobody has to look for them among thousands.
    """

    __slots__ = ("_name", "_shut", "good_at", "opened")

    def __init__(self, name: str, shut: dict[str, Breakers]) -> None:
        self._name = name
        self._shut = shut
        self.opened: dict[str, None] = {}
        self.good_at = -MEMORY_SECONDS

    def open(self, name: str) -> None:
        """One has opened."""
        self.opened[name] = None
        self._shut[self._name] = self

    def serves(self, now: float) -> bool:
        """Whether some credential has been served lately."""
        return now - self.good_at < MEMORY_SECONDS


class Breaker:
    """Stops sending where no usable answer comes; then one probe a second, until one succeeds.

    Looking (`may_send`) spends nothing. A probe is taken by `sent` and is worth a second, whether its end is told or
    not: an attempt that ends neither well nor badly, because its client has gone, holds nothing up.
    `is_tripped`: it was opened, and no answer has closed it; where it is not, nothing is in the way.
    """

    __slots__ = (
        "_bad_since",
        "_good",
        "_name",
        "_next_probe",
        "_others",
        "_refused",
        "_second",
        "_silent",
        "is_tripped",
        "used_at",
    )

    def __init__(self, name: str = "", others: Breakers | None = None) -> None:
        """`others` are told `name` when it stops sending."""
        self._name = name
        self._others = others or Breakers("", {})
        self.is_tripped = False
        self._next_probe = 0.0
        self._second = 0
        self._bad_since = -1.0
        # Results by the second, of the last ten: good, answered 5xx, without an answer.
        self._good = [0] * WINDOW_SECONDS
        self._refused = [0] * WINDOW_SECONDS
        self._silent = [0] * WINDOW_SECONDS
        self.used_at = 0.0

    def state(self) -> BreakerState:
        """All that it knows, for another process of this machine."""
        times = self._next_probe, self._bad_since, self.used_at
        return (self.is_tripped, *times, self._second, self._good, self._refused, self._silent)

    def restore(self, state: BreakerState) -> None:
        """Know what another has known."""
        self.is_tripped, self._next_probe, self._bad_since, self.used_at, self._second = state[:5]
        self._good, self._refused, self._silent = list(state[5]), list(state[6]), list(state[7])
        if self.is_tripped:
            self._others.open(self._name)

    def is_open(self, now: float) -> bool:
        """Whether the upstream counts as down."""
        return self.is_tripped and now - self.used_at < MEMORY_SECONDS

    def may_send(self, now: float) -> bool:
        """Whether an attempt may go out now; asking spends nothing."""
        return not self.is_tripped or now >= self._next_probe or now - self.used_at >= MEMORY_SECONDS

    def sent(self, now: float) -> None:
        """An attempt goes out; while the breaker is open it is the probe of this second."""
        if self.is_tripped:
            if now - self.used_at >= MEMORY_SECONDS:
                self._close()
            self._next_probe = now + PROBE_SECONDS
        self.used_at = now

    def answered(self, now: float, status: int) -> None:
        """An answer began. One of 5xx, 529 among them, is a failure that opens the breaker only when it lasts."""
        second = int(now)
        if second > self._second:
            self._pass_to(second)
        self.used_at = now
        if status >= 500:
            self._refused[second % WINDOW_SECONDS] += 1
            self._judge(now)
            return
        if self.is_tripped:
            self._close()
        self._good[second % WINDOW_SECONDS] += 1
        self._others.good_at = now

    def failed(self, now: float) -> None:
        """No usable answer came: no connection, a reset, a time-out."""
        second = int(now)
        if second > self._second:
            self._pass_to(second)
        self.used_at = now
        self._silent[second % WINDOW_SECONDS] += 1
        self._judge(now)

    def _judge(self, now: float) -> None:
        if self.is_tripped:
            return
        silent = sum(self._silent)
        failures = silent + sum(self._refused)
        results = failures + sum(self._good)
        if failures < FAILURES_MIN or failures * 100 < results * FAILURES_PER_CENT_MIN:
            self._bad_since = -1.0
            return
        if self._bad_since < 0:
            self._bad_since = now
        if silent >= FAILURES_MIN or now - self._bad_since >= LASTING_SECONDS:
            self.is_tripped = True
            self._others.open(self._name)
            self._next_probe = now + PROBE_SECONDS

    def _pass_to(self, second: int) -> None:
        """A later second has begun: what is older than the window is dropped."""
        for each in range(max(self._second + 1, second - WINDOW_SECONDS + 1), second + 1):
            slot = each % WINDOW_SECONDS
            self._good[slot] = self._refused[slot] = self._silent[slot] = 0
        self._second = second

    def _close(self) -> None:
        """Begin anew: what was counted before the recovery would open it again with the next failure."""
        self.is_tripped = False
        self._bad_since = -1.0
        for slot in range(WINDOW_SECONDS):
            self._good[slot] = self._refused[slot] = self._silent[slot] = 0
