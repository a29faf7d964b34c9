"""What somebody who signs in holds: sessions, a second factor, recovery codes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import OperationalError

from tenantry.domain.people import IDLE_HOURS, PROOF_MINUTES, SECOND_MINUTES, SESSION_DAYS, Person, Session
from tenantry.storage.columns import aware, new_id, now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError
from tenantry.storage.directory.people import person_columns, read_person, slugs_of
from tenantry.storage.people_tables import people, people_recovery, people_sessions, people_totp
from tenantry.storage.sealed_rows import columns_of, sealed_of
from tenantry.storage.versions import NOTHING

# The stages of a session: signed in, or with a code still to come.
FULL, SECOND = "full", "second"
# A page is asked for several times a minute; that it is used at all is what counts.
SEEN_SECONDS_MIN: Final = 60
# More browsers than somebody has; the oldest goes.
SESSIONS_MAX: Final = 20
RECOVERY_CODES: Final = 10
# 80 bits: nothing that a digest without a salt would have to fear.
_RECOVERY_BYTES: Final = 10
_ADDRESS_CHARS_MAX, _AGENT_CHARS_MAX = 64, 256


class SignInChanges(Changes):
    """Sessions and second factors. Who signs in is in the audit log; that a page was asked for is not."""

    def begin_session(
        self, person: Person, way: str, stage: str, address: str, agent: str, *, is_fresh: bool = True
    ) -> str:
        """The secret of a new session, which its cookie holds; only a digest is kept. `way`: password or oidc.

        `is_fresh`: it was shown just now that it is this person.
        """
        secret, now = secrets.token_urlsafe(32), now_utc()
        with self._engine.begin() as connection:
            self._drop_ended(connection, now)
            self._drop_oldest(connection, person.person_id)
            values: dict[str, Any] = {"session_digest": _session_digest(secret), "session_id": new_id("ses")}
            values |= {"person_id": person.person_id, "stage": stage, "way": way, "created_at": now}
            values["proved_at"] = now if is_fresh else now - timedelta(minutes=PROOF_MINUTES)
            values |= {"seen_at": now, "address": address[:_ADDRESS_CHARS_MAX], "agent": agent[:_AGENT_CHARS_MAX]}
            connection.execute(insert(people_sessions).values(values))
            if stage == FULL:
                here = people.c.person_id == person.person_id
                connection.execute(update(people).where(here).values(signed_in_at=now))
                self._audit(connection, "person.sign_in", person.name, {"way": way, "agent": values["agent"]})
        return secret

    def find_session(self, secret: str, stage: str = FULL, *, notes_use: bool = True) -> Session | None:
        """Whose session this is, if it works: not ended, not idle for too long, of somebody who is not disabled.

        `notes_use` False: it was nobody's doing, as where an open page asks by itself; the session grows idle.
        """
        now = now_utc()
        with self._engine.connect() as connection:
            own = [column for column in people_sessions.c if column.key != "person_id"]
            query = select(*own, *person_columns()).join_from(people_sessions, people)
            row = connection.execute(query.where(people_sessions.c.session_digest == _session_digest(secret))).first()
            if row is None or row.stage != stage or not _goes_on(row, now) or row.disabled_at is not None:
                return None
            found = _read_session(row, read_person(row, slugs_of(connection, row.person_id)))
        if notes_use and now - found.seen_at >= timedelta(seconds=SEEN_SECONDS_MIN):
            # Where nothing can be written (a full disk), who looks for the reason is let in; the session grows idle.
            with contextlib.suppress(OperationalError), self._engine.begin() as connection:
                here = people_sessions.c.session_id == found.session_id
                connection.execute(update(people_sessions).where(here).values(seen_at=now))
        return found

    def prove_session(self, session: Session) -> None:
        """It was shown again that it is this person."""
        with self._engine.begin() as connection:
            here = people_sessions.c.session_id == session.session_id
            connection.execute(update(people_sessions).where(here).values(proved_at=now_utc()))

    def list_sessions(self, person: Person) -> list[Session]:
        """Those that go on, the one seen last first."""
        now = now_utc()
        with self._engine.connect() as connection:
            here = (people_sessions.c.person_id == person.person_id) & (people_sessions.c.stage == FULL)
            rows = connection.execute(select(people_sessions).where(here).order_by(people_sessions.c.seen_at.desc()))
            return [_read_session(row, person) for row in rows if _goes_on(row, now)]

    def end_session(self, person: Person, session_id: str) -> bool:
        """End one of somebody's own; whether there was one."""
        with self._engine.begin() as connection:
            here = (people_sessions.c.person_id == person.person_id) & (people_sessions.c.session_id == session_id)
            was_there = connection.execute(delete(people_sessions).where(here)).rowcount > 0
            if was_there:
                self._audit(connection, "person.sign_out", person.name, {"session": session_id})
        return was_there

    def drop_session(self, secret: str) -> None:
        """Whatever session this is of, at whichever stage: another takes its place."""
        with self._engine.begin() as connection:
            here = people_sessions.c.session_digest == _session_digest(secret)
            connection.execute(delete(people_sessions).where(here))

    def end_sessions(self, person: Person, but: str = "") -> int:
        """End all of somebody's but one; how many there were."""
        with self._engine.begin() as connection:
            here = (people_sessions.c.person_id == person.person_id) & (people_sessions.c.session_id != but)
            count = connection.execute(delete(people_sessions).where(here)).rowcount
            if count:
                self._audit(connection, "person.sign_out", person.name, {"sessions": count})
        return count

    def leave_notice(self, session_id: str, notice: str) -> None:
        """What the next page of a session is to say, once."""
        with self._engine.begin() as connection:
            here = people_sessions.c.session_id == session_id
            connection.execute(update(people_sessions).where(here).values(notice=notice))

    def leave_notice_for(self, secret: str, notice: str) -> None:
        """The same for a session that has just begun."""
        with self._engine.begin() as connection:
            here = people_sessions.c.session_digest == _session_digest(secret)
            connection.execute(update(people_sessions).where(here).values(notice=notice))

    def take_notice(self, session_id: str) -> str | None:
        """What a page is to say, which no other page says again."""
        here = people_sessions.c.session_id == session_id
        with self._engine.connect() as connection:
            notice = connection.execute(select(people_sessions.c.notice).where(here)).scalar_one_or_none()
        if notice is None:
            return None
        with self._engine.begin() as connection:
            connection.execute(update(people_sessions).where(here).values(notice=None))
        return notice

    def new_second_factor(self, person: Person, secret: str) -> None:
        """A secret that counts once a code of it was shown. Raises: DirectoryError: one is in force."""
        with self._engine.begin() as connection:
            here = (people_totp.c.person_id == person.person_id) & people_totp.c.confirmed_at.is_(None)
            connection.execute(delete(people_totp).where(here))
            if connection.execute(
                select(people_totp.c.person_id).where(people_totp.c.person_id == person.person_id)
            ).first():
                raise DirectoryError("a second factor is in force; turn it off first")
            sealed = self._vault.seal(secret, _context(person.person_id), key=self._sealing_key(connection))
            values: dict[str, Any] = {"person_id": person.person_id, "last_step": -1, "created_at": now_utc()}
            connection.execute(insert(people_totp).values(values | columns_of(sealed)))

    def second_factor_of(self, person_id: str, *, is_confirmed: bool) -> str | None:
        """The secret, or None. Raises: SecretUnreadable."""
        with self._engine.connect() as connection:
            row = connection.execute(select(people_totp).where(people_totp.c.person_id == person_id)).first()
        if row is None or (row.confirmed_at is not None) != is_confirmed:
            return None
        return self._vault.open(sealed_of(row), _context(person_id))

    def use_step(self, person_id: str, step: int) -> bool:
        """Use a code up: whether neither it nor a later one was used before, by whichever of two at once is first."""
        with self._engine.begin() as connection:
            here = (people_totp.c.person_id == person_id) & (people_totp.c.last_step < step)
            return connection.execute(update(people_totp).where(here).values(last_step=step)).rowcount > 0

    def confirm_second_factor(self, person: Person) -> list[str]:
        """From now on it is asked for; returns new recovery codes, which are not shown again."""
        with self._engine.begin() as connection:
            here = people_totp.c.person_id == person.person_id
            connection.execute(update(people_totp).where(here).values(confirmed_at=now_utc()))
            codes = self._new_codes(connection, person.person_id)
            self._record(connection, "person.totp", person.name, {"before": "off", "after": "on"}, NOTHING)
        return codes

    def drop_second_factor(self, person: Person) -> None:
        """It is asked for no more; by somebody themselves, or by an owner for who has lost it."""
        with self._engine.begin() as connection:
            for table in (people_totp, people_recovery):
                connection.execute(delete(table).where(table.c.person_id == person.person_id))
            if person.has_second_factor:
                self._record(connection, "person.totp", person.name, {"before": "on", "after": "off"}, NOTHING)

    def renew_recovery_codes(self, person: Person) -> list[str]:
        """New ones; the old ones work no more."""
        with self._engine.begin() as connection:
            codes = self._new_codes(connection, person.person_id)
            self._record(connection, "person.recovery_codes", person.name, {"count": len(codes)}, NOTHING)
        return codes

    def count_recovery_codes(self, person: Person) -> int:
        query = select(func.count()).select_from(people_recovery)
        with self._engine.connect() as connection:
            return connection.execute(query.where(people_recovery.c.person_id == person.person_id)).scalar_one()

    def use_recovery_code(self, person: Person, code: str) -> bool:
        """Use a code up; whether it was one."""
        with self._engine.begin() as connection:
            here = people_recovery.c.person_id == person.person_id
            digest = self._code_digest(person.person_id, code)
            was_one = (
                connection.execute(
                    delete(people_recovery).where(here, people_recovery.c.code_digest == digest)
                ).rowcount
                > 0
            )
            if was_one:
                left = connection.execute(select(func.count()).select_from(people_recovery).where(here)).scalar_one()
                self._record(connection, "person.recovery_code", person.name, {"left": left}, NOTHING)
        return was_one

    def _new_codes(self, connection: Connection, person_id: str) -> list[str]:
        connection.execute(delete(people_recovery).where(people_recovery.c.person_id == person_id))
        codes = [_new_code() for _ in range(RECOVERY_CODES)]
        rows = [{"person_id": person_id, "code_digest": self._code_digest(person_id, code)} for code in codes]
        connection.execute(insert(people_recovery), rows)
        return codes

    def _code_digest(self, person_id: str, code: str) -> bytes:
        plain = "".join(letter for letter in code.lower() if letter.isalnum())
        return hmac.digest(self._vault.pepper, f"recovery code {person_id} {plain}".encode(), "sha256")

    def _drop_ended(self, connection: Connection, now: datetime) -> None:
        columns = people_sessions.c
        idle = columns.seen_at <= now - timedelta(hours=IDLE_HOURS)
        over = columns.created_at <= now - timedelta(days=SESSION_DAYS)
        unproved = (columns.stage == SECOND) & (columns.created_at <= now - timedelta(minutes=SECOND_MINUTES))
        connection.execute(delete(people_sessions).where(idle | over | unproved))

    def _drop_oldest(self, connection: Connection, person_id: str) -> None:
        here = people_sessions.c.person_id == person_id
        query = select(people_sessions.c.session_id).where(here).order_by(people_sessions.c.seen_at.desc())
        too_many = connection.execute(query.offset(SESSIONS_MAX - 1)).scalars().all()
        if too_many:
            connection.execute(delete(people_sessions).where(people_sessions.c.session_id.in_(too_many)))


def _goes_on(row: Row[*tuple[Any, ...]], now: datetime) -> bool:
    age = now - aware(row.created_at)
    if row.stage == SECOND and age >= timedelta(minutes=SECOND_MINUTES):
        return False
    return age < timedelta(days=SESSION_DAYS) and now - aware(row.seen_at) < timedelta(hours=IDLE_HOURS)


def _read_session(row: Row[*tuple[Any, ...]], person: Person) -> Session:
    return Session(
        row.session_id,
        person,
        row.way,
        aware(row.created_at),
        aware(row.proved_at),
        aware(row.seen_at),
        row.address,
        row.agent,
    )


def _session_digest(secret: str) -> bytes:
    """256 bits need neither salt nor slowness."""
    return hashlib.sha256(b"session " + secret.encode("utf-8", "surrogateescape")).digest()


def _context(person_id: str) -> str:
    """What the sealed secret of a second factor is bound to: the row's id."""
    return person_id


def _new_code() -> str:
    """80 bits, in groups that can be read out."""
    text = base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))
