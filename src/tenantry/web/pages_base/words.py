"""Values as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup

from tenantry.domain.printable import stamp

# What names itself in a user agent, the more special before what it also says it is.
_BROWSERS: Final = {
    "Edg": "Edge",
    "OPR": "Opera",
    "Firefox": "Firefox",
    "Chrome": "Chrome",
    "Chromium": "Chromium",
    "Safari": "Safari",
    "curl": "curl",
}
_SYSTEMS: Final = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}


def sentence(text: Exception | str) -> str:
    """What begins small and has no full stop, such as the message of an error."""
    words = str(text)
    return f"{words[:1].upper()}{words[1:]}."


def when(at: datetime | None) -> str:
    """A moment, to the minute; "" for none."""
    if at is None:
        return ""
    return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M} UTC</time>').format(stamp(at), at.astimezone(UTC))


def browser_name(agent: str) -> str:
    """Which browser on which system, as far as it says so."""
    browser = next((name for mark, name in _BROWSERS.items() if mark in agent), None)
    system = next((name for mark, name in _SYSTEMS.items() if mark in agent), None)
    if browser is None:
        return "an unknown browser"
    return f"{browser} on {system}" if system is not None else browser
