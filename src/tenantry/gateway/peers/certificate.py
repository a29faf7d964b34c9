"""The certificate that a gateway shows to the others: of its own, as long as the process lives, known by its hash.

No authority is asked: whoever reads the store knows which certificate is whose, and gateways show nothing else there.
"""

from __future__ import annotations

import hashlib
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

# Nobody looks at it: the hash is what counts. Longer than any process runs.
_VALID: Final = timedelta(days=3650)
_EARLIER: Final = timedelta(days=1)


def serving_context() -> tuple[ssl.SSLContext, str]:
    """What a gateway is called with over TLS, and the SHA-256 of the certificate that it shows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tenantry gateway")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + _VALID)
        .sign(key, SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The library reads files alone; this one is its owner's, and is gone when it has been read.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peer.pem"
        file.touch(mode=0o600)
        file.write_bytes(
            certificate.public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        context.load_cert_chain(file)
    return context, hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
