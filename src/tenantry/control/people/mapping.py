"""Who of ours somebody is whom an OpenID provider knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from tenantry.control.people.provider import Told
from tenantry.domain.people import Person
from tenantry.domain.roles import Role
from tenantry.sign_in_settings import RoleClaim
from tenantry.storage.directory import Directory, DirectoryError

# Where a name is looked for, for somebody whom a claim gives a role.
_NAMES = ("email", "preferred_username", "sub")


class NotInvited(Exception):
    """The provider knows you, and nobody here has invited you: ask an owner for an invitation with your address."""


def person_of(directory: Directory, told: Told, roles: Sequence[RoleClaim]) -> Person:
    """By what the provider has called them since they came first; by a verified address that was invited; or, where
    the settings say so, by a claim that gives them a role.

    Raises: NotInvited.
    """
    person = directory.find_person_by_subject(told.subject)
    if person is None and told.email is not None:
        person = _invited(directory, told.subject, told.email)
    if person is None:
        person = _by_claim(directory, told, roles)
    if person is None or person.disabled_at is not None:
        raise NotInvited((NotInvited.__doc__ or "").strip())
    return person


def _invited(directory: Directory, subject: str, email: str) -> Person | None:
    """Who was invited by this address, and is whom the provider calls `subject` from now on."""
    person = directory.find_person_by_email(email)
    if person is None or person.disabled_at is not None or not directory.bind_subject(person.person_id, subject):
        return None
    return person


def _by_claim(directory: Directory, told: Told, roles: Sequence[RoleClaim]) -> Person | None:
    role = next((one.role for one in roles if _has(told.claims, one)), None)
    name = next((str(told.claims[one]) for one in _NAMES if told.claims.get(one)), None)
    if role is None or name is None:
        return None
    try:
        return directory.add_from_provider(name, Role(role), told.email, told.subject)
    except DirectoryError as error:  # the name is somebody else's, or cannot be one
        raise NotInvited(f"the provider gives you a role here, and you cannot be added: {error}") from None


def _has(claims: Mapping[str, Any], wanted: RoleClaim) -> bool:
    found = claims.get(wanted.claim)
    return wanted.value in (cast("list[object]", found) if isinstance(found, list) else [found])
