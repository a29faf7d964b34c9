"""What stands in the log of a process."""

import json
import re
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


JSON_PROGRAM = """
import logging
from tenantry.running import log_to_standard_error
log_to_standard_error("INFO", "json")
log = logging.getLogger("tenantry.gateway")
log.info("of %s\\nin two lines \\x1b[31m", "somebody", extra={"request_id": "req_1", "tenant": "acme"})
log.debug("not told")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a fault")
logging.getLogger("asyncio").warning("warning of asyncio")
"""


def test_as_json_each_line_is_an_object_with_its_request_and_tenant() -> None:
    done = subprocess.run([sys.executable, "-c", JSON_PROGRAM], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.stderr.isascii()
    assert "\x1b" not in done.stderr
    of_request, fault, other = lines
    assert of_request.pop("pid") > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", of_request.pop("time"))
    assert of_request == {
        "level": "info",
        "logger": "tenantry.gateway",
        "message": "of somebody\nin two lines \x1b[31m",
        "request_id": "req_1",
        "tenant": "acme",
    }
    assert fault["message"] == "a fault"
    assert "ZeroDivisionError: division by zero" in fault["exception"]
    assert (other["logger"], other["level"]) == ("asyncio", "warning")
    assert "request_id" not in other
