"""Portals of clients: links that are made and revoked, what a portal allows, and who looks at one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tenantry.domain.portal import LINK_DAYS_MAX, LINKS_MAX, SESSION_HOURS, PortalLink, PortalTerms, PortalVisit
from tenantry.storage.columns import aware, new_id, now_utc, utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.portal_tables import portal_links, portal_sessions, portal_terms
from tenantry.storage.tables import tenants
from tenantry.storage.versions import NOTHING

ACTIVE, EXPIRED, REVOKED = "active", "expired", "revoked"
# Of one link: it may have been handed to a whole department. The oldest goes.
SESSIONS_PER_LINK_MAX: Final = 50


class PortalChanges(Changes):
    """Changes to portals, each in the audit log. Of a link only a keyed digest is kept, of a session a digest."""

    def issue_portal_link(self, slug: str, days: int, *, shows_invoices: bool) -> tuple[PortalLink, str]:
        """A new link, and its token, which is shown once.

        Raises:
            NotInDirectory: no such tenant.
            DirectoryError: days that cannot be, or too many links that work.
        """
        if not 1 <= days <= LINK_DAYS_MAX:
            raise DirectoryError(f"a portal link works for 1 to {LINK_DAYS_MAX} days")
        token, now = secrets.token_urlsafe(32), now_utc()
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            here = portal_links.c.tenant_id == tenant.tenant_id
            works = portal_links.c.revoked_at.is_(None) & (portal_links.c.expires_at > now)
            if connection.execute(select(func.count()).select_from(portal_links).where(here, works)).scalar_one() >= (
                LINKS_MAX
            ):
                raise DirectoryError(f"{slug} has {LINKS_MAX} portal links that work: revoke some")
            values: dict[str, Any] = {"link_id": new_id("ptl"), "tenant_id": tenant.tenant_id, "actor": self._actor}
            values |= {"token_digest": self._portal_digest(token), "shows_invoices": shows_invoices}
            values |= {"created_at": now, "expires_at": now + timedelta(days=days)}
            connection.execute(insert(portal_links).values(values))
            after = {"expires_at": values["expires_at"], "invoices": shows_invoices}
            detail = {"tenant": slug, "before": None, "after": after}
            self._record(connection, "portal.link", values["link_id"], detail, NOTHING)
            query = select(portal_links).where(portal_links.c.link_id == values["link_id"])
            return _read_link(connection.execute(query).one(), now), token

    def list_portal_links(self, slug: str) -> list[PortalLink]:
        """The newest first. Raises: NotInDirectory."""
        now = now_utc()
        with self._engine.connect() as connection:
            tenant = self._tenant(connection, slug)
            query = select(portal_links).where(portal_links.c.tenant_id == tenant.tenant_id)
            rows = connection.execute(query.order_by(portal_links.c.created_at.desc(), portal_links.c.link_id))
            return [_read_link(row, now) for row in rows]

    def revoke_portal_link(self, slug: str, link_id: str) -> None:
        """Whoever came by it is let out at once. Raises: NotInDirectory: the tenant has no such link."""
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            here = (portal_links.c.tenant_id == tenant.tenant_id) & (portal_links.c.link_id == link_id)
            row = connection.execute(select(portal_links).where(here)).first()
            if row is None:
                raise NotInDirectory(f"{slug} has no portal link {link_id[:64]!r}")
            connection.execute(delete(portal_sessions).where(portal_sessions.c.link_id == link_id))
            if row.revoked_at is not None:
                return
            connection.execute(update(portal_links).where(here).values(revoked_at=now_utc()))
            detail = {"tenant": slug, "before": "active", "after": "revoked"}
            self._record(connection, "portal.revoke", link_id, detail, NOTHING)

    def portal_terms_of(self, slug: str) -> PortalTerms:
        """Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            return _read_terms(_terms_row(connection, self._tenant(connection, slug).tenant_id))

    def set_portal(self, slug: str, may_rotate: bool | None = None, password_hash: str | None = None) -> None:
        """What is not said stays. `password_hash` "": the link is enough; whoever is in gives another one anew.

        Raises: NotInDirectory.
        """
        with self._engine.begin() as connection:
            tenant_id = self._tenant(connection, slug).tenant_id
            row = _terms_row(connection, tenant_id)
            before = _read_terms(row)
            hashed = row.password_hash if row is not None and password_hash is None else password_hash or None
            rotates = before.may_rotate if may_rotate is None else may_rotate
            after = PortalTerms(rotates, hashed is not None)
            values = {"may_rotate": rotates, "password_hash": hashed}
            if row is None:
                connection.execute(insert(portal_terms).values(values | {"tenant_id": tenant_id}))
            else:
                connection.execute(update(portal_terms).where(portal_terms.c.tenant_id == tenant_id).values(values))
            if after != before or password_hash:
                told = {"before": _told(before), "after": _told(after), "password_changed": password_hash is not None}
                self._record(connection, "portal.set", slug, {"tenant": slug, **told}, NOTHING)

    def open_portal(self, token: str) -> str | None:
        """The secret of a new session, which its cookie holds; None where the link does not work (any more)."""
        secret, now = secrets.token_urlsafe(32), now_utc()
        with self._engine.begin() as connection:
            here = portal_links.c.token_digest == self._portal_digest(token)
            works = here & portal_links.c.revoked_at.is_(None) & (portal_links.c.expires_at > now)
            query = select(portal_links.c.link_id, tenants.c.tenant_id, tenants.c.slug).join_from(portal_links, tenants)
            row = connection.execute(query.where(works)).first()
            if row is None:
                return None
            _drop_old(connection, row.link_id, now)
            values = {"session_digest": _session_digest(secret), "link_id": row.link_id, "tenant_id": row.tenant_id}
            connection.execute(insert(portal_sessions).values(values | {"created_at": now}))
            connection.execute(update(portal_links).where(here).values(opened_at=now))
            self._audit(connection, "portal.open", row.link_id, {"tenant": row.slug})
        return secret

    def find_portal_visit(self, secret: str) -> PortalVisit | None:
        """Whose portal a session is for, if it works: not ended, and its link neither ended nor revoked."""
        now = now_utc()
        with self._engine.connect() as connection:
            query = select(
                portal_sessions.c.proved_hash,
                portal_sessions.c.created_at,
                portal_links.c.link_id,
                portal_links.c.shows_invoices,
                portal_links.c.expires_at,
                portal_links.c.revoked_at,
                tenants.c.tenant_id,
                tenants.c.slug,
            )
            query = query.join_from(portal_sessions, portal_links).join(
                tenants, tenants.c.tenant_id == portal_sessions.c.tenant_id
            )
            row = connection.execute(query.where(portal_sessions.c.session_digest == _session_digest(secret))).first()
            if row is None or row.revoked_at is not None or aware(row.expires_at) <= now:
                return None
            if now - aware(row.created_at) >= timedelta(hours=SESSION_HOURS):
                return None
            told = _terms_row(connection, row.tenant_id)
        terms = _read_terms(told)
        is_proved = told is None or told.password_hash is None or row.proved_hash == told.password_hash
        return PortalVisit(row.link_id, row.tenant_id, row.slug, bool(row.shows_invoices), terms, is_proved)

    def portal_password_of(self, tenant_id: str) -> str | None:
        """The hash, or None."""
        with self._engine.connect() as connection:
            row = _terms_row(connection, tenant_id)
        return row.password_hash if row is not None else None

    def prove_portal_visit(self, visit: PortalVisit, secret: str, password_hash: str) -> str:
        """The password of that hash was given: the secret of the session that takes the place of this one."""
        new = secrets.token_urlsafe(32)
        with self._engine.begin() as connection:
            here = portal_sessions.c.session_digest == _session_digest(secret)
            values = {"session_digest": _session_digest(new), "proved_hash": password_hash}
            connection.execute(update(portal_sessions).where(here).values(values))
            self._audit(connection, "portal.sign_in", visit.link_id, {"tenant": visit.slug})
        return new

    def close_portal(self, secret: str) -> None:
        """End a session; the link goes on."""
        with self._engine.begin() as connection:
            here = portal_sessions.c.session_digest == _session_digest(secret)
            connection.execute(delete(portal_sessions).where(here))

    def _portal_digest(self, token: str) -> bytes:
        return hmac.digest(self._vault.pepper, b"portal link " + token.encode("utf-8", "surrogateescape"), "sha256")


def delete_portal(connection: Connection, tenant_id: str) -> None:
    """All that a tenant's portal has: the tenant leaves."""
    for table in (portal_sessions, portal_links, portal_terms):
        connection.execute(delete(table).where(table.c.tenant_id == tenant_id))


def _drop_old(connection: Connection, link_id: str, now: datetime) -> None:
    columns = portal_sessions.c
    connection.execute(delete(portal_sessions).where(columns.created_at <= now - timedelta(hours=SESSION_HOURS)))
    query = select(columns.session_digest).where(columns.link_id == link_id).order_by(columns.created_at.desc())
    too_many = connection.execute(query.offset(SESSIONS_PER_LINK_MAX - 1)).scalars().all()
    if too_many:
        connection.execute(delete(portal_sessions).where(columns.session_digest.in_(too_many)))


def _terms_row(connection: Connection, tenant_id: str) -> Row[*tuple[Any, ...]] | None:
    return connection.execute(select(portal_terms).where(portal_terms.c.tenant_id == tenant_id)).first()


def _read_terms(row: Row[*tuple[Any, ...]] | None) -> PortalTerms:
    return PortalTerms() if row is None else PortalTerms(bool(row.may_rotate), row.password_hash is not None)


def _told(terms: PortalTerms) -> dict[str, bool]:
    return {"may_rotate": terms.may_rotate, "has_password": terms.has_password}


def _read_link(row: Row[*tuple[Any, ...]], now: datetime) -> PortalLink:
    expires_at = aware(row.expires_at)
    state = REVOKED if row.revoked_at is not None else EXPIRED if expires_at <= now else ACTIVE
    return PortalLink(
        row.link_id,
        state,
        bool(row.shows_invoices),
        row.actor,
        aware(row.created_at),
        expires_at,
        utc(row.revoked_at),
        utc(row.opened_at),
    )


def _session_digest(secret: str) -> bytes:
    """256 bits need neither salt nor slowness. Another prefix than that of people's sessions."""
    return hashlib.sha256(b"portal session " + secret.encode("utf-8", "surrogateescape")).digest()
