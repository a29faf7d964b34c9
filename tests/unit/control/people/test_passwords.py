"""What is stored of a password, and how much guessing may cost."""

from __future__ import annotations

import threading

from tenantry.control.people import passwords as module
from tenantry.control.people.passwords import HASHES_AT_ONCE, MEMORY_KIB, PASSES, Passwords, common_passwords


def test_a_password_is_kept_as_argon2id_with_the_stated_parameters() -> None:
    hashed = Passwords().hash("correct horse battery")
    assert hashed.startswith(f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=4$")
    assert (MEMORY_KIB, PASSES) == (65536, 3), "RFC 9106, section 4"
    assert not Passwords().is_outdated(hashed)
    assert Passwords(memory_kib=64, passes=1).is_outdated(hashed)


def test_a_password_is_compared_and_nobodys_is_compared_too() -> None:
    cheap = Passwords(memory_kib=64, passes=1)
    hashed = cheap.hash("correct horse battery")
    assert cheap.is_of(hashed, "correct horse battery")
    assert not cheap.is_of(hashed, "correct horse batterY")
    assert not cheap.is_of(None, "correct horse battery")
    assert not cheap.is_of(None, "of nobody at all"), "what is compared with is nobody's password"
    assert not cheap.is_of("no hash", "x")
    assert not cheap.is_of(hashed, "x" * 100_000)


def test_the_work_for_nobody_is_that_for_somebody() -> None:
    counted: list[str] = []

    class Counting(module.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            counted.append(str(hash).split("$")[3])
            return super().verify(hash, password)  # type: ignore[arg-type]

    cheap = Passwords(memory_kib=64, passes=1)
    cheap._hasher = Counting(1, 64, 4)
    hashed = cheap.hash("correct horse battery")
    for stored in (hashed, None):
        cheap.is_of(stored, "a guess")
    assert len(counted) == 2
    assert counted[0] == counted[1], "the same parameters"


def test_only_a_few_hashes_are_made_at_once() -> None:
    running, most, lock = 0, 0, threading.Lock()

    class Slow(module.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            try:
                return super().verify(hash, password)  # type: ignore[arg-type]
            finally:
                with lock:
                    running -= 1

    cheap = Passwords(memory_kib=64, passes=1)
    hashed = cheap.hash("correct horse battery")
    cheap._hasher = Slow(1, 1024, 4)
    threads = [threading.Thread(target=cheap.is_of, args=(hashed, "a guess")) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= HASHES_AT_ONCE


def test_the_common_ones_are_as_long_as_a_password_has_to_be() -> None:
    found = common_passwords()
    assert len(found) > 300
    assert all(len(one) >= 12 and one == one.lower() for one in found)
    assert "1qaz2wsx3edc" in found
