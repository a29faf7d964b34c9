"""A private certificate authority, and certificates of it as files."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Key = ec.EllipticCurvePrivateKey


class Authority:
    """`ca_file` is what clients trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An authority of a test")])
        self.ca_file = folder / "ca.pem"
        usage = x509.KeyUsage(*(at in (0, 5, 6) for at in range(9)))
        made = self._sign(self._name, self._key.public_key(), 90, [x509.BasicConstraints(True, None), usage])
        self.ca_file.write_bytes(_pem(made))

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, days: float, more: list[x509.ExtensionType]
    ) -> x509.Certificate:
        ends = datetime.now(UTC) + timedelta(days=days)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(ends - timedelta(days=90)).not_valid_after(ends)
        of_key = [
            x509.SubjectKeyIdentifier.from_public_key(key),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
        ]
        for extension in (*more, *of_key):
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, file: str, *names: str, days: float = 60) -> tuple[Path, Path]:
        """`file.pem` and `file.key` for these names; files that are there are replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        certificate = self._sign(name, key.public_key(), days, [alternatives])
        cert_file, key_file = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        replace(cert_file, _pem(certificate))
        replace(key_file, _private(key))
        return cert_file, key_file

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))


def replace(path: Path, data: bytes) -> None:
    """Readable by its owner alone."""
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    part.replace(path)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
