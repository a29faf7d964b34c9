"""What this machine cannot do of what the settings ask: looked at before a process starts, not by commands."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def unusable_here(values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each setting that nothing can start with here. A value that could not be read is missing."""
    for name in ("gateway_host", "control_host"):
        host = values.get(name)
        problem = _cannot_bind(host) if host is not None else None
        if problem is not None:
            yield f"{name}: nothing can listen on {host} here: {problem}"
    cert_file, key_file = values.get("tls_cert_file"), values.get("tls_key_file")
    if cert_file is not None and key_file is not None and cert_file.is_file() and key_file.is_file():
        problem = _cannot_load(cert_file, key_file)
        if problem is not None:
            yield f"tls_cert_file, tls_key_file: {problem}"
    ca_file = values.get("upstream_ca_file")
    if ca_file is not None and ca_file.is_file():
        try:
            ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            yield f"upstream_ca_file: {ca_file} holds no certificates that can be read: {_why(error)}"


def _cannot_bind(host: str) -> str | None:
    """Why nothing can listen on an address, whichever port; None: it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _cannot_load(cert_file: Path, key_file: Path) -> str | None:
    """Why TLS cannot be served with these; None: it can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password=_no_password)
    except OSError as error:  # `ssl.SSLError` is one
        return f"{cert_file} and {key_file} cannot be used together: {_why(error)}"
    except _Locked:
        return f"{key_file} is locked with a password, which nobody could type at a start"
    return None


class _Locked(Exception):
    """A key asks for a password."""


def _no_password() -> str:
    raise _Locked


def _why(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
