"""Sends one message through Apprise, as a process of its own: `python -m` this module, by `control/apprise_send.py`.

A service may answer with any number of bytes, at any pace, and Apprise keeps them all: here that costs a process that
ends, and never the control process. A redirect is not followed, for it would carry the message, and what is secret in
its address, to somebody else; and a message that was answered by one was not taken.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from math import ceil
from typing import Any

import apprise
import requests
from apprise.plugins.email import base

from tenantry.control.apprise_fates import Fate
from tenantry.control.apprise_urls import open_apprise

# What Apprise and TLS take, 280 MB of addresses (measured, 2026-11-29), and as much again for an answer.
MEMORY_BYTES_MAX = 512 * 1024 * 1024
_MAIL_SCHEMES = ("mailto", "mailtos")


def main() -> None:
    """Read the message from standard input, send it, write the fate to what was standard output."""
    answer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # plug-ins print
    asked = json.load(sys.stdin)
    _bound(float(asked["seconds_max"]))
    try:
        fate = _send(asked)
    except MemoryError:
        fate = Fate.TOO_MUCH
    except Exception:  # noqa: BLE001 -- a plug-in may raise anything, and its text may hold the URL
        fate = Fate.FAILED
    os.write(answer, fate.value.encode())
    os._exit(0)  # threads of plug-ins are not waited for


def _bound(seconds_max: float) -> None:
    """Whoever started this kills it in time; where that one has died, it ends by itself."""
    signal.alarm(ceil(seconds_max))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _send(asked: dict[str, Any]) -> Fate:
    redirects: list[int] = []
    followed = requests.Session.get_redirect_target

    def follow_none(self: requests.Session, resp: requests.Response) -> None:
        if followed(self, resp) is not None:
            redirects.append(resp.status_code)

    requests.Session.get_redirect_target = follow_none
    opened = open_apprise(asked["url"], float(asked["seconds_max"]))
    if opened is None:
        return Fate.UNKNOWN
    is_mail = bool(asked["html"]) and asked["url"].partition("://")[0].lower() in _MAIL_SCHEMES
    if is_mail:
        _keep_plain_part(asked["body"])
    form = apprise.NotifyFormat.HTML if is_mail else apprise.NotifyFormat.TEXT
    body = asked["html"] if is_mail else asked["body"]
    seconds = float(asked["seconds_max"])
    is_taken = opened.notify(title=asked["title"], body=body, body_format=form, timeout=seconds)
    if redirects:
        return Fate.REDIRECTED
    return Fate.TAKEN if is_taken else Fate.REFUSED


def _keep_plain_part(text: str) -> None:
    """Apprise makes a mail's plain part from its HTML, each cell of a table on a line of its own: here it is ours."""

    def converted(*_: object, **__: object) -> str:
        return text

    setattr(base, "convert_between", converted)  # noqa: B010 -- the name that it has imported, and does not export


if __name__ == "__main__":
    main()
