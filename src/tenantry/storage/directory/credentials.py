"""Upstream credentials: sealed, bound to one tenant unless shared, replaced without a gap."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, insert, select, update

from tenantry.domain.directory import Credential
from tenantry.domain.near import did_you_mean
from tenantry.storage.addresses import is_own_address
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.directory.changes import AddressNotOurs, AlreadyThere, Changes, CredentialRefused, NotInDirectory
from tenantry.storage.many import rows_where
from tenantry.storage.records import CredentialRecord, read_credential, read_upstream
from tenantry.storage.sealed_rows import columns_of, sealed_of
from tenantry.storage.tables import credentials, tenants, upstreams
from tenantry.storage.vault import MasterKey
from tenantry.storage.versions import NOTHING, credential_touched, tenant_touched

_ROLES = ("credential_id", "fallback_credential_id")
# The column holds 64. A name is typed into commands.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential to be stored. `source` is where a file of tenants has it from."""

    name: str
    secret: str = field(repr=False)
    upstream: str
    shared: bool = False
    workspace_id: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """A credential for a tenant: the one it is served with, or the one to fall back to."""

    slug: str
    name: str
    declare_shared: bool = False
    as_fallback: bool = False

    @property
    def column(self) -> str:
        return "fallback_credential_id" if self.as_fallback else "credential_id"


class CredentialChanges(Changes):
    """Changes to upstream credentials."""

    def add_credential(
        self,
        name: str,
        secret: str,
        upstream: str,
        *,
        shared: bool = False,
        workspace_id: str | None = None,
        source: str | None = None,
    ) -> str:
        """Seal and store a credential; its id. Raises: as `add_credentials`."""
        return self.add_credentials([NewCredential(name, secret, upstream, shared, workspace_id, source)])[0]

    def add_credentials(self, new: Sequence[NewCredential]) -> list[str]:
        """Seal and store credentials; their ids.

        Raises:
            CredentialRefused: a consumer login, an admin key, or a secret that is already there.
            AlreadyThere: the name is taken.
            NotInDirectory: no such upstream.
            AddressNotOurs: somebody else has written the upstream's address.
        """
        with self._engine.begin() as connection:
            known, key = self._known_secrets(connection, new), self._sealing_key(connection)
            there = {name: self._sealed_upstream(connection, name, key) for name in {one.upstream for one in new}}
            rows = [self._credential_row(one, known, there[one.upstream], key) for one in new]
            if rows:
                connection.execute(insert(credentials), rows)
            for one, row in zip(new, rows, strict=True):
                after = {
                    "upstream": one.upstream,
                    "shared": one.shared,
                    "key": row["hint"],
                    "workspace_id": one.workspace_id,
                }
                detail = {"before": None, "after": after}
                self._record(connection, "credential.add", one.name, detail, credential_touched(row["credential_id"]))
        return [row["credential_id"] for row in rows]

    def _known_secrets(self, connection: Connection, new: Sequence[NewCredential]) -> _Known:
        """What is stored already of the names and secrets of new credentials."""
        columns = (credentials.c.name, credentials.c.shared, credentials.c.fingerprint)
        prints = [self.fingerprint(one.secret) for one in new]
        found = [
            *rows_where(connection, columns, credentials.c.name, [one.name for one in new]),
            *rows_where(connection, columns, credentials.c.fingerprint, prints),
        ]
        return _Known({row.name for row in found}, {row.fingerprint: (row.name, bool(row.shared)) for row in found})

    def _credential_row(
        self, one: NewCredential, known: _Known, upstream: Row[*tuple[Any, ...]], key: MasterKey
    ) -> dict[str, Any]:
        """The row of a new credential, which is known from then on."""
        secret, credential_id = one.secret.strip(), new_id("crd")
        _refuse_unfit(secret)
        if not _NAME.fullmatch(one.name):
            raise CredentialRefused(f"{one.name!r} is not a name: use letters, digits, - _ . and 64 characters at most")
        sealed = self._seal_new(secret, credential_id, known.twins, upstream.base_url, key)
        if one.name in known.names:
            raise AlreadyThere(f"there is a credential {one.name!r} already; choose another name")
        known.names.add(one.name)
        known.twins[sealed["fingerprint"]] = one.name, one.shared
        return {
            "credential_id": credential_id,
            "name": one.name,
            "upstream_id": upstream.upstream_id,
            "shared": one.shared,
            **sealed,
            "workspace_id": one.workspace_id,
            "source": one.source,
            "created_at": now_utc(),
        }

    def fingerprint(self, secret: str) -> bytes:
        """By which a secret is known in `list_credentials`."""
        return self._vault.fingerprint(secret.strip())

    def replace_secret(self, name: str, secret: str, source: str | None = None) -> None:
        """Rotate: requests from now on go out under `secret`, those in flight end under the one before.

        `source` is where a file of tenants has it from; None when it comes from a hand.

        Raises:
            CredentialRefused: it is unfit, or stored already.
            NotInDirectory: no such credential.
            AddressNotOurs: somebody else has written the address of its upstream.
        """
        secret = secret.strip()
        _refuse_unfit(secret)
        with self._engine.begin() as connection:
            row = self._credential(connection, name)
            known, key = self._known_secrets(connection, [NewCredential("", secret, "")]), self._sealing_key(connection)
            upstream = self._upstream_of(connection, row)
            _require_own_address(upstream, key)
            sealed = self._seal_new(secret, row.credential_id, known.twins, upstream.base_url, key)
            connection.execute(
                update(credentials)
                .where(credentials.c.credential_id == row.credential_id)
                .values(**sealed, source=source)
            )
            before = {"key": row.hint, "source": row.source}
            after = {"key": sealed["hint"], "source": source}
            detail = {"before": before, "after": after}
            self._record(connection, "credential.rotate", name, detail, credential_touched(row.credential_id))

    def open_credential(self, name: str) -> Credential:
        """A credential with its secret and its upstream, for a check of it.

        Raises:
            NotInDirectory: no such credential.
            SecretUnreadable: it was sealed under another master key.
        """
        with self._engine.begin() as connection:
            row = self._credential(connection, name)
            upstream = self._upstream_of(connection, row)
            self._audit(connection, "credential.check", name, {})
        secret = self._vault.open(sealed_of(row), row.credential_id, upstream.base_url)
        return Credential(row.credential_id, name, read_upstream(upstream), secret, row.workspace_id)

    def credential_works(self, name: str) -> None:
        """A check found it to work: gateways forget what they knew against it. Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._credential(connection, name)
            connection.execute(
                update(credentials).where(credentials.c.credential_id == row.credential_id).values(checked_at=now_utc())
            )
            self._record(connection, "credential.works", name, {}, credential_touched(row.credential_id))

    def move_credential(self, name: str, upstream: str) -> None:
        """Point a credential at another upstream; its secret is sealed for that one's address.

        Raises:
            NotInDirectory: no such credential or upstream.
            AddressNotOurs: somebody else has written the address.
            SecretUnreadable: it does not open for the upstream that it belonged to.
        """
        with self._engine.begin() as connection:
            key = self._sealing_key(connection)
            row = self._credential(connection, name)
            there, stood = self._sealed_upstream(connection, upstream, key), self._upstream_of(connection, row)
            sealed = self._vault.rewrap(sealed_of(row), row.credential_id, stood.base_url, key, there.base_url)
            connection.execute(
                update(credentials)
                .where(credentials.c.credential_id == row.credential_id)
                .values(upstream_id=there.upstream_id, **columns_of(sealed))
            )
            before = {"upstream": stood.name, "base_url": stood.base_url}
            detail = {"before": before, "after": {"upstream": upstream, "base_url": there.base_url}}
            self._record(connection, "credential.move", name, detail, credential_touched(row.credential_id))

    def set_workspace(self, name: str, workspace_id: str | None) -> None:
        """Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._credential(connection, name)
            connection.execute(
                update(credentials)
                .where(credentials.c.credential_id == row.credential_id)
                .values(workspace_id=workspace_id)
            )
            detail = {"before": {"workspace_id": row.workspace_id}, "after": {"workspace_id": workspace_id}}
            self._record(connection, "credential.workspace", name, detail, credential_touched(row.credential_id))

    def set_source(self, name: str, source: str | None) -> None:
        """Say where a file of tenants has a credential from that is stored already. Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._credential(connection, name)
            connection.execute(
                update(credentials).where(credentials.c.credential_id == row.credential_id).values(source=source)
            )
            detail = {"before": {"source": row.source}, "after": {"source": source}}
            self._record(connection, "credential.source", name, detail, NOTHING)

    def share_credential(self, name: str) -> None:
        """Declare that several tenants may use a credential. Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._credential(connection, name)
            connection.execute(
                update(credentials).where(credentials.c.credential_id == row.credential_id).values(shared=True)
            )
            detail = {"before": {"shared": bool(row.shared)}, "after": {"shared": True}}
            self._record(connection, "credential.share", name, detail, credential_touched(row.credential_id))

    def release_credential(self, slug: str) -> None:
        """Take a tenant's credentials from it; until it has another it is not served. Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._tenant(connection, slug)
            names = {
                column: self._name_of(connection, getattr(row, column))
                for column in ("credential_id", "fallback_credential_id")
            }
            connection.execute(
                update(tenants).where(tenants.c.slug == slug).values(credential_id=None, fallback_credential_id=None)
            )
            before = {"credential": names["credential_id"], "fallback": names["fallback_credential_id"]}
            after = {"credential": None, "fallback": None}
            detail = {"before": before, "after": after}
            self._record(connection, "credential.release", slug, detail, tenant_touched(row.tenant_id))

    def _name_of(self, connection: Connection, credential_id: str | None) -> str | None:
        return connection.execute(
            select(credentials.c.name).where(credentials.c.credential_id == credential_id)
        ).scalar()

    def bind_credential(self, slug: str, name: str, *, declare_shared: bool = False, as_fallback: bool = False) -> None:
        """Give a tenant the credential it is served with, or the one to fall back to. Raises: as `bind_credentials`."""
        self.bind_credentials([Binding(slug, name, declare_shared, as_fallback)])

    def bind_credentials(self, bindings: Sequence[Binding]) -> None:
        """Give tenants credentials, one after the other.

        Raises:
            CredentialRefused: another tenant has it, and it is not declared shared; or it would be its own fallback.
            NotInDirectory: no such tenant or credential.
        """
        with self._engine.begin() as connection:
            bound = _Bound(connection, bindings)
            for one in bindings:
                self._bind_one(connection, one, bound)
            bound.write()

    def _bind_one(self, connection: Connection, one: Binding, bound: _Bound) -> None:
        tenant, row = bound.tenants.get(one.slug), bound.credentials.get(one.name)
        if tenant is None:
            tenant = self._tenant(connection, one.slug)  # says that there is none
        if row is None:
            row = self._credential(connection, one.name)
        if one.as_fallback and bound.of(tenant, "credential_id") == row.credential_id:
            raise CredentialRefused(f"{one.slug} is served with {one.name!r} already: fall back to another credential")
        others = bound.users[row.credential_id] - {one.slug}
        touched = tenant_touched(tenant.tenant_id)
        if others and row.credential_id not in bound.shared:
            if not one.declare_shared:
                raise CredentialRefused(
                    f"credential {one.name!r} is bound to {', '.join(sorted(others))}: one key for two clients mixes "
                    "their limits and their data upstream. Use a key of its own, or declare it with --shared"
                )
            connection.execute(
                update(credentials).where(credentials.c.credential_id == row.credential_id).values(shared=True)
            )
            bound.shared.add(row.credential_id)
            touched += credential_touched(row.credential_id)
        role = "fallback" if one.as_fallback else "credential"
        before = {role: bound.names.get(bound.of(tenant, one.column) or "")}
        bound.give(tenant, one.column, row.credential_id)
        detail = {"before": before, "after": {role: one.name}, "shared": bool(others)}
        self._record(connection, "credential.bind", one.slug, detail, touched)

    def drop_fallback(self, slug: str) -> None:
        """Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._tenant(connection, slug)
            connection.execute(update(tenants).where(tenants.c.slug == slug).values(fallback_credential_id=None))
            before = {"fallback": self._name_of(connection, row.fallback_credential_id)}
            detail = {"before": before, "after": {"fallback": None}}
            self._record(connection, "credential.bind", slug, detail, tenant_touched(row.tenant_id))

    def _users(self, connection: Connection, credential_id: str, but: str) -> Sequence[str]:
        """Slugs of the tenants that have a credential, as their first or to fall back to."""
        has_it = (tenants.c.credential_id == credential_id) | (tenants.c.fallback_credential_id == credential_id)
        return connection.execute(select(tenants.c.slug).where(has_it, tenants.c.tenant_id != but)).scalars().all()

    def _credential(self, connection: Connection, name: str) -> Row[*tuple[Any, ...]]:
        row = connection.execute(select(credentials).where(credentials.c.name == name)).first()
        if row is None:
            names = connection.execute(select(credentials.c.name)).scalars()
            meant = did_you_mean(name, names, "`tenantry credentials list` names them")
            raise NotInDirectory(f"there is no credential {name!r}; {meant}")
        return row

    def _upstream_of(self, connection: Connection, row: Row[*tuple[Any, ...]]) -> Row[*tuple[Any, ...]]:
        return connection.execute(select(upstreams).where(upstreams.c.upstream_id == row.upstream_id)).one()

    def _sealed_upstream(self, connection: Connection, name: str, key: MasterKey) -> Row[*tuple[Any, ...]]:
        """An upstream that secrets may be sealed for. Raises: NotInDirectory, AddressNotOurs."""
        found = connection.execute(select(upstreams).where(upstreams.c.name == name)).first()
        if found is None:
            names = sorted(connection.execute(select(upstreams.c.name)).scalars())
            meant = did_you_mean(name, names, f"there are: {', '.join(names)}")
            raise NotInDirectory(f"there is no upstream {name!r}; {meant}")
        _require_own_address(found, key)
        return found

    def _seal_new(
        self, secret: str, credential_id: str, twins: Mapping[bytes, tuple[str, bool]], address: str, key: MasterKey
    ) -> dict[str, Any]:
        """The columns of a secret that no credential has yet."""
        fingerprint = self._vault.fingerprint(secret)
        if fingerprint in twins:
            name, shared = twins[fingerprint]
            raise CredentialRefused(
                f"this key is already stored as credential {name!r}; use it with --credential {name}"
                + ("" if shared else ", which needs it to be declared shared when another tenant uses it")
            )
        sealed = self._vault.seal(secret, credential_id, address, key)
        return {"fingerprint": fingerprint, **columns_of(sealed), "hint": f"...{secret[-4:]}"}

    def remove_credential(self, name: str) -> None:
        """Forget a credential for good.

        Raises:
            NotInDirectory: no such credential.
            CredentialRefused: a tenant still has it.
        """
        with self._engine.begin() as connection:
            row = self._credential(connection, name)
            users = self._users(connection, row.credential_id, "")
            if users:
                raise CredentialRefused(f"credential {name!r} is bound to {', '.join(users)}; bind another one first")
            connection.execute(delete(credentials).where(credentials.c.credential_id == row.credential_id))
            detail = {"before": {"key": row.hint}, "after": None}
            self._record(connection, "credential.remove", name, detail, credential_touched(row.credential_id))

    def credential_of(self, slug: str) -> CredentialRecord:
        """The credential that a tenant is served with, as in `list_credentials`. Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            tenant = self._tenant(connection, slug)
            row = connection.execute(_listed().where(credentials.c.credential_id == tenant.credential_id)).first()
        if row is None:
            raise NotInDirectory(f"{slug} has no credential")
        return read_credential(row)

    def list_credentials(self) -> list[CredentialRecord]:
        with self._engine.connect() as connection:
            return [read_credential(row) for row in connection.execute(_listed())]


@dataclass(frozen=True, slots=True)
class _Known:
    """Names that are taken; by its fingerprint, the name of each known secret and whether it is shared."""

    names: set[str]
    twins: dict[bytes, tuple[str, bool]]


class _Bound:
    """What bindings need to know of tenants and credentials, as it stands and as it becomes."""

    def __init__(self, connection: Connection, bindings: Sequence[Binding]) -> None:
        self._connection = connection
        slugs, names = [one.slug for one in bindings], [one.name for one in bindings]
        self.tenants = {row.slug: row for row in rows_where(connection, tuple(tenants.c), tenants.c.slug, slugs)}
        columns = (credentials.c.credential_id, credentials.c.name, credentials.c.shared)
        self.credentials = {row.name: row for row in rows_where(connection, columns, credentials.c.name, names)}
        ids = [row.credential_id for row in self.credentials.values()]
        stood = [getattr(row, column) for row in self.tenants.values() for column in _ROLES]
        found = rows_where(connection, columns, credentials.c.credential_id, [*ids, *(one for one in stood if one)])
        self.names = {row.credential_id: row.name for row in found}
        self.shared = {row.credential_id for row in self.credentials.values() if row.shared}
        self.users: dict[str, set[str]] = defaultdict(set)
        for column in _ROLES:
            for row in rows_where(connection, (tenants.c.slug, tenants.c[column].label("has")), tenants.c[column], ids):
                self.users[row.has].add(row.slug)
        self._given: dict[tuple[str, str], str] = {}

    def of(self, tenant: Row[*tuple[Any, ...]], column: str) -> str | None:
        """The id of the credential that a tenant has in a role."""
        return self._given.get((tenant.tenant_id, column), getattr(tenant, column))

    def give(self, tenant: Row[*tuple[Any, ...]], column: str, credential_id: str) -> None:
        before = self.of(tenant, column)
        self._given[tenant.tenant_id, column] = credential_id
        if before is not None and all(self.of(tenant, one) != before for one in _ROLES):
            self.users[before].discard(tenant.slug)
        self.users[credential_id].add(tenant.slug)

    def write(self) -> None:
        for column in _ROLES:
            rows = [{"tenant": one, "given": given} for (one, role), given in self._given.items() if role == column]
            if rows:
                statement = update(tenants).where(tenants.c.tenant_id == bindparam("tenant"))
                self._connection.execute(statement.values({column: bindparam("given")}), rows)


def _require_own_address(upstream: Row[*tuple[Any, ...]], key: MasterKey) -> None:
    """Raises: AddressNotOurs."""
    if not is_own_address(upstream, key):
        raise AddressNotOurs(
            f"the address of upstream {upstream.name!r} in the database, {upstream.base_url}, was not written by "
            "Tenantry: no secret is sealed for it. `tenantry init` puts the address of tenantry.toml back"
        )


def _refuse_unfit(secret: str) -> None:
    if secret.startswith("sk-ant-oat"):
        raise CredentialRefused(
            "this is a login of a Claude subscription (sk-ant-oat...); Anthropic's terms forbid routing one through "
            "a gateway. Use an API key of the client's workspace"
        )
    if secret.startswith("sk-ant-admin"):
        raise CredentialRefused("this is an Admin API key; it does not work on /v1/messages. Use a workspace API key")
    if secret.startswith("sk-proxy-"):
        raise CredentialRefused("this is a gateway key, not an upstream credential")
    if len(secret) < 8 or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise CredentialRefused("this does not look like a key: it is empty, too short, or has blanks in it")


def _listed() -> Select[*tuple[Any, ...]]:
    """Credentials without their secrets."""
    return (
        select(
            credentials.c.credential_id,
            credentials.c.name,
            credentials.c.shared,
            credentials.c.hint,
            credentials.c.workspace_id,
            credentials.c.source,
            credentials.c.fingerprint,
            credentials.c.created_at,
            upstreams.c.name.label("upstream"),
        )
        .join(upstreams, upstreams.c.upstream_id == credentials.c.upstream_id)
        .order_by(credentials.c.name)
    )
