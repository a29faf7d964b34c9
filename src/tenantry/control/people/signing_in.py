"""Whether somebody is who they say: by password, code, one-time link."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tenantry.control.people.passwords import Passwords, common_passwords
from tenantry.control.people.totp import step_of
from tenantry.domain.people import BadPassword, Person, check_password, same_password
from tenantry.storage.directory import Directory


@dataclass(frozen=True, slots=True)
class SigningIn:
    """Decides with the store and the hashes; what comes of it is the caller's."""

    directory: Directory
    passwords: Passwords

    def by_password(self, name: str, password: str) -> Person | None:
        """Who it is; None for an unknown name, a wrong password and somebody disabled, after the same work."""
        person = self.directory.find_person(name)
        stored = self.directory.password_hash_of(person.person_id) if person is not None else None
        is_right = self.passwords.is_of(stored, password)
        if not is_right or person is None or stored is None or person.disabled_at is not None:
            return None
        if self.passwords.is_outdated(stored):
            self.directory.rehash_password(person.person_id, stored, self.passwords.hash(same_password(password)))
        return person

    def is_password_of(self, person: Person, password: str) -> bool:
        return self.passwords.is_of(self.directory.password_hash_of(person.person_id), password)

    def by_code(self, person: Person, code: str, *, is_confirmed: bool = True) -> bool:
        """Whether `code` is one of the app's, not used before; or a recovery code, which is used up."""
        secret = self.directory.second_factor_of(person.person_id, is_confirmed=is_confirmed)
        if secret is None:
            return False
        step = step_of(secret, code, time.time())
        if step is not None:
            return self.directory.use_step(person.person_id, step)
        return is_confirmed and self.directory.use_recovery_code(person, code)

    def new_hash(self, password: str, again: str, name: str) -> str:
        """Of a password that somebody chose. Raises: BadPassword."""
        checked = check_password(password, name, common_passwords())
        if password != again:
            raise BadPassword("the two passwords are not the same")
        return self.passwords.hash(checked)
