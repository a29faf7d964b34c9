"""Can an upstream be reached, does its TLS verify, and does its clock agree with ours? No key is sent."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from tenantry.certificate_files import BadCertificate, require_authorities
from tenantry.control.findings import Finding

REACH_SECONDS_MAX = 5.0
# Limits and certificates bear some minutes; a clock that is kept by NTP is right within a second.
CLOCK_SECONDS_MAX = 60.0
_HEAD_BYTES_MAX = 16 * 1024
_MEND_CA = "do what it says, then `tenantry restart`"


def check_reach(name: str, base_url: str, ca_file: str | None, *, is_used: bool) -> Iterator[Finding]:
    """`is_used`: a tenant's requests go there; where none do, it may as well be out of reach."""
    check = f"upstream {name}"
    began = time.time()
    try:
        told_at = _ask_date(base_url, ca_file, is_asked=is_used)
    except BadCertificate as error:
        yield Finding(check, not is_used, f"whom to trust there (ca_file): {error}", "" if not is_used else _MEND_CA)
        return
    except OSError as error:  # `ssl.SSLError` and `socket.gaierror` are such
        found, mend = _why(base_url, error)
        if name == "sandbox" and isinstance(error, ConnectionRefusedError):
            yield Finding(check, True, f"{base_url}: not running (it runs with `tenantry serve`)")
        elif not is_used:
            yield Finding(check, True, f"{found}; no tenant uses it")
        else:
            yield Finding(check, False, found, mend)
        return
    yield Finding(check, True, f"{base_url} can be reached")
    if told_at is not None:
        off = max(began - told_at, told_at - time.time(), 0.0)
        if off > CLOCK_SECONDS_MAX:
            found = f"it is {off:.0f} s off from that of {base_url}"
            yield Finding(f"clock against {name}", False, found, "set the clock: `timedatectl set-ntp true`")


def _ask_date(base_url: str, ca_file: str | None, *, is_asked: bool) -> float | None:
    """The time that it tells, in unix seconds; None where it tells none, or is only connected to.

    Raises:
        OSError: it cannot be reached.
        BadCertificate: the file of authorities cannot be used.
    """
    parts = urlsplit(base_url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    with contextlib.ExitStack() as stack:
        connected = stack.enter_context(socket.create_connection((host, port), timeout=REACH_SECONDS_MAX))
        if parts.scheme == "https":
            if ca_file is not None:
                require_authorities(Path(ca_file))
            tls = ssl.create_default_context(cafile=ca_file)
            connected = stack.enter_context(tls.wrap_socket(connected, server_hostname=host))
        if not is_asked:
            return None
        try:
            connected.sendall(f"HEAD / HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n\r\n".encode())
            return _date_in(_read_head(connected))
        except OSError:  # it was reached; what it says to this is its own affair
            return None


def _read_head(connected: socket.socket) -> bytes:
    head = b""
    until = time.monotonic() + REACH_SECONDS_MAX
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES_MAX and time.monotonic() < until:
        data = connected.recv(4096)
        if not data:
            break
        head += data
    return head


def _date_in(head: bytes) -> float | None:
    for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        name, _, text = line.partition(b":")
        if name.lower() == b"date":
            try:
                return parsedate_to_datetime(text.strip().decode("ascii")).timestamp()
            except (ValueError, OverflowError):
                return None
    return None


def _why(base_url: str, error: OSError) -> tuple[str, str]:
    """What is wrong, and the cure."""
    host = urlsplit(base_url).hostname or ""
    if isinstance(error, socket.gaierror):
        mend = f"`getent hosts {host}` asks again: mend base_url if it is misspelt, else DNS (/etc/resolv.conf)"
        return f"{base_url}: the name {host} does not resolve ({error.strerror})", mend
    if isinstance(error, ssl.SSLError):
        return f"{base_url}: TLS: {error}", "check the upstream's CA (upstream_ca_file) and this machine's clock"
    return f"{base_url}: {error}", "check the network, the firewall, and upstream_base_url"
