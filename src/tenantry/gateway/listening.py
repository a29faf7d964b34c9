"""The gateway's listening socket: given by who started it, bound here, or that of a gateway which serves there."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tenantry.gateway.handover import WireBroken, ask_listener, find_gateways

# The number of the descriptor that `serve` gives to a gateway.
LISTENER: Final = "TENANTRY_LISTENER"
# Which one it is of those that share that descriptor, from 0, and how many these are.
SEAT: Final = "TENANTRY_SEAT"
SEATS: Final = "TENANTRY_SEATS"
# systemd's own (sd_listen_fds(3)): how many, for which process; the first is this one.
_LISTEN_FDS, _LISTEN_PID, _LISTEN_FDS_START = "LISTEN_FDS", "LISTEN_PID", 3
# What waits while no gateway accepts, and in a burst. The kernel takes no more than net.core.somaxconn.
BACKLOG: Final = 4096


class CannotListen(Exception):
    """The gateway cannot listen where it is to."""


class AddressTaken(CannotListen):
    """By something that cannot be asked for its socket."""


def listening_socket(host: str, port: int, journal_dir: Path, environ: Mapping[str, str]) -> socket.socket:
    """Not listening yet, where it was bound here.

    Raises:
        AddressTaken: something listens there that is no gateway of this site which serves.
        CannotListen: the system forbids it, or such a gateway does not answer.
    """
    given = _given(environ)
    if given is not None:
        return given
    try:
        return bind(host, port, is_only_ipv6=True)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        taken = _taken_over(journal_dir, port) if is_taken else None
        if taken is not None:
            return taken
        reason = f"gateway cannot listen on {host}:{port}: {error.strerror or error}"
        kind = AddressTaken if is_taken else CannotListen
        raise kind(f"{reason}; stop what listens there, or set another address or port") from None


def _given(environ: Mapping[str, str]) -> socket.socket | None:
    number = environ.get(LISTENER)
    if number is None and environ.get(_LISTEN_PID) == str(os.getpid()) and environ.get(_LISTEN_FDS, "0") != "0":
        number = str(_LISTEN_FDS_START)
    if number is None:
        return None
    try:
        raw = socket.socket(fileno=int(number))
        raw.set_inheritable(False)
        raw.getsockname()
    except (OSError, ValueError) as error:
        raise CannotListen(f"gateway cannot listen on descriptor {number}, which it was given: {error}") from None
    return raw


def bind(host: str, port: int, *, is_only_ipv6: bool = False) -> socket.socket:
    """A socket that does not listen yet. `is_only_ipv6`: one of IPv6 takes no connection of IPv4. Raises: OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    raw = socket.socket(family, kind, protocol)
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_only_ipv6 and family == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        raw.bind(address)
    except OSError:
        raw.close()
        raise
    return raw


def _taken_over(journal_dir: Path, port: int) -> socket.socket | None:
    """From a living gateway of this site that serves the port."""
    try:
        wires = find_gateways(journal_dir, port, seats=1)  # any of them
        try:
            return ask_listener(wires)
        finally:
            for wire in wires:
                wire.close()
    except WireBroken as error:
        raise CannotListen(f"{error}; end it (`tenantry doctor` names it), or wait until it goes on") from None
