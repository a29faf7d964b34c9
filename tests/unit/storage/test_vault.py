"""Secrets at rest: they open where they were sealed, and nowhere else."""

from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.storage.key_files import create_master_key_file, load_master_key
from tenantry.storage.vault import MasterKeyUnusable, Sealed, SecretUnreadable, Vault

VAULT = Vault(bytes(32))
SEALED = VAULT.seal("a secret", "crd_1")


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_secret_opens_again_and_never_looks_the_same() -> None:
    assert VAULT.open(SEALED, "crd_1") == "a secret"
    assert VAULT.seal("a secret", "crd_1") != SEALED
    assert b"a secret" not in SEALED.ciphertext


@pytest.mark.parametrize(
    ("sealed", "context"),
    [
        (SEALED, "crd_2"),
        (replace(SEALED, ciphertext=flipped(SEALED.ciphertext, 20)), "crd_1"),
        (replace(SEALED, ciphertext=flipped(SEALED.ciphertext, 0)), "crd_1"),
        (replace(SEALED, wrapped_key=flipped(SEALED.wrapped_key, 20)), "crd_1"),
        (replace(SEALED, wrapped_key=VAULT.seal("other", "crd_1").wrapped_key), "crd_1"),
        (Vault(b"1" * 32).seal("a secret", "crd_1"), "crd_1"),
        (replace(Vault(b"1" * 32).seal("a secret", "crd_1"), master_key_id=VAULT.key_id), "crd_1"),
    ],
    ids=["moved", "changed", "nonce", "key", "other key", "other master", "other master, id forged"],
)
def test_what_was_changed_or_moved_does_not_open(sealed: Sealed, context: str) -> None:
    with pytest.raises(SecretUnreadable) as caught:
        VAULT.open(sealed, context)
    assert "secret" not in str(caught.value)


def test_a_fingerprint_tells_equality_under_one_master_key_only() -> None:
    assert VAULT.fingerprint("x") == VAULT.fingerprint("x") != VAULT.fingerprint("y")
    assert VAULT.fingerprint("x") != Vault(b"1" * 32).fingerprint("x")


def test_the_master_key_file_is_for_its_owner_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "new" / "master.key"
    create_master_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(load_master_key(path)) == 32
    with pytest.raises(FileExistsError):
        create_master_key_file(path)


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (None, 0, "init"),
        ("", 0o600, "master key"),
        ("zz", 0o600, "master key"),
        ("00" * 31, 0o600, "master key"),
        ("00" * 32, 0o640, "chmod 600"),
    ],
)
def test_a_master_key_that_is_missing_malformed_or_open_is_refused(
    tmp_path: Path, text: str | None, mode: int, says: str
) -> None:
    path = tmp_path / "master.key"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(MasterKeyUnusable, match=says):
        load_master_key(path)


def test_where_no_site_is_the_folder_is_told_rather_than_a_lost_key(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyUnusable, match=rf"no site in {tmp_path}/elsewhere: .*TENANTRY_CONFIG"):
        load_master_key(tmp_path / "elsewhere" / "master.key")


def test_what_is_concealed_is_read_here_alone_and_tells_neither_number_nor_length() -> None:
    small, large = (VAULT.conceal(str([10**15, number]), "cursor") for number in (7, 10**12))
    assert small == VAULT.conceal(str([10**15, 7]), "cursor")
    assert (small != large, len(small) == len(large)) == (True, True)
    assert VAULT.reveal(large, "cursor") == str([10**15, 10**12])
    for made_up, context in (
        (large, "other"),
        (large[:-2], "cursor"),
        ("", "cursor"),
        ("é", "cursor"),
        ("x", "cursor"),
    ):
        with pytest.raises(SecretUnreadable):
            VAULT.reveal(made_up, context)
    with pytest.raises(SecretUnreadable):
        Vault(b"1" * 32).reveal(large, "cursor")
