"""How long tests wait for what has to come."""

import os

# It says nothing of speed (`python -m bench` does): on a machine that is busy with something else everything takes ten
# times as long and is right all the same.
PATIENCE_SECONDS = 60.0
# A process then gets one part in so many of a core; beyond that nothing is waited for.
_LOAD_MAX = 10.0


def patience_seconds(least: float = PATIENCE_SECONDS) -> float:
    """The more processes want each core, the longer."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return max(least, PATIENCE_SECONDS) * min(max(load, 1.0), _LOAD_MAX)
