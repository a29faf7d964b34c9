"""What this machine cannot do of what the settings ask: looked at before a process starts, not by commands."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any

from tenantry.certificate_files import BadCertificate, load_certificate, require_authorities


def unusable_here(values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each setting that nothing can start with here. A value that could not be read is missing."""
    for name in ("gateway_host", "control_host"):
        host = values.get(name)
        problem = _cannot_bind(host) if host is not None else None
        if problem is not None:
            yield f"{name}: nothing can listen on {host} here: {problem}"
    yield from _unusable_certificates(values)
    ca_file = values.get("upstream_ca_file")
    if ca_file is not None and ca_file.is_file():
        try:
            require_authorities(ca_file)
        except BadCertificate as error:
            yield f"upstream_ca_file: {error}"


def _cannot_bind(host: str) -> str | None:
    """Why nothing can listen on an address, whichever port; None: it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _unusable_certificates(values: Mapping[str, Any]) -> Iterator[str]:
    """Of the gateway's own. That one of a client's has ended is told by `doctor`: nobody else's service ends for it."""
    pairs = [("tls_cert_file, tls_key_file", values.get("tls_cert_file"), values.get("tls_key_file"))]
    pairs += [
        (f"[certificates.{one.name}]", one.cert_file, one.key_file) for one in values.get("more_certificates", ())
    ]
    for number, (name, cert_file, key_file) in enumerate(pairs):
        if cert_file is None or key_file is None or not (cert_file.is_file() and key_file.is_file()):
            continue
        try:
            why = load_certificate(cert_file, key_file).why_not_now()
        except BadCertificate as error:
            yield f"{name}: {error}"
            continue
        if number == 0 and why is not None:
            yield f"{name}: {cert_file} {why}"
