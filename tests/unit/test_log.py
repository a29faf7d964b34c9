"""What stands in the log of a process."""

import subprocess
import sys

PROGRAM = """
import logging
from tenantry.running import log_to_standard_error
log_to_standard_error("DEBUG")
for name in ("tenantry.gateway", "sqlalchemy.engine", "asyncio"):
    logging.getLogger(name).debug("debug of %s", name)
logging.getLogger("asyncio").warning("warning of asyncio")
"""


def test_debug_is_ours_alone() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    told = [line.partition(": ")[2] for line in done.stderr.splitlines()]
    assert told == ["debug of tenantry.gateway", "warning of asyncio"]
