"""How the value of one setting is read: from a text of the environment, or as TOML has it.

Each reader takes what was written and gives the value; it raises ValueError with the end of a sentence that begins with
the setting's name ("must be ...").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tenantry.domain import portal
from tenantry.domain.hosts import BadHost, check_host
from tenantry.setting_checks import LOOPBACK

# Each gateway of a machine has two, and its successor the other one of them.
PEER_PORT_MAX = 65535 - 2 * 64
# Of gateways on one machine; more than it has cores do not help.
PROCESSES_MAX = 64
# What an invoice is written as (billing/render.py; a test holds them equal).
INVOICE_FORMATS = ("html", "csv", "json", "pdf", "facturx", "cii", "xrechnung")
OFF, PREVIEW, ISSUE, WEEKLY = "off", "preview", "issue", "weekly"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

# A name of DNS (RFC 1123 2.1), or an address of IPv6 without its brackets. Never a pattern: each name is written out.
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|[0-9a-f:]{2,39}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: how it is read, its default, and the classic name that also sets it (`.env.proxy`)."""

    read: Callable[[Any], Any]
    default: Any
    classic: str | None = None


def read_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def read_any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value.strip()


def whole_number(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError("must be a whole number")
        try:
            number = int(value)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"must be between {low} and {high}")
        return number

    return read


def seconds_between(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            number = float("" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            raise ValueError("must be a number of seconds") from None
        if not low <= number <= high:  # nan is neither
            raise ValueError(f"must be between {low:g} and {high:g} seconds")
        return number

    return read


def read_processes(value: Any) -> int:
    """How many; 0: as many as there are cores."""
    return 0 if value == "auto" else whole_number(1, PROCESSES_MAX)(value)


def read_dollars(value: Any) -> float:
    try:
        number = float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        raise ValueError("must be an amount in US dollars, such as 1 or 0.5") from None
    if not 0.01 <= number <= 1000:  # nan is neither
        raise ValueError("must be between 0.01 and 1000 US dollars")
    return number


def read_flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "1", "yes", "on"):
        return True
    if isinstance(value, str) and value.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def read_public_url(value: Any) -> str:
    return read_url(value, "https://claude.agency.example")


def read_url(value: Any, example: str = "https://api.anthropic.com") -> str:
    text = read_text(value).rstrip("/")
    parts = urlsplit(text)
    is_known = parts.scheme in ("http", "https") and parts.hostname and _has_port(parts)
    if not is_known or parts.query or parts.fragment:
        raise ValueError(f"must be a URL such as {example}")
    if parts.username or parts.password:
        raise ValueError("must not hold a user or password: a secret in a URL ends up in logs")
    # The endpoints carry /v1 themselves.
    return text.removesuffix("/v1")


def read_origin(value: Any) -> str:
    url = read_url(value, "https://control.agency.example")
    if urlsplit(url).path:
        raise ValueError("must have no path, as https://control.agency.example: pages stand at its root")
    return url


def read_colour(value: Any) -> str:
    return portal.read_colour(read_text(value))


def read_url_of_issuer(value: Any) -> str:
    """As the provider spells it, which is compared letter by letter (OpenID Connect Discovery 4.3)."""
    text = read_text(value)
    parts = urlsplit(text)
    is_loopback = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not (parts.scheme == "https" or is_loopback) or not parts.hostname or not _has_port(parts):
        raise ValueError("must be a URL with https, such as https://login.agency.example (http on loopback alone)")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must be a URL without user, query and fragment")
    return text


def _has_port(parts: SplitResult) -> bool:
    """Whether its port is one, or left out."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def read_domain(value: Any) -> str:
    name = read_text(value).removesuffix(".").lower()
    try:
        return check_host(name)
    except BadHost:
        raise ValueError("must be a domain such as claude.agency.example, as DNS has it (xn--... for others)") from None


def read_zone(value: Any) -> str:
    name = read_text(value)
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("must be a time zone such as Europe/Berlin") from None
    return name


def read_path(value: Any) -> Path:
    return Path(read_text(value)).expanduser()


def read_level(value: Any) -> str:
    level = read_text(value).upper().replace("WARN", "WARNING").replace("WARNINGING", "WARNING")
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("must be debug, info, warning or error")
    return level


def one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = read_text(value).lower()
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text

    return read


def read_formats(value: Any) -> tuple[str, ...]:
    """Of invoices: a list, or a text with commas between them."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise ValueError('must be a list such as ["html", "csv"]')
    found = tuple(dict.fromkeys(str(name).strip().lower() for name in cast("list[object]", names)))
    if not {*found} <= {*INVOICE_FORMATS}:
        raise ValueError(f"must be a list of {', '.join(INVOICE_FORMATS)}")
    return found


def read_hosts(value: Any) -> tuple[str, ...]:
    """Host names: a list, or a text with commas between them."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        raise ValueError('must be a list of host names such as ["control.agency.example"]')
    found = tuple(str(name).strip().lower().removesuffix(".") for name in cast("list[object]", names))
    for name in found:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError("must be host names without scheme, port or path, such as control.agency.example")
    return found


def read_collector(value: Any) -> str:
    """Of an OpenTelemetry collector; it adds `/v1/traces` itself."""
    return read_url(str(value).removesuffix("/v1/traces"), "http://127.0.0.1:4318")
