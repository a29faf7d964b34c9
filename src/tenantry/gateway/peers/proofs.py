"""How two gateways of a site prove to each other what they are, once for each connection between them.

The one that is called draws a nonce; the caller answers with another one, and an HMAC over both and over whom it calls
where; the called one answers with its own. Nothing that was heard on one connection is of use on another one, at
another gateway or at another site: the nonces are fresh, the name is in the proof, and the key is derived from the
site's secrets. The place is in it too, as the store tells it, with the certificate that is shown there: whoever has the
store say that a gateway is at his own place can pass no proofs on to it. Only behind both proofs does a request come,
and no client's connection ever gives any.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# RFC 2104 3: not shorter than the hash is.
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
# What a called gateway says first: which protocol this is, then its nonce.
MAGIC: Final = b"TENANTRY-PEER-1\n"
GREETING_BYTES: Final = len(MAGIC) + NONCE_BYTES
CALL_BYTES: Final = NONCE_BYTES + PROOF_BYTES
# What a connection is for, which is in the caller's proof: requests of clients, or what is said of cells that move.
REQUESTS: Final = b"calling"
MOVES: Final = b"calling for moves"
_CALLED: Final = b"called"


def derive_peer_key(pepper: bytes) -> bytes:
    """The key of a site's gateways, from a secret that all of them have and that never leaves them."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"tenantry between gateways v1").derive(pepper)


def new_nonce() -> bytes:
    return os.urandom(NONCE_BYTES)


def whom(gateway_id: str, address: str) -> str:
    """The gateway that is called, and where: each side by what it knows itself."""
    return f"{gateway_id}@{address}"


def proof_of_caller(key: bytes, called: str, its_nonce: bytes, own_nonce: bytes, purpose: bytes = REQUESTS) -> bytes:
    return _prove(key, purpose, called, its_nonce + own_nonce)


def proof_of_called(key: bytes, called: str, own_nonce: bytes, its_nonce: bytes) -> bytes:
    return _prove(key, _CALLED, called, own_nonce + its_nonce)


def is_proof(given: bytes, expected: bytes) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(given, expected)


def _prove(key: bytes, role: bytes, called: str, nonces: bytes) -> bytes:
    """Nonces are of a fixed length and stand last, so no two different meanings have the same text."""
    return hmac.digest(key, role + b"\0" + called.encode() + b"\0" + nonces, hashlib.sha256)
