"""The gateway's own certificates, as files: whether they can be used, for which names, and until when."""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

# Clients speak HTTP/1.1 here, and one that can do more is told so in the handshake (RFC 7301).
PROTOCOLS: Final = ["http/1.1"]


class BadCertificate(Exception):
    """The files cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A pair of files as it was read. `names` are DNS names in lower case, `*.` before some; `ends_at`: the first end
    in its chain.
    """

    context: ssl.SSLContext
    names: frozenset[str]
    ends_at: datetime


def load_certificate(cert_file: Path, key_file: Path) -> Certificate:
    """Read a chain and its key, for a server: TLS 1.2 or later.

    Raises:
        BadCertificate: they cannot be read, do not belong together, or are open to others.
    """
    try:
        if key_file.stat().st_mode & stat.S_IROTH:
            raise BadCertificate(f"{key_file} can be read by every user of this machine: chmod o-rwx {key_file}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(PROTOCOLS)
        context.load_cert_chain(cert_file, key_file, password=_no_password)
        chain = x509.load_pem_x509_certificates(cert_file.read_bytes())
    except (OSError, ValueError) as error:  # `ssl.SSLError` is an OSError
        raise BadCertificate(f"{cert_file} and {key_file} cannot be used together: {_why(error)}") from None
    except _Locked:
        raise BadCertificate(f"{key_file} is locked with a password, which nobody could type at a start") from None
    return Certificate(context, _names_of(chain[0]), min(one.not_valid_after_utc for one in chain))


def _names_of(leaf: x509.Certificate) -> frozenset[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in found.get_values_for_type(x509.DNSName))


class _Locked(Exception):
    """A key asks for a password."""


def _no_password() -> str:
    raise _Locked


def _why(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
