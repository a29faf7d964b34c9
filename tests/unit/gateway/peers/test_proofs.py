"""Proofs between gateways: good for one site, one gateway and one connection."""

from tenantry.gateway.peers.proofs import (
    MOVES,
    derive_peer_key,
    is_proof,
    new_nonce,
    proof_of_called,
    proof_of_caller,
    whom,
)

KEY = derive_peer_key(b"p" * 32)
ITS, OWN = b"i" * 32, b"o" * 32
ONE = whom("gateway-1", "10.0.0.5:3100#tls-" + "ab" * 32)


def test_sites_have_keys_of_their_own_and_none_is_the_secret_that_it_comes_from() -> None:
    assert len({KEY, derive_peer_key(b"q" * 32), b"p" * 32}) == 3
    assert derive_peer_key(b"p" * 32) == KEY


def test_a_proof_holds_for_one_gateway_at_its_place_one_connection_and_one_side() -> None:
    proof = proof_of_caller(KEY, ONE, ITS, OWN)
    others = [
        proof_of_caller(derive_peer_key(b"q" * 32), ONE, ITS, OWN),
        proof_of_caller(KEY, whom("gateway-2", "10.0.0.5:3100#tls-" + "ab" * 32), ITS, OWN),
        proof_of_caller(KEY, whom("gateway-1", "10.0.0.6:3100#tls-" + "ab" * 32), ITS, OWN),
        proof_of_caller(KEY, whom("gateway-1", "10.0.0.5:3100#tls-" + "cd" * 32), ITS, OWN),
        proof_of_caller(KEY, ONE, ITS, OWN, MOVES),
        proof_of_caller(KEY, ONE, b"n" * 32, OWN),
        proof_of_caller(KEY, ONE, ITS, b"n" * 32),
        proof_of_called(KEY, ONE, ITS, OWN),
    ]
    assert is_proof(proof, proof_of_caller(KEY, ONE, ITS, OWN))
    assert not any(is_proof(proof, other) for other in others)


def test_no_nonce_comes_twice() -> None:
    assert len({new_nonce() for _ in range(1000)}) == 1000
