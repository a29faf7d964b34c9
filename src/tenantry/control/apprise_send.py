"""Has a message sent through Apprise by a process of its own, with bounded memory and time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

from tenantry.control.apprise_fates import Fate

# Each takes 50 MB, and of a hostile service its whole bound. More slow services than that wait for each other, 10 s.
PROCESSES_MAX = 8
_MODULE = "tenantry.control.apprise_child"
# What Python and its TLS go by. Nothing else of the environment is a service's business.
_PASSED = ("PATH", "HOME", "LANG", "TZ", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

_WORDS = {
    Fate.TAKEN: None,
    Fate.REFUSED: "the service did not take it",
    Fate.REDIRECTED: "it answered with a redirect, which is not followed",
    Fate.UNKNOWN: "its URL is not one that Apprise knows",
    Fate.TOO_MUCH: "its answer was too large",
    Fate.FAILED: "the service's plug-in failed",
}
_turns = threading.BoundedSemaphore(PROCESSES_MAX)


def send_apprise(url: str, title: str, body: str, seconds_max: float, html: str = "") -> str | None:
    """Why the service did not take the message within `seconds_max`, in words without a secret; None: it did.

    With `html`, a mail has both, the body as its plain part; any other service gets the body.
    """
    asked = {"url": url, "title": title, "body": body, "html": html, "seconds_max": seconds_max}
    with _turns:
        told = _run(json.dumps(asked).encode(), seconds_max)
    if told is None:
        return "no answer in time"
    try:
        return _WORDS[Fate(told.decode("ascii", "replace"))]
    except ValueError:  # it was ended from outside, or by its own bound at a place that cannot tell
        return "the service's plug-in failed"


def _run(asked: bytes, seconds_max: float) -> bytes | None:
    """What the process wrote; None when it had to be killed."""
    process = subprocess.Popen(  # noqa: S603 -- our own module, and nothing of what is sent
        [sys.executable, "-P", "-m", _MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    )
    with process:
        try:
            return process.communicate(asked, timeout=seconds_max)[0]
        except subprocess.TimeoutExpired:
            # What a plug-in has started goes with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            return None


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _PASSED or name.lower() in _PROXIES}
