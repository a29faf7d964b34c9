"""Secrets at rest: one master key file, and everything derived from or wrapped by it.

Credentials are sealed with AES-256-GCM under a data key of their own, which is itself sealed under a key derived from
the master key (envelope encryption). The credential's id is bound in as associated data, so that a ciphertext cannot be
moved to another row. Gateway keys and admin tokens are stored only as HMACs under a derived pepper.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tenantry.regular_files import read_regular

MASTER_KEY_BYTES = 32
# Twice the digits of a key, with room for blanks.
_FILE_BYTES_MAX = 256
_NONCE_BYTES = 12  # NIST SP 800-38D 5.2.1.1


class MasterKeyUnusable(Exception):
    """The master key file cannot be used; the message says why and how to mend it."""


class SecretUnreadable(Exception):
    """A sealed secret does not open: it was sealed under another master key, or was changed."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """`wrapped_key` and `ciphertext` each begin with their nonce."""

    master_key_id: str
    wrapped_key: bytes
    ciphertext: bytes


class Vault:
    """Seals, opens and fingerprints secrets under one master key of 32 bytes."""

    def __init__(self, master_key: bytes) -> None:
        self.key_id = hashlib.sha256(b"tenantry master key id" + master_key).hexdigest()[:16]
        self._wrapping = AESGCM(_derive(master_key, b"tenantry wrap v1"))
        self._fingerprint_key = _derive(master_key, b"tenantry fingerprint v1")
        self.pepper = _derive(master_key, b"tenantry pepper v1")
        self._audit_key = _derive(master_key, b"tenantry audit v1")

    def __repr__(self) -> str:
        return f"<Vault {self.key_id}>"

    def seal(self, plaintext: str, context: str) -> Sealed:
        """Encrypt for the row named `context`."""
        data_key = AESGCM.generate_key(256)
        return Sealed(
            self.key_id,
            _encrypt(self._wrapping, data_key, context),
            _encrypt(AESGCM(data_key), plaintext.encode(), context),
        )

    def open(self, sealed: Sealed, context: str) -> str:
        """Decrypt what was sealed for `context`.

        Raises:
            SecretUnreadable: another master key, another row, or changed bytes.
        """
        if sealed.master_key_id != self.key_id:
            raise SecretUnreadable(f"{context} was sealed under master key {sealed.master_key_id}, not {self.key_id}")
        try:
            data_key = _decrypt(self._wrapping, sealed.wrapped_key, context)
            return _decrypt(AESGCM(data_key), sealed.ciphertext, context).decode()
        except InvalidTag:
            raise SecretUnreadable(f"{context} does not open: its bytes were changed or moved") from None

    def fingerprint(self, secret: str) -> bytes:
        """A keyed hash that tells whether two secrets are the same, and nothing else."""
        return hmac.digest(self._fingerprint_key, secret.encode(), "sha256")

    def seal_of(self, row_hash: str) -> str:
        """What only the holder of the master key can say about the newest row of the audit log."""
        return hmac.digest(self._audit_key, row_hash.encode(), "sha256").hex()

    def is_seal_of(self, row_hash: str, seal: str) -> bool:
        return hmac.compare_digest(self.seal_of(row_hash).encode(), seal.encode())


def _derive(master_key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(master_key)


def _encrypt(cipher: AESGCM, plaintext: bytes, context: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plaintext, context.encode())


def _decrypt(cipher: AESGCM, sealed: bytes, context: str) -> bytes:
    return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())


def create_master_key_file(path: Path) -> None:
    """Make a new master key, readable by its owner only, on the disk before this returns.

    Raises:
        FileExistsError: there is one; it is never overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_hex(MASTER_KEY_BYTES).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_master_key(path: Path) -> bytes:
    """Read the master key.

    Raises:
        MasterKeyUnusable: missing, readable by others, or not a key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = read_regular(path, _FILE_BYTES_MAX).decode("ascii").strip()
    except FileNotFoundError:
        raise MasterKeyUnusable(
            f"there is no master key at {path}: put it back; `tenantry init` makes one for a new site"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise MasterKeyUnusable(f"the master key at {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise MasterKeyUnusable(f"the master key at {path} is open to others (mode {mode:04o}): chmod 600 {path}")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise MasterKeyUnusable(f"{path} does not hold a master key of {MASTER_KEY_BYTES} bytes: restore it")
    return key
