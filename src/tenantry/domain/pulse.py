"""Whether a process that is watched still goes on: it beats once a second, and whoever watches it looks once a second.

Silence is counted in looks, not by a clock: while the watcher itself stood still (the machine was suspended, the whole
group was stopped, a debugger held it), nobody is to blame for having said nothing.
"""

from __future__ import annotations

from typing import Final

BEAT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
# What a look may count for at most, however long ago the last one was.
_LOOKED_SECONDS_MAX: Final = 2.0
# The longest that a loop of ours is held up is a fraction of a second; what is silent for so long serves nobody.
SILENCE_SECONDS_MAX: Final = 30.0
# Before its first beat a gateway reads the journals of one that died: half a minute for each GiB.
START_SECONDS_MAX: Final = 600.0
# Where ending a process does not help, it is ended less and less often: 30 s, 1, 2, 4, 8 minutes.
_DOUBLINGS_MAX: Final = 4
# After so long without another silence the next one is the first.
STEADY_SECONDS: Final = 3600.0


class Pulse:
    """The pulse of one process. `ended_before`: how often in a row it was ended for its silence."""

    __slots__ = ("_has_beaten", "_silence_seconds_max", "_silent_seconds")

    def __init__(self, ended_before: int = 0) -> None:
        self._has_beaten = False
        self._silent_seconds = 0.0
        self._silence_seconds_max = SILENCE_SECONDS_MAX * 2 ** min(ended_before, _DOUBLINGS_MAX)

    def beat(self) -> None:
        self._has_beaten = True
        self._silent_seconds = 0.0

    def excuse(self) -> None:
        """It could not beat, and is not to blame: from now on it has its whole time again."""
        self._silent_seconds = 0.0

    def is_frozen(self, elapsed_seconds: float) -> bool:
        """Look, so long after the last look. One that has not begun to beat is starting."""
        self._silent_seconds += min(elapsed_seconds, _LOOKED_SECONDS_MAX)
        return self._silent_seconds > self.limit

    @property
    def limit(self) -> float:
        """For how many seconds it may be silent."""
        return self._silence_seconds_max if self._has_beaten else START_SECONDS_MAX
