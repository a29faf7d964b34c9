"""People who sign in: who there is, what they may do, and the one-time links by which they choose a password."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, func, insert, select, update

from tenantry.domain.near import did_you_mean
from tenantry.domain.people import FIRST_LINK_HOURS, LINK_HOURS, Person, read_email, read_name
from tenantry.domain.roles import Role
from tenantry.domain.values import value
from tenantry.storage.columns import aware, new_id, now_utc, utc
from tenantry.storage.directory.changes import AlreadyThere, Changes, DirectoryError, NotInDirectory
from tenantry.storage.people_tables import (
    people,
    people_links,
    people_recovery,
    people_sessions,
    people_tenants,
    people_totp,
)
from tenantry.storage.tables import tenants
from tenantry.storage.versions import NOTHING

# All of them are on one page.
PEOPLE_MAX: Final = 500
FIRST, INVITE, RESET = "first", "invite", "reset"


@value
class Link:
    """A one-time link that works still. `person` None: of the first owner."""

    purpose: str
    person: Person | None
    expires_at: datetime


class LinkUsed(DirectoryError):
    """This link does not work any more: it was used, has ended, or another has taken its place. Ask for a new one."""

    def __init__(self) -> None:
        super().__init__(self.__doc__ or "")


class PeopleChanges(Changes):
    """Changes to people, each in the audit log; whatever makes somebody less trusted ends their sessions."""

    def list_people(self) -> list[Person]:
        with self._engine.connect() as connection:
            rows = connection.execute(_query().order_by(people.c.name)).all()
            scopes = _scopes(connection)
            return [read_person(row, scopes.get(row.person_id, frozenset())) for row in rows]

    def find_person(self, name: str) -> Person | None:
        """By the name that they sign in with."""
        return self._find(people.c.name == name.strip().lower())

    def get_person(self, name: str) -> Person:
        """The same. Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            row = self._person(connection, name)
            return read_person(row, slugs_of(connection, row.person_id))

    def find_person_by_email(self, email: str) -> Person | None:
        return self._find(people.c.email == email.strip().lower())

    def find_person_by_subject(self, subject: str) -> Person | None:
        """By issuer and `sub` of an OIDC provider."""
        return self._find(people.c.oidc_subject == subject)

    def has_owner(self) -> bool:
        """Whether somebody can sign in and do everything."""
        with self._engine.connect() as connection:
            return _has_owner(connection)

    def issue_first_link(self) -> str | None:
        """The token of a link to become the first owner, in place of an earlier one; None where there is an owner."""
        token = _new_token()
        with self._engine.begin() as connection:
            self._sealing_key(connection)  # one after the other
            if _has_owner(connection):
                return None
            connection.execute(delete(people_links).where(people_links.c.purpose == FIRST))
            self._add_link(connection, token, FIRST, None, FIRST_LINK_HOURS)
            self._record(connection, "person.link", "*", {"purpose": FIRST}, NOTHING)
        return token

    def invite_person(
        self, name: str, role: Role, email: str | None = None, slugs: Collection[str] | None = None
    ) -> str:
        """Add somebody; returns the token of the link by which they choose a password.

        Raises:
            AlreadyThere: somebody has the name, or the address.
            DirectoryError: a name, an address or a role for some tenants that cannot be; too many people.
            NotInDirectory: no such tenant.
        """
        token = _new_token()
        with self._engine.begin() as connection:
            person_id = self._add_person(connection, name, role, email, slugs)
            self._add_link(connection, token, INVITE, person_id, LINK_HOURS)
        return token

    def issue_reset_link(self, name: str) -> str:
        """The token of a link by which somebody chooses a new password; what they have works until then.

        Raises: NotInDirectory; DirectoryError: disabled.
        """
        token = _new_token()
        with self._engine.begin() as connection:
            row = self._person(connection, name)
            if row.disabled_at is not None:
                raise DirectoryError(f"{row.name} is disabled; enable first")
            purpose = INVITE if row.password_hash is None else RESET
            connection.execute(delete(people_links).where(people_links.c.person_id == row.person_id))
            self._add_link(connection, token, purpose, row.person_id, LINK_HOURS)
            self._record(connection, "person.link", row.name, {"purpose": purpose}, NOTHING)
        return token

    def find_link(self, token: str) -> Link | None:
        """What a link is for; None where it does not work (any more)."""
        with self._engine.connect() as connection:
            row = connection.execute(select(people_links).where(self._is_link(token))).first()
            if row is None:
                return None
            person = None if row.person_id is None else _read_one(connection, people.c.person_id == row.person_id)
            if person is not None and person.disabled_at is not None:
                return None
            return Link(row.purpose, person, aware(row.expires_at))

    def follow_link(self, token: str, password_hash: str, first_name: str = "") -> Person:
        """Set the password that a link is for, and use the link up. `first_name`: of the first owner.

        Raises:
            LinkUsed: somebody else was faster, or it has ended.
            AlreadyThere, DirectoryError: the first owner's name cannot be; the link works still.
        """
        with self._engine.begin() as connection:
            row = connection.execute(select(people_links).where(self._is_link(token))).first()
            if row is None or not connection.execute(delete(people_links).where(self._is_link(token))).rowcount:
                raise LinkUsed
            if row.purpose == FIRST:
                if _has_owner(connection):
                    raise LinkUsed
                person_id = self._add_person(connection, first_name, Role.OWNER, None, None, is_first=True)
            else:
                person_id = row.person_id
            person = _read_one(connection, people.c.person_id == person_id)
            if person is None or person.disabled_at is not None:
                raise LinkUsed
            self._set_password(connection, person, password_hash, "person.password", {"by": f"{row.purpose} link"})
            return person

    def change_password(self, name: str, password_hash: str) -> None:
        """A new password: every session ends. Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            person = read_person(self._person(connection, name), frozenset())
            self._set_password(connection, person, password_hash, "person.password", {"by": "themselves"})

    def rehash_password(self, person_id: str, old: str, new: str) -> None:
        """The same password under other parameters; nothing where it was changed meanwhile."""
        with self._engine.begin() as connection:
            here = (people.c.person_id == person_id) & (people.c.password_hash == old)
            connection.execute(update(people).where(here).values(password_hash=new))

    def password_hash_of(self, person_id: str) -> str | None:
        with self._engine.connect() as connection:
            return connection.execute(
                select(people.c.password_hash).where(people.c.person_id == person_id)
            ).scalar_one_or_none()

    def change_person(
        self, name: str, role: Role, slugs: Collection[str] | None = None, email: str | None = None
    ) -> None:
        """What somebody may do from now on, and for which tenants; sessions end where that is something else.

        `email` None: as it is; "": none.

        Raises:
            NotInDirectory: no such person or tenant.
            DirectoryError: a role that cannot be had for some tenants, or nobody would be owner any more.
        """
        with self._engine.begin() as connection:
            row = self._person(connection, name)
            before = _read_one(connection, people.c.person_id == row.person_id)
            if before is None:  # not possible within the transaction
                raise NotInDirectory(name)
            address = row.email if email is None else _email(email)
            if address is not None and address != row.email:
                _refuse_taken(connection, people.c.email == address, address)
            values: dict[str, Any] = {"role": role.value, "scope": "all" if slugs is None else "some", "email": address}
            if address != row.email:
                values["oidc_subject"] = None  # whoever has the new address is to come through it
            with self._keeping_an_owner(connection):
                connection.execute(update(people).where(people.c.person_id == row.person_id).values(values))
                self._confine(connection, row.person_id, role, slugs)
            after = _read_one(connection, people.c.person_id == row.person_id)
            if after is None or after == before:
                return
            if (after.role, after.tenants) != (before.role, before.tenants):
                _end_sessions(connection, people_sessions.c.person_id == row.person_id)
            detail = {"before": _told(before), "after": _told(after)}
            self._record(connection, "person.change", row.name, detail, NOTHING)

    def disable_person(self, name: str) -> None:
        """Nothing of theirs opens anything from now on. Raises: NotInDirectory; DirectoryError: the last owner."""
        with self._engine.begin() as connection:
            row = self._person(connection, name)
            if row.disabled_at is not None:
                return
            with self._keeping_an_owner(connection):
                here = people.c.person_id == row.person_id
                connection.execute(update(people).where(here).values(disabled_at=now_utc()))
            connection.execute(delete(people_links).where(people_links.c.person_id == row.person_id))
            _end_sessions(connection, people_sessions.c.person_id == row.person_id)
            self._tell_status(connection, row.name, "active", "disabled")

    def enable_person(self, name: str) -> None:
        """Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._person(connection, name)
            if row.disabled_at is not None:
                connection.execute(update(people).where(people.c.person_id == row.person_id).values(disabled_at=None))
                self._tell_status(connection, row.name, "disabled", "active")

    def delete_person(self, name: str) -> None:
        """Raises: NotInDirectory; DirectoryError: the last owner."""
        with self._engine.begin() as connection:
            row = self._person(connection, name)
            with self._keeping_an_owner(connection):
                for table in (people_links, people_sessions, people_recovery, people_totp, people_tenants, people):
                    connection.execute(delete(table).where(table.c.person_id == row.person_id))
            self._record(connection, "person.delete", row.name, {"before": {"role": row.role}, "after": None}, NOTHING)

    def bind_subject(self, person_id: str, subject: str) -> bool:
        """That an OIDC provider calls somebody `subject`, from their first sign-in through it on.

        False where it calls them otherwise already.
        """
        with self._engine.begin() as connection:
            here = (people.c.person_id == person_id) & people.c.oidc_subject.is_(None)
            if not connection.execute(update(people).where(here).values(oidc_subject=subject)).rowcount:
                return False
            name = connection.execute(select(people.c.name).where(people.c.person_id == person_id)).scalar_one()
            self._record(connection, "person.oidc", name, {"subject": subject}, NOTHING)
        return True

    def add_from_provider(self, name: str, role: Role, email: str | None, subject: str) -> Person:
        """Somebody whom a claim of the OIDC provider gives a role. Raises: as `invite_person`."""
        with self._engine.begin() as connection:
            person_id = self._add_person(connection, name, role, email, None, oidc_subject=subject)
            person = _read_one(connection, people.c.person_id == person_id)
            if person is None:  # not possible within the transaction
                raise NotInDirectory(name)
            return person

    def _add_person(
        self,
        connection: Connection,
        name: str,
        role: Role,
        email: str | None,
        slugs: Collection[str] | None,
        *,
        is_first: bool = False,
        oidc_subject: str | None = None,
    ) -> str:
        try:
            name = read_name(name)
        except ValueError as error:
            raise DirectoryError(str(error)) from None
        address, now = _email(email or ""), now_utc()
        _refuse_taken(connection, people.c.name == name, name)
        if address is not None:
            _refuse_taken(connection, people.c.email == address, address)
        if connection.execute(select(func.count()).select_from(people)).scalar_one() >= PEOPLE_MAX:
            raise DirectoryError(f"there are {PEOPLE_MAX} people; delete one who does not sign in any more")
        values: dict[str, Any] = {"person_id": new_id("prs"), "name": name, "email": address, "role": role.value}
        values |= {"scope": "all" if slugs is None else "some", "created_at": now, "oidc_subject": oidc_subject}
        connection.execute(insert(people).values(values))
        self._confine(connection, values["person_id"], role, slugs)
        after = {"role": role.value, "tenants": sorted(slugs) if slugs is not None else None, "email": address}
        self._record(
            connection, "person.first" if is_first else "person.add", name, {"before": None, "after": after}, NOTHING
        )
        return values["person_id"]

    def _confine(self, connection: Connection, person_id: str, role: Role, slugs: Collection[str] | None) -> None:
        connection.execute(delete(people_tenants).where(people_tenants.c.person_id == person_id))
        if slugs is None:
            return
        if role is Role.OWNER:
            raise DirectoryError("an owner is one for all tenants; choose another role for some of them")
        if not slugs:
            raise DirectoryError("name one tenant at least, or all")
        for slug in sorted(set(slugs)):
            tenant_id = self._tenant(connection, slug).tenant_id
            connection.execute(insert(people_tenants).values(person_id=person_id, tenant_id=tenant_id))

    def _add_link(self, connection: Connection, token: str, purpose: str, person_id: str | None, hours: int) -> None:
        now = now_utc()
        connection.execute(delete(people_links).where(people_links.c.expires_at <= now))
        values: dict[str, Any] = {"token_digest": self._token_digest(token), "purpose": purpose, "created_at": now}
        values |= {"person_id": person_id, "expires_at": now + timedelta(hours=hours)}
        connection.execute(insert(people_links).values(values))

    def _set_password(
        self, connection: Connection, person: Person, password_hash: str, action: str, detail: dict[str, object]
    ) -> None:
        values = {"password_hash": password_hash, "password_at": now_utc()}
        connection.execute(update(people).where(people.c.person_id == person.person_id).values(values))
        connection.execute(delete(people_links).where(people_links.c.person_id == person.person_id))
        _end_sessions(connection, people_sessions.c.person_id == person.person_id)
        self._record(connection, action, person.name, detail, NOTHING)

    @contextmanager
    def _keeping_an_owner(self, connection: Connection) -> Generator[None]:
        """Raises: DirectoryError: the block leaves nobody who could undo this, and there was somebody before."""
        self._sealing_key(connection)  # one after the other
        had_owner = _has_owner(connection)
        yield
        if had_owner and not _has_owner(connection):
            raise DirectoryError("somebody has to be owner: make another one first, who has signed in")

    def _tell_status(self, connection: Connection, name: str, before: str, after: str) -> None:
        detail = {"before": {"status": before}, "after": {"status": after}}
        self._record(connection, f"person.{'disable' if after == 'disabled' else 'enable'}", name, detail, NOTHING)

    def _is_link(self, token: str) -> ColumnElement[bool]:
        return (people_links.c.token_digest == self._token_digest(token)) & (people_links.c.expires_at > now_utc())

    def _token_digest(self, token: str) -> bytes:
        return hmac.digest(self._vault.pepper, b"one-time link " + token.encode("utf-8", "surrogateescape"), "sha256")

    def _person(self, connection: Connection, name: str) -> Row[*tuple[Any, ...]]:
        row = connection.execute(_query().where(people.c.name == name.strip().lower())).first()
        if row is None:
            names = connection.execute(select(people.c.name)).scalars()
            meant = did_you_mean(name, names, "`tenantry keys people list` names them")
            raise NotInDirectory(f"there is nobody called {name!r}; {meant}")
        return row

    def _find(self, where: ColumnElement[bool]) -> Person | None:
        with self._engine.connect() as connection:
            return _read_one(connection, where)


def read_person(row: Row[*tuple[Any, ...]], slugs: Collection[str]) -> Person:
    """Somebody from a row of `person_columns`; `slugs` count where their scope is not all."""
    return Person(
        row.person_id,
        row.name,
        row.email,
        Role(row.role),
        None if row.scope == "all" else frozenset(slugs),
        row.password_hash is not None,
        bool(row.has_second_factor),
        row.oidc_subject is not None,
        utc(row.disabled_at),
        aware(row.person_created_at),
        utc(row.signed_in_at),
    )


def person_columns() -> Sequence[ColumnElement[Any]]:
    """What `read_person` needs."""
    second = exists().where((people_totp.c.person_id == people.c.person_id) & people_totp.c.confirmed_at.is_not(None))
    kept = [column for column in people.c if column.key != "created_at"]  # which a session has too
    return (*kept, people.c.created_at.label("person_created_at"), second.label("has_second_factor"))


def slugs_of(connection: Connection, person_id: str) -> frozenset[str]:
    """The tenants that somebody is confined to, of those that are there still."""
    return _scopes(connection, people_tenants.c.person_id == person_id).get(person_id, frozenset())


def _scopes(connection: Connection, where: ColumnElement[bool] | None = None) -> dict[str, frozenset[str]]:
    query = select(people_tenants.c.person_id, tenants.c.slug).join(
        tenants, tenants.c.tenant_id == people_tenants.c.tenant_id
    )
    found: dict[str, set[str]] = {}
    for row in connection.execute(query if where is None else query.where(where)):
        found.setdefault(row.person_id, set()).add(row.slug)
    return {person_id: frozenset(slugs) for person_id, slugs in found.items()}


def _query() -> Any:
    return select(*person_columns())


def _read_one(connection: Connection, where: ColumnElement[bool]) -> Person | None:
    row = connection.execute(_query().where(where)).first()
    return None if row is None else read_person(row, slugs_of(connection, row.person_id))


def _has_owner(connection: Connection) -> bool:
    can_sign_in = people.c.password_hash.is_not(None) | people.c.oidc_subject.is_not(None)
    is_owner = (people.c.role == Role.OWNER.value) & people.c.disabled_at.is_(None) & can_sign_in
    return connection.execute(select(people.c.person_id).where(is_owner).limit(1)).first() is not None


def _refuse_taken(connection: Connection, where: ColumnElement[bool], what: str) -> None:
    if connection.execute(select(people.c.person_id).where(where)).first() is not None:
        raise AlreadyThere(f"there is somebody with {what} already")


def _end_sessions(connection: Connection, where: ColumnElement[bool]) -> None:
    connection.execute(delete(people_sessions).where(where))


def _email(text: str) -> str | None:
    try:
        return read_email(text)
    except ValueError as error:
        raise DirectoryError(str(error)) from None


def _told(person: Person) -> dict[str, object]:
    tenants_told = sorted(person.tenants) if person.tenants is not None else None
    return {"role": person.role.value, "tenants": tenants_told, "email": person.email}


def _new_token() -> str:
    """256 bits; shown once and never stored."""
    return secrets.token_urlsafe(32)
