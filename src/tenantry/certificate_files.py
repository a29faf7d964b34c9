"""The gateway's own certificates, as files: whether they can be used, for which names, and until when."""

from __future__ import annotations

import re
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenantry.regular_files import read_regular

if TYPE_CHECKING:
    from cryptography import x509

# Clients speak HTTP/1.1 here, and one that can do more is told so in the handshake (RFC 7301).
PROTOCOLS: Final = ["http/1.1"]
# The chains and keys that are in use are some KiB.
_FILE_BYTES_MAX: Final = 1 << 20
# RFC 7468: what a block of PEM is, and how far it goes.
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_CERTIFICATE: Final = "CERTIFICATE"
_CERTIFICATES: Final = frozenset({_CERTIFICATE, "X509 CERTIFICATE", "TRUSTED CERTIFICATE"})
# ITU-T X.690 8.9: how DER, the binary form of all of these, begins.
_DER_BEGINS: Final = b"\x30"


class BadCertificate(Exception):
    """The files cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A pair of files as it was read. `names` are DNS names in lower case, `*.` before some.

    `begins_at` and `ends_at`: from the last begin to the first end in its chain. `is_alone`: no other follows it, and
    it is not its own authority.
    """

    context: ssl.SSLContext
    names: frozenset[str]
    begins_at: datetime
    ends_at: datetime
    is_alone: bool

    def why_not_now(self) -> str | None:
        """Why clients refuse it at this moment, and what to do, as the end of a sentence."""
        now = datetime.now(UTC)
        if self.ends_at < now:
            return f"has ended on {self.ends_at:%Y-%m-%d}; renew it"
        if self.begins_at > now:
            return (
                f"is not valid before {self.begins_at:%Y-%m-%d %H:%M} UTC, and here it is {now:%Y-%m-%d %H:%M}: set "
                "this machine's clock if that is wrong, else put the one before back until then"
            )
        return None


def load_certificate(cert_file: Path, key_file: Path) -> Certificate:
    """Read a chain and its key, for a server: TLS 1.2 or later.

    Raises:
        BadCertificate: they cannot be read, do not belong together, or are open to others.
    """
    cert_data, key_data = _read(cert_file), _read(key_file)
    if key_file.stat().st_mode & stat.S_IROTH:
        raise BadCertificate(f"{key_file} can be read by every user of this machine: chmod o-rwx {key_file}")
    _require_not_swapped(cert_file, cert_data, key_file, key_data)
    chain = _chain_of(cert_file, cert_data)
    _require_key_of(chain, cert_file, key_file, key_data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(PROTOCOLS)
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except OSError as error:  # `ssl.SSLError` is one
        raise BadCertificate(f"{cert_file} and {key_file} cannot be used together: {_why(error)}") from None
    return Certificate(
        context,
        _names_of(chain[0]),
        max(one.not_valid_before_utc for one in chain),
        min(one.not_valid_after_utc for one in chain),
        len(chain) == 1 and chain[0].issuer != chain[0].subject,
    )


def require_authorities(file: Path) -> None:
    """Whether these are certificates of authorities, to be trusted. Raises: BadCertificate."""
    data = _read(file)
    _chain_of(file, data)
    try:
        ssl.create_default_context(cadata=data.decode("ascii", "ignore"))
    except OSError as error:
        raise BadCertificate(f"{file} cannot be used: {_why(error)}") from None


def _read(file: Path) -> bytes:
    """Raises: BadCertificate."""
    try:
        data = read_regular(file, _FILE_BYTES_MAX)
    except FileNotFoundError:
        raise BadCertificate(f"there is no file {file}: put it there") from None
    except PermissionError:
        raise BadCertificate(
            f"{file} cannot be read by this user; the one that Tenantry runs as has to: chgrp, chmod 640"
        ) from None
    except IsADirectoryError:
        raise BadCertificate(f"{file} is a folder: name the file in it") from None
    except OSError as error:
        raise BadCertificate(f"{file} cannot be used: {error.strerror}: put a regular file in its place") from None
    if len(data) > _FILE_BYTES_MAX:
        raise BadCertificate(f"{file} has more than a MiB, and is no PEM of a certificate or key: name the right file")
    if not data.strip():
        raise BadCertificate(f"{file} is empty: what should write it has failed; put the file there again")
    return data


def _labels_of(data: bytes) -> list[str]:
    return [one.decode("ascii") for one in _BEGIN.findall(data)]


def _require_not_swapped(cert_file: Path, cert_data: bytes, key_file: Path, key_data: bytes) -> None:
    """Raises: BadCertificate."""
    of_cert, of_key = _labels_of(cert_data), _labels_of(key_data)
    if any(map(_is_key, of_cert)) and not _CERTIFICATES.intersection(of_cert) and _CERTIFICATES.intersection(of_key):
        raise BadCertificate(f"{cert_file} holds the key and {key_file} the certificate: name them the other way round")


def _is_key(label: str) -> bool:
    return label.endswith("PRIVATE KEY")


def _chain_of(file: Path, data: bytes) -> Sequence[x509.Certificate]:
    """At least one. Raises: BadCertificate."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    _require_pem(file, data, "openssl x509 -inform der")
    labels = _labels_of(data)
    if not _CERTIFICATES.intersection(labels):
        held = ", ".join(dict.fromkeys(labels)).lower()
        more = ": the authority answers it with the certificate" if "request" in held else ""
        raise BadCertificate(f"{file} holds no certificate, only: {held}{more}; put the certificate there, as PEM")
    chain: list[x509.Certificate] = []
    for label, text in _BLOCK.findall(data):
        if label.decode("ascii") not in _CERTIFICATES:
            continue
        try:
            chain.append(x509.load_pem_x509_certificate(b"-----BEGIN %b-----%b-----END %b-----" % (label, text, label)))
        except (ValueError, UnsupportedAlgorithm):
            where = f"certificate {len(chain) + 1} in {file}"
            raise BadCertificate(f"{where} is damaged: copy the file again from where it was made") from None
    return chain


def _require_pem(file: Path, data: bytes, of_binary: str) -> None:
    """Raises: BadCertificate: it is something else, or its end is missing."""
    begun = len(_labels_of(data))
    if not begun:
        if data.startswith(_DER_BEGINS):
            how = f"`{of_binary} -in {file} -out {file}.pem` makes it, `openssl pkcs12` where it is a .p12 or .pfx"
            raise BadCertificate(f"{file} is in the binary form, and has to be PEM: {how}")
        raise BadCertificate(f"{file} is not PEM (text with `-----BEGIN ...-----` in it): put the right file there")
    if len(_BLOCK.findall(data)) < begun:
        raise BadCertificate(f"{file} is cut off, the end of a part of it is missing: copy the whole file again")


def _require_key_of(chain: Sequence[x509.Certificate], cert_file: Path, key_file: Path, data: bytes) -> None:
    """Raises: BadCertificate."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    _require_pem(key_file, data, "openssl pkey -inform der")
    labels = _labels_of(data)
    if not any(map(_is_key, labels)):
        held = ", ".join(dict.fromkeys(labels)).lower()
        raise BadCertificate(f"{key_file} holds no private key, only: {held}; put the certificate's key there, as PEM")
    if "ENCRYPTED PRIVATE KEY" in labels or b"Proc-Type: 4,ENCRYPTED" in data:
        raise BadCertificate(
            f"{key_file} is locked with a password, which nobody could type at a start: `openssl pkey -in {key_file} "
            "-out new.key` asks for it and writes one without (chmod 600 new.key)"
        )
    blocks = [b"-----BEGIN %b-----%b-----END %b-----" % (label, text, label) for label, text in _BLOCK.findall(data)]
    try:
        key = load_pem_private_key(next(one for one in blocks if b"PRIVATE KEY-----" in one), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadCertificate(f"the key in {key_file} is damaged: copy it again from where it was made") from None
    own = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    at = [number for number, one in enumerate(chain) if _public_of(one) == own]
    if not at:
        raise BadCertificate(
            f"{cert_file} and {key_file} cannot be used together: the key is that of another certificate; put the two "
            "there that were made together"
        )
    if at[0]:
        raise BadCertificate(
            f"{cert_file} has to begin with the certificate of {key_file}, which is number {at[0] + 1} in it: put its "
            "authorities after it"
        )


def _public_of(certificate: x509.Certificate) -> bytes | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _names_of(leaf: x509.Certificate) -> frozenset[str]:
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.UnsupportedGeneralNameType, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in found.get_values_for_type(x509.DNSName))


def _no_password() -> str:
    """OpenSSL would ask on the terminal. Raises: BadCertificate."""
    raise BadCertificate("the key is locked with a password, which nobody could type at a start")


# What OpenSSL calls it.
_PLAIN_WORDS = {
    "KEY_VALUES_MISMATCH": "the key is that of another certificate",
    "EE_KEY_TOO_SMALL": "its key is too short to be safe: have one made with RSA 2048 or EC P-256",
    "CA_KEY_TOO_SMALL": "the key of an authority in it is too short to be safe: renew it elsewhere",
    "CA_MD_TOO_WEAK": "it is signed with a hash that is not safe any more: renew it",
}


def _why(error: OSError) -> str:
    reason = str(getattr(error, "reason", None))
    words = reason.lower().replace("_", " ") if reason != "None" else error.strerror or "OpenSSL does not say why"
    return _PLAIN_WORDS.get(reason, f"{words}; have it made anew")
