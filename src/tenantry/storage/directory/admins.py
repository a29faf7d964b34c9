"""Admin tokens: several, each with a name, kept only as keyed hashes."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tenantry.domain.keys import KEY_PREFIX, digest_key
from tenantry.domain.near import did_you_mean
from tenantry.domain.roles import Role
from tenantry.storage.columns import new_id, now_utc, utc
from tenantry.storage.directory.changes import AlreadyThere, Changes, DirectoryError, NotInDirectory
from tenantry.storage.many import rows_where
from tenantry.storage.records import AdminRecord, read_admin
from tenantry.storage.tables import admin_users, tenants
from tenantry.storage.versions import NOTHING

TOKEN_PREFIX = "tadm-"  # noqa: S105 -- how they begin, for who searches for leaked ones
# The column holds 64. A name is typed into commands.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Each request compares with every one of them.
ADMINS_MAX = 100
# Whoever looks after more has all of the site.
CONFINED_MAX = 1000
# A token is used in every request of a page; that it is used at all is what counts.
USED_SECONDS_MIN = 60


def new_admin_token() -> str:
    """256 bits. It is shown once and never stored."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


class AdminChanges(Changes):
    """Changes to admin tokens, and who presents one."""

    def add_admin(
        self,
        name: str,
        token: str,
        expires_at: datetime | None = None,
        role: str = Role.OWNER,
        slugs: Sequence[str] | None = None,
    ) -> bool:
        """Store an admin token's digest; False when `name` has one already.

        `slugs`: the tenants that it is confined to, by their ids from then on: one that is deleted and made again under
        the same name is another. None: all of the site.

        Raises:
            NotInDirectory: no such tenant.
            DirectoryError: a name or role that cannot be, an end that has passed, or too many tokens.
        """
        if not _NAME.fullmatch(name):
            raise DirectoryError(f"{name!r} is not a name: use letters, digits, - _ . and 64 characters at most")
        if role not in list(Role):
            raise DirectoryError(f"a role is {', '.join(Role)}, not {role[:40]!r}")
        if slugs is not None and not 1 <= len(slugs) <= CONFINED_MAX:
            raise DirectoryError(f"a token is confined to 1 to {CONFINED_MAX} tenants, or to none and has all of them")
        if expires_at is not None and expires_at <= now_utc():
            raise DirectoryError(f"it would have ended already, at {expires_at:%Y-%m-%d %H:%M} UTC")
        with self._engine.begin() as connection:
            rows = connection.execute(select(admin_users.c.name, admin_users.c.revoked_at)).all()
            if any(row.name == name for row in rows):
                return False
            if sum(row.revoked_at is None for row in rows) >= ADMINS_MAX:
                raise DirectoryError(f"there are {ADMINS_MAX} admin tokens; revoke one that nobody needs")
            values: dict[str, Any] = {"token_digest": self._digest(token), "hint": f"...{token[-4:]}"}
            values |= {"admin_id": new_id("adm"), "name": name, "created_at": now_utc(), "expires_at": expires_at}
            ids = [self._tenant(connection, slug).tenant_id for slug in sorted(set(slugs))] if slugs else None
            values |= {"role": str(role), "tenants": json.dumps(ids) if ids is not None else None}
            connection.execute(insert(admin_users).values(values))
            after = {"name": name, "key": values["hint"], "expires_at": expires_at, "role": str(role)}
            after |= {"tenants": sorted(set(slugs))} if slugs else {}
            self._record(connection, "admin.add", name, {"before": None, "after": after}, NOTHING)
        return True

    def create_admin(
        self, name: str, expires_at: datetime | None, role: str = Role.OWNER, slugs: Sequence[str] | None = None
    ) -> str:
        """A new token under a new name. Raises: AlreadyThere; NotInDirectory, DirectoryError as `add_admin`."""
        token = new_admin_token()
        if not self.add_admin(name, token, expires_at, role, slugs):
            raise AlreadyThere(
                f"there is an admin token {name!r} already, perhaps a revoked one; choose another name, or "
                f"`tenantry keys admin rotate {name}`"
            )
        return token

    def rotate_admin(self, name: str, old_until: datetime, expires_at: datetime | None = None) -> str:
        """A new token in the place of the old one, which works until `old_until`, if not past its own end.

        `expires_at` None: the new one ends as the old one would have; the same time again from now on, where it has an
        end.

        Raises:
            NotInDirectory: no such token.
            DirectoryError: it was revoked.
        """
        token, now = new_admin_token(), now_utc()
        with self._engine.begin() as connection:
            row = self._admin(connection, name)
            if row.revoked_at is not None:
                raise DirectoryError(
                    f"admin token {name!r} was revoked; make another with `tenantry keys admin create`"
                )
            ended = utc(row.expires_at)
            if expires_at is None and ended is not None:
                expires_at = now + (ended - (utc(row.created_at) or now))
            until = min(old_until, ended) if ended is not None else old_until
            values: dict[str, Any] = {"token_digest": self._digest(token), "hint": f"...{token[-4:]}"}
            values |= {"expires_at": expires_at, "created_at": now}
            is_kept = until > now
            values |= {"last_digest": row.token_digest if is_kept else None, "last_until": until if is_kept else None}
            connection.execute(update(admin_users).where(admin_users.c.name == name).values(values))
            before = {"key": row.hint, "expires_at": ended}
            after = {"key": values["hint"], "expires_at": expires_at, "old_until": values["last_until"]}
            self._record(connection, "admin.rotate", name, {"before": before, "after": after}, NOTHING)
        return token

    def require_admin(self, name: str) -> None:
        """Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            self._admin(connection, name)

    def revoke_admin(self, name: str) -> bool:
        """Stop a token, and one that it replaced, for good; whether another one works still. Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._admin(connection, name)
            if row.revoked_at is None:
                values: dict[str, Any] = {"revoked_at": now_utc(), "last_digest": None, "last_until": None}
                connection.execute(update(admin_users).where(admin_users.c.name == name).values(values))
                detail = {"before": {"status": "active"}, "after": {"status": "revoked"}, "key": row.hint}
                self._record(connection, "admin.revoke", name, detail, NOTHING)
        return any(one.state(now_utc()) == "active" for one in self.list_admins())

    def list_admins(self) -> list[AdminRecord]:
        with self._engine.connect() as connection:
            rows = connection.execute(select(admin_users).order_by(admin_users.c.name)).all()
            slugs = _slugs(connection, rows)
            return [read_admin(row, slugs) for row in rows]

    def find_presented(self, token: str) -> AdminRecord | None:
        """Whose token this is, whatever its state. It is compared with all of them, in the same time for each.

        A gateway key is none, though it is hashed alike: a digest that somebody copied from its row opens nothing here.
        """
        if token.startswith(KEY_PREFIX):
            return None
        digest, now, found = self._digest(token), now_utc(), None
        with self._engine.connect() as connection:
            for row in connection.execute(select(admin_users)).all():
                is_old = hmac.compare_digest(digest, row.last_digest or bytes(len(digest)))
                until = utc(row.last_until)
                is_old_one = is_old and until is not None and until > now
                if hmac.compare_digest(digest, row.token_digest) or is_old_one:
                    found = row
            return read_admin(found, _slugs(connection, [found])) if found is not None else None

    def note_use(self, admin: AdminRecord) -> None:
        """That a token was used; once a minute is enough."""
        now = now_utc()
        if admin.used_at is None or now - admin.used_at >= timedelta(seconds=USED_SECONDS_MIN):
            with self._engine.begin() as connection:
                here = admin_users.c.admin_id == admin.admin_id
                connection.execute(update(admin_users).where(here).values(used_at=now))

    def _digest(self, token: str) -> bytes:
        return digest_key(self._vault.pepper, token.encode("utf-8", "surrogateescape"))

    def _admin(self, connection: Connection, name: str) -> Row[*tuple[Any, ...]]:
        row = connection.execute(select(admin_users).where(admin_users.c.name == name)).first()
        if row is None:
            names = connection.execute(select(admin_users.c.name)).scalars()
            meant = did_you_mean(name, names, "`tenantry keys admin list` names them")
            raise NotInDirectory(f"there is no admin token {name!r}; {meant}")
        return row


def _slugs(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> dict[str, str]:
    """Of the tenants that these tokens are confined to, the slugs by id."""
    ids = {one for row in rows if row.tenants is not None for one in json.loads(row.tenants)}
    found = rows_where(connection, (tenants.c.tenant_id, tenants.c.slug), tenants.c.tenant_id, sorted(ids))
    return {row.tenant_id: row.slug for row in found}
