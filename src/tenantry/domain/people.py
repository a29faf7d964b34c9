"""People who sign in to the control room, as the store tells of them, and for how long what they hold works."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta
from typing import Final

from tenantry.domain.roles import Principal, Role
from tenantry.domain.values import value

# NIST SP 800-63B 2.2.3 and OWASP ASVS 5.0 7.3: both an idle end and an end for good.
IDLE_HOURS: Final = 8
SESSION_DAYS: Final = 7
# How long what is dangerous is believed to come from who signed in (as GitHub's "sudo mode", which has hours).
PROOF_MINUTES: Final = 15
# Between the password and the code.
SECOND_MINUTES: Final = 5
# A first owner is at the machine; somebody who is invited reads a mail.
FIRST_LINK_HOURS: Final = 1
LINK_HOURS: Final = 72
# NIST SP 800-63B 3.1.1.2 asks for 15 where it is the only factor and 8 beside another.
PASSWORD_CHARS_MIN: Final = 12
PASSWORD_CHARS_MAX: Final = 256
# What is refused though it is long enough: one character or a few, again and again.
_DIFFERENT_CHARS_MIN: Final = 5
_REPEATED_CHARS_MAX: Final = 8
EMAIL_CHARS_MAX: Final = 254  # RFC 5321 4.5.3.1.3, without its brackets

# The column holds 64. A name is typed into a form and into commands; an e-mail address may be one.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}", re.ASCII)
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


class BadPassword(ValueError):
    """The password cannot be taken; the message says why."""


@value
class Person:
    """Somebody who signs in. `tenants`: slugs that this one is confined to; None: all of the site."""

    person_id: str
    name: str
    email: str | None
    role: Role
    tenants: frozenset[str] | None
    has_password: bool
    has_second_factor: bool
    has_oidc: bool
    disabled_at: datetime | None
    created_at: datetime
    signed_in_at: datetime | None

    @property
    def status(self) -> str:
        """`active`, `disabled`, or `invited`: has chosen no password and not come through a provider yet."""
        if self.disabled_at is not None:
            return "disabled"
        return "active" if self.has_password or self.has_oidc else "invited"

    @property
    def principal(self) -> Principal:
        return Principal(self.name, f"web:{self.name}", self.role, self.tenants)


@value
class Session:
    """A browser that somebody is signed in with. `proved_at`: when it last was shown that it is this person."""

    session_id: str
    person: Person
    way: str
    created_at: datetime
    proved_at: datetime
    seen_at: datetime
    address: str
    agent: str

    def is_recent(self, now: datetime) -> bool:
        """Whether what is dangerous may be done without the password again."""
        return now - self.proved_at < timedelta(minutes=PROOF_MINUTES)


def read_name(text: str) -> str:
    """A name as it is kept. Raises: ValueError, with what it has to be."""
    name = unicodedata.normalize("NFKC", text).strip().lower()
    if not _NAME.fullmatch(name):
        raise ValueError("a name has a-z, 0-9 and . _ @ + - , begins with a letter or number, and has 64 at most")
    return name


def read_email(text: str) -> str | None:
    """An address as it is kept; None where none is given. Raises: ValueError."""
    address = unicodedata.normalize("NFKC", text).strip().lower()
    if not address:
        return None
    if not _EMAIL.fullmatch(address) or len(address) > EMAIL_CHARS_MAX or not address.isprintable():
        raise ValueError(f"{text.strip()!r} is not an e-mail address")
    return address


def same_password(text: str) -> str:
    """A password as every keyboard types it: two spellings of one letter are one (NIST SP 800-63B 3.1.1.2)."""
    return unicodedata.normalize("NFKC", text)


def check_password(text: str, name: str, common: frozenset[str]) -> str:
    """A new password as it is kept. `common`: those that guessers try first, in small letters. Raises: BadPassword."""
    if len(text) > PASSWORD_CHARS_MAX:
        raise BadPassword(f"a password has {PASSWORD_CHARS_MAX} characters at most")
    password = same_password(text)
    if len(password) < PASSWORD_CHARS_MIN:
        raise BadPassword(f"a password has {PASSWORD_CHARS_MIN} characters at least; a few words make a good one")
    if len(password) > PASSWORD_CHARS_MAX:
        raise BadPassword(f"a password has {PASSWORD_CHARS_MAX} characters at most")
    small = password.lower()
    if name and small in (name, name + name, name[::-1]):
        raise BadPassword("the password must not be your name")
    if small in common or len(set(small)) < _DIFFERENT_CHARS_MIN or _is_repeated(small):
        raise BadPassword("this password is one of those that guessers try first; choose another")
    return password


def _is_repeated(password: str) -> bool:
    """Whether it is a short one, twice or more."""
    return 0 < (password + password).find(password, 1) <= _REPEATED_CHARS_MAX
