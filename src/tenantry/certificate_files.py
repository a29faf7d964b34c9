"""The gateway's own certificates, as files: whether they can be used, for which names, and until when."""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
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

    @property
    def has_ended(self) -> bool:
        return self.ends_at < datetime.now(UTC)


def load_certificate(cert_file: Path, key_file: Path) -> Certificate:
    """Read a chain and its key, for a server: TLS 1.2 or later.

    Raises:
        BadCertificate: they cannot be read, do not belong together, or are open to others.
    """
    try:
        for file in (cert_file, key_file):
            if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for without an end
                raise BadCertificate(f"{file} is no regular file: put one in its place")
        if key_file.stat().st_mode & stat.S_IROTH:
            raise BadCertificate(f"{key_file} can be read by every user of this machine: chmod o-rwx {key_file}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(PROTOCOLS)
        context.load_cert_chain(cert_file, key_file, password=_no_password)
        chain = x509.load_pem_x509_certificates(cert_file.read_bytes())
    except PermissionError as error:
        unread = error.filename or (cert_file if not os.access(cert_file, os.R_OK) else key_file)
        raise BadCertificate(
            f"{unread} cannot be read by this user; the one that Tenantry runs as has to: chgrp, chmod 640"
        ) from None
    except (OSError, ValueError) as error:  # `ssl.SSLError` is an OSError
        raise BadCertificate(f"{cert_file} and {key_file} cannot be used together: {_why(error)}") from None
    except _Locked:
        raise BadCertificate(f"{key_file} is locked with a password, which nobody could type at a start") from None
    return Certificate(context, _names_of(chain[0]), min(one.not_valid_after_utc for one in chain))


def _names_of(leaf: x509.Certificate) -> frozenset[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.UnsupportedGeneralNameType, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in found.get_values_for_type(x509.DNSName))


class _Locked(Exception):
    """A key asks for a password."""


def _no_password() -> str:
    raise _Locked


# What OpenSSL calls it.
_PLAIN_WORDS = {
    "KEY_VALUES_MISMATCH": "the key is that of another certificate",
    "NO_START_LINE": "one of them is not PEM",
}


def _why(error: Exception) -> str:
    reason = str(getattr(error, "reason", None))
    if reason in _PLAIN_WORDS:
        return _PLAIN_WORDS[reason]
    if reason == "None" and isinstance(error, ssl.SSLError):
        return "one of them does not hold what it should, as PEM"  # OpenSSL has no word for it
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
