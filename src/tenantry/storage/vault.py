"""Secrets at rest: what is sealed, and what is kept only as a keyed hash.

A secret is sealed with AES-256-GCM under a data key of its own, which is itself sealed under a key derived from the
master key (envelope encryption): another master key, or another place, wraps the data key anew and leaves the secret
as it stands. The row's id is bound in as associated data, so that a ciphertext cannot be moved to another row; where a
secret is only ever to go to one place, such as an upstream's address, the data key is bound to that place too.

Gateway keys and admin tokens are stored only as HMACs under the site's pepper, which is a sealed secret like others.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HASHING_KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D 5.2.1.1
# What is concealed is filled up to a multiple of these, so that its length does not tell how large a number in it is:
# two of the largest that a database takes have 42.
_CONCEALED_STEP_BYTES = 64


class MasterKeyUnusable(Exception):
    """The master key file cannot be used; the message says why and how to mend it."""


class SecretUnreadable(Exception):
    """A sealed secret does not open: it was sealed under another master key or for another place, or was changed."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """`wrapped_key` and `ciphertext` each begin with their nonce."""

    master_key_id: str
    wrapped_key: bytes
    ciphertext: bytes


class MasterKey:
    """A master key of 32 bytes: wraps data keys, and seals what everybody may read and nobody else may write."""

    def __init__(self, key: bytes) -> None:
        self.key_id = hashlib.sha256(b"tenantry master key id" + key).hexdigest()[:16]
        self._wrapping = AESGCM(_derive(key, b"tenantry wrap v1"))
        self._audit_key = _derive(key, b"tenantry audit v1")
        self._address_key = _derive(key, b"tenantry address v1")
        self._derived = HashingKeys(_derive(key, b"tenantry pepper v1"), _derive(key, b"tenantry fingerprint v1"))

    def __repr__(self) -> str:
        return f"<MasterKey {self.key_id}>"

    def wrap(self, data_key: bytes, context: str) -> bytes:
        return _encrypt(self._wrapping, data_key, context)

    def unwrap(self, wrapped_key: bytes, context: str) -> bytes:
        """Raises: InvalidTag."""
        return _decrypt(self._wrapping, wrapped_key, context)

    def seal_of(self, row_hash: str) -> str:
        """What only the holder of the master key can say about the newest row of the audit log."""
        return hmac.digest(self._audit_key, row_hash.encode(), "sha256").hex()

    def is_seal_of(self, row_hash: str, seal: str) -> bool:
        return hmac.compare_digest(self.seal_of(row_hash).encode(), seal.encode())

    def address_seal_of(self, upstream_id: str, address: str) -> str:
        """The same about the address of an upstream."""
        return hmac.digest(self._address_key, f"{upstream_id} {address}".encode(), "sha256").hex()

    def is_address_seal_of(self, upstream_id: str, address: str, seal: str) -> bool:
        return hmac.compare_digest(self.address_seal_of(upstream_id, address).encode(), seal.encode())

    def derived_hashing(self) -> HashingKeys:
        """Those of a site of an earlier version, which kept none: its keys stay known under them."""
        return self._derived


@dataclass(frozen=True, slots=True)
class HashingKeys:
    """What gateway keys and admin tokens are hashed with, and what tells whether two secrets are the same."""

    pepper: bytes = field(repr=False)
    fingerprint: bytes = field(repr=False)

    @classmethod
    def new(cls) -> HashingKeys:
        return cls(secrets.token_bytes(HASHING_KEY_BYTES), secrets.token_bytes(HASHING_KEY_BYTES))


class Vault:
    """Seals, opens and fingerprints secrets.

    `master` is the master key at hand. What is sealed under another is looked for by `find`: the key was rotated while
    this process ran. `hashing` are the site's; without, those that earlier versions derived.
    """

    def __init__(
        self,
        master: MasterKey | bytes,
        hashing: HashingKeys | None = None,
        find: Callable[[str], MasterKey | None] | None = None,
    ) -> None:
        self.master = master if isinstance(master, MasterKey) else MasterKey(master)
        self._hashing = hashing or self.master.derived_hashing()
        self._find = find

    def __repr__(self) -> str:
        return f"<Vault {self.key_id}>"

    @property
    def key_id(self) -> str:
        return self.master.key_id

    @property
    def pepper(self) -> bytes:
        return self._hashing.pepper

    def key(self, key_id: str) -> MasterKey:
        """A master key by its fingerprint, which is the one at hand from then on: the one before is forgotten.

        Raises:
            SecretUnreadable: it is nowhere to be found.
        """
        if key_id != self.master.key_id:
            found = self._find(key_id) if self._find is not None else None
            if found is None:
                raise SecretUnreadable(f"the master key {key_id} is not at hand, only {self.key_id}")
            self.master = found
        return self.master

    def seal(self, plaintext: str, context: str, place: str = "", key: MasterKey | None = None) -> Sealed:
        """Encrypt for the row named `context`, to be opened for `place` alone; under the master key at hand."""
        key = key or self.master
        data_key = AESGCM.generate_key(256)
        return Sealed(
            key.key_id,
            key.wrap(data_key, _bound(context, place)),
            _encrypt(AESGCM(data_key), plaintext.encode(), context),
        )

    def open(self, sealed: Sealed, context: str, place: str = "") -> str:
        """Decrypt what was sealed for `context` and `place`.

        Raises:
            SecretUnreadable: another master key, another row, another place, or changed bytes.
        """
        data_key = self._data_key(sealed, context, place)
        try:
            return _decrypt(AESGCM(data_key), sealed.ciphertext, context).decode()
        except InvalidTag:
            raise SecretUnreadable(_changed(context, "")) from None

    def rewrap(self, sealed: Sealed, context: str, place: str, new: MasterKey, new_place: str) -> Sealed:
        """The same secret under the master key `new`, for `new_place`; the secret itself is not looked at.

        Raises:
            SecretUnreadable: as `open`.
        """
        data_key = self._data_key(sealed, context, place)
        return Sealed(new.key_id, new.wrap(data_key, _bound(context, new_place)), sealed.ciphertext)

    def is_for(self, sealed: Sealed, context: str, place: str) -> bool:
        """Whether it would open there."""
        try:
            self._data_key(sealed, context, place)
        except SecretUnreadable:
            return False
        return True

    def _data_key(self, sealed: Sealed, context: str, place: str) -> bytes:
        try:
            key = self.key(sealed.master_key_id)
        except SecretUnreadable as error:
            raise SecretUnreadable(f"{context} does not open: {error}") from None
        try:
            return key.unwrap(sealed.wrapped_key, _bound(context, place))
        except InvalidTag:
            raise SecretUnreadable(_changed(context, place)) from None

    def fingerprint(self, secret: str) -> bytes:
        """A keyed hash that tells whether two secrets are the same, and nothing else."""
        return hmac.digest(self._hashing.fingerprint, secret.encode(), "sha256")

    def conceal(self, text: str, context: str) -> str:
        """What others keep for us and cannot read: always the same for the same text, so that an ETag holds.

        AES-SIV (RFC 5297), which needs no nonce. It is read again under every master key: the site's own keys stay.
        """
        data = text.encode()
        data += bytes(-len(data) % _CONCEALED_STEP_BYTES)
        return base64.urlsafe_b64encode(self._concealing().encrypt(data, [context.encode()])).decode().rstrip("=")

    def reveal(self, concealed: str, context: str) -> str:
        """Raises: SecretUnreadable: it was made up, or for something else."""
        try:
            data = base64.urlsafe_b64decode(concealed.encode("ascii") + b"==")
            return self._concealing().decrypt(data, [context.encode()]).rstrip(b"\0").decode()
        except (ValueError, binascii.Error, InvalidTag):
            raise SecretUnreadable("this was not made here, or for something else") from None

    def _concealing(self) -> AESSIV:
        return AESSIV(hmac.digest(self._hashing.fingerprint, b"tenantry conceal v1", "sha512"))


def _bound(context: str, place: str) -> str:
    return f"{context} {place}" if place else context  # no id has a blank in it


def _changed(context: str, place: str) -> str:
    if not place:
        return f"{context} does not open: its bytes were changed or moved"
    return (
        f"{context} does not open for {place}: it was sealed for another address, or its bytes were changed or moved. "
        "`tenantry init` puts the address of tenantry.toml back"
    )


def _derive(master_key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=HASHING_KEY_BYTES, salt=None, info=purpose).derive(master_key)


def _encrypt(cipher: AESGCM, plaintext: bytes, context: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plaintext, context.encode())


def _decrypt(cipher: AESGCM, sealed: bytes, context: str) -> bytes:
    return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
