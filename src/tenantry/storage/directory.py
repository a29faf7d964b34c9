"""The one door for changes to the directory: tenants, keys, credentials, tiers, upstreams.

Each change is one transaction that also moves the directory's version and writes a line of the audit log. No secret is
ever in an audit line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tenantry.domain.directory import KeyStatus, TenantStatus
from tenantry.domain.keys import digest_key, is_slug, new_gateway_key
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.snapshot import VERSION_NAME, directory_version
from tenantry.storage.tables import admin_users, audit_log, credentials, gateway_keys, meta, tenants, tiers, upstreams
from tenantry.storage.vault import Vault

_SHIPPED_TIERS = {"standard": 5, "premium": 15, "enterprise": 50}


class DirectoryError(Exception):
    """The directory refuses the change; the message says why and what to do."""


class NotInDirectory(DirectoryError):
    """There is no such object."""


class AlreadyThere(DirectoryError):
    """There is one already."""


class CredentialRefused(DirectoryError):
    """The credential may not be used."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """`text` is the key itself, known only now."""

    key_id: str
    text: str
    hint: str


class Directory:
    """Changes and look-ups, on behalf of `actor` (who is named in the audit log)."""

    def __init__(self, engine: Engine, vault: Vault, actor: str) -> None:
        self._engine = engine
        self._vault = vault
        self._actor = actor

    # Set-up

    def seed(self, upstream_name: str, base_url: str, ca_file: str | None) -> None:
        """The tiers that ship, and the upstream of the settings. What is there stays as it is."""
        with self._engine.begin() as connection:
            known = set(connection.execute(select(tiers.c.name)).scalars())
            for name, sessions_max in _SHIPPED_TIERS.items():
                if name not in known:
                    connection.execute(insert(tiers).values(name=name, sessions_max=sessions_max, created_at=now_utc()))
        self.set_upstream(upstream_name, base_url, ca_file)

    def set_upstream(self, name: str, base_url: str, ca_file: str | None = None) -> str:
        """Make the upstream `name` point at `base_url`; its id. Nothing is written when it does already."""
        base_url = base_url.rstrip("/")
        with self._engine.begin() as connection:
            row = connection.execute(select(upstreams).where(upstreams.c.name == name)).first()
            if row is None:
                upstream_id = new_id("ups")
                connection.execute(
                    insert(upstreams).values(
                        upstream_id=upstream_id, name=name, base_url=base_url, ca_file=ca_file, created_at=now_utc()
                    )
                )
            elif (row.base_url, row.ca_file) == (base_url, ca_file):
                return row.upstream_id
            else:
                upstream_id = row.upstream_id
                connection.execute(
                    update(upstreams).where(upstreams.c.name == name).values(base_url=base_url, ca_file=ca_file)
                )
            self._record(connection, "upstream.set", name, {"base_url": base_url})
        return upstream_id

    def add_admin(self, name: str, token: str) -> bool:
        """Store an admin token's digest; False when `name` has one already."""
        with self._engine.begin() as connection:
            if connection.execute(select(admin_users).where(admin_users.c.name == name)).first() is not None:
                return False
            digest = digest_key(self._vault.pepper, token)
            connection.execute(
                insert(admin_users).values(admin_id=new_id("adm"), name=name, token_digest=digest, created_at=now_utc())
            )
            self._record(connection, "admin.add", name, {})
        return True

    def find_admin(self, token: str) -> str | None:
        """The name of the admin whose token this is."""
        digest = digest_key(self._vault.pepper, token)
        with self._engine.connect() as connection:
            return connection.execute(select(admin_users.c.name).where(admin_users.c.token_digest == digest)).scalar()

    # Tenants

    def create_tenant(self, slug: str, name: str, tier: str) -> str:
        """A new tenant; its id.

        Raises:
            AlreadyThere: the slug is taken.
            NotInDirectory: no such tier.
            DirectoryError: the slug is malformed.
        """
        if not is_slug(slug):
            raise DirectoryError(f"{slug!r} is not a slug: use a-z, 0-9 and inner hyphens, 63 characters at most")
        tenant_id = new_id("tnt")
        with self._engine.begin() as connection:
            if connection.execute(select(tenants).where(tenants.c.slug == slug)).first() is not None:
                raise AlreadyThere(
                    f"there is a tenant {slug} already: `tenantry tenants show {slug}` shows it; "
                    f"`tenantry keys issue {slug}` gives it another key"
                )
            self._require_tier(connection, tier)
            try:
                connection.execute(
                    insert(tenants).values(
                        tenant_id=tenant_id,
                        slug=slug,
                        name=name,
                        status=TenantStatus.ACTIVE.value,
                        tier=tier,
                        created_at=now_utc(),
                    )
                )
            except IntegrityError:
                raise AlreadyThere(f"there is a tenant {slug} already") from None
            self._record(connection, "tenant.create", slug, {"name": name, "tier": tier})
        return tenant_id

    def _require_tier(self, connection: Connection, tier: str) -> None:
        names = list(connection.execute(select(tiers.c.name)).scalars())
        if tier not in names:
            raise NotInDirectory(f"there is no tier {tier!r}; there are: {', '.join(sorted(names))}")

    def set_tenant_status(self, slug: str, status: TenantStatus) -> None:
        """Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._tenant(connection, slug)
            if row.status != status.value:
                connection.execute(update(tenants).where(tenants.c.slug == slug).values(status=status.value))
                self._record(connection, f"tenant.{status.value}", slug, {})

    def get_tenant(self, slug: str) -> Row[*tuple[Any, ...]]:
        """Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            return self._tenant(connection, slug)

    def list_tenants(self) -> Sequence[Row[*tuple[Any, ...]]]:
        query = (
            select(tenants, tiers.c.sessions_max, credentials.c.name.label("credential"))
            .join(tiers, tiers.c.name == tenants.c.tier)
            .outerjoin(credentials, credentials.c.credential_id == tenants.c.credential_id)
            .order_by(tenants.c.slug)
        )
        with self._engine.connect() as connection:
            return list(connection.execute(query))

    def remove_tenant(self, slug: str, credential_id: str | None, reason: str) -> None:
        """Undo a provisioning that failed: the tenant, its keys, and the credential that was made for it."""
        with self._engine.begin() as connection:
            row = self._tenant(connection, slug)
            connection.execute(delete(gateway_keys).where(gateway_keys.c.tenant_id == row.tenant_id))
            connection.execute(delete(tenants).where(tenants.c.tenant_id == row.tenant_id))
            if credential_id is not None:
                connection.execute(delete(credentials).where(credentials.c.credential_id == credential_id))
            self._record(connection, "tenant.rollback", slug, {"reason": reason})

    # Credentials

    def add_credential(
        self, name: str, secret: str, upstream: str, *, shared: bool = False, workspace_id: str | None = None
    ) -> str:
        """Seal and store a credential; its id.

        Raises:
            CredentialRefused: a consumer login, an admin key, or a secret that is already there.
            AlreadyThere: the name is taken.
            NotInDirectory: no such upstream.
        """
        secret = secret.strip()
        _refuse_unfit(secret)
        credential_id = new_id("crd")
        sealed = self._vault.seal(secret, credential_id)
        fingerprint = self._vault.fingerprint(secret)
        with self._engine.begin() as connection:
            twin = connection.execute(
                select(credentials.c.name, credentials.c.shared).where(credentials.c.fingerprint == fingerprint)
            ).first()
            if twin is not None:
                raise CredentialRefused(
                    f"this key is already stored as credential {twin.name!r}; use it with --credential {twin.name}"
                    + ("" if twin.shared else ", which needs it to be declared shared when another tenant uses it")
                )
            upstream_id = connection.execute(
                select(upstreams.c.upstream_id).where(upstreams.c.name == upstream)
            ).scalar()
            if upstream_id is None:
                raise NotInDirectory(f"there is no upstream {upstream!r}")
            if connection.execute(select(credentials).where(credentials.c.name == name)).first() is not None:
                raise AlreadyThere(f"there is a credential {name!r} already; choose another name")
            connection.execute(
                insert(credentials).values(
                    credential_id=credential_id,
                    name=name,
                    upstream_id=upstream_id,
                    shared=shared,
                    fingerprint=fingerprint,
                    master_key_id=sealed.master_key_id,
                    wrapped_key=sealed.wrapped_key,
                    ciphertext=sealed.ciphertext,
                    hint=f"...{secret[-4:]}",
                    workspace_id=workspace_id,
                    created_at=now_utc(),
                )
            )
            self._record(connection, "credential.add", name, {"upstream": upstream, "shared": shared})
        return credential_id

    def bind_credential(self, slug: str, name: str, *, declare_shared: bool = False) -> None:
        """Give a tenant the credential it is served with.

        Raises:
            CredentialRefused: another tenant has it, and it is not declared shared.
            NotInDirectory: no such tenant or credential.
        """
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            row = connection.execute(select(credentials).where(credentials.c.name == name)).first()
            if row is None:
                raise NotInDirectory(f"there is no credential {name!r}; `tenantry credentials list` names them")
            others = (
                connection.execute(
                    select(tenants.c.slug).where(
                        tenants.c.credential_id == row.credential_id, tenants.c.tenant_id != tenant.tenant_id
                    )
                )
                .scalars()
                .all()
            )
            if others and not row.shared:
                if not declare_shared:
                    raise CredentialRefused(
                        f"credential {name!r} is bound to {', '.join(others)}: one key for two clients mixes their "
                        "limits and their data upstream. Use a key of its own, or declare it with --shared"
                    )
                connection.execute(
                    update(credentials).where(credentials.c.credential_id == row.credential_id).values(shared=True)
                )
            connection.execute(update(tenants).where(tenants.c.slug == slug).values(credential_id=row.credential_id))
            self._record(connection, "credential.bind", slug, {"credential": name, "shared": bool(others)})

    def find_credential(self, secret: str) -> str | None:
        """The name under which this secret is stored, or None."""
        fingerprint = self._vault.fingerprint(secret.strip())
        with self._engine.connect() as connection:
            return connection.execute(
                select(credentials.c.name).where(credentials.c.fingerprint == fingerprint)
            ).scalar()

    def list_credentials(self) -> Sequence[Row[*tuple[Any, ...]]]:
        query = (
            select(
                credentials.c.credential_id,
                credentials.c.name,
                credentials.c.shared,
                credentials.c.hint,
                credentials.c.workspace_id,
                credentials.c.created_at,
                upstreams.c.name.label("upstream"),
            )
            .join(upstreams, upstreams.c.upstream_id == credentials.c.upstream_id)
            .order_by(credentials.c.name)
        )
        with self._engine.connect() as connection:
            return list(connection.execute(query))

    # Gateway keys

    def issue_key(self, slug: str, label: str, expires_at: datetime | None = None) -> IssuedKey:
        """A new gateway key. Raises: NotInDirectory."""
        text = new_gateway_key(slug)
        key_id, hint = new_id("key"), f"...{text[-4:]}"
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            connection.execute(
                insert(gateway_keys).values(
                    key_id=key_id,
                    tenant_id=tenant.tenant_id,
                    label=label,
                    digest=digest_key(self._vault.pepper, text),
                    hint=hint,
                    status=KeyStatus.ACTIVE.value,
                    expires_at=expires_at,
                    created_at=now_utc(),
                )
            )
            self._record(connection, "key.issue", key_id, {"tenant": slug, "label": label})
        return IssuedKey(key_id, text, hint)

    def revoke_key(self, key_id: str) -> None:
        """Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = connection.execute(select(gateway_keys).where(gateway_keys.c.key_id == key_id)).first()
            if row is None:
                raise NotInDirectory(f"there is no key {key_id!r}; `tenantry keys list` names them by id (`key_...`)")
            if row.status != KeyStatus.REVOKED.value:
                connection.execute(
                    update(gateway_keys)
                    .where(gateway_keys.c.key_id == key_id)
                    .values(status=KeyStatus.REVOKED.value, revoked_at=now_utc())
                )
                self._record(connection, "key.revoke", key_id, {})

    def list_keys(self, slug: str | None = None) -> Sequence[Row[*tuple[Any, ...]]]:
        """Raises: NotInDirectory."""
        query = (
            select(
                gateway_keys.c.key_id,
                tenants.c.slug,
                gateway_keys.c.label,
                gateway_keys.c.hint,
                gateway_keys.c.status,
                gateway_keys.c.expires_at,
                gateway_keys.c.created_at,
                gateway_keys.c.revoked_at,
            )
            .join(tenants, tenants.c.tenant_id == gateway_keys.c.tenant_id)
            .order_by(tenants.c.slug, gateway_keys.c.created_at)
        )
        with self._engine.connect() as connection:
            if slug is not None:
                self._tenant(connection, slug)
                query = query.where(tenants.c.slug == slug)
            return list(connection.execute(query))

    # The audit log

    def audit(self, action: str, subject: str, detail: dict[str, object]) -> None:
        """A line about something that changed nothing, such as an attempt that failed."""
        with self._engine.begin() as connection:
            self._audit(connection, action, subject, detail)

    def list_audit(self, most: int = 100) -> Sequence[Row[*tuple[Any, ...]]]:
        with self._engine.connect() as connection:
            return list(connection.execute(select(audit_log).order_by(audit_log.c.audit_id.desc()).limit(most)))

    def _tenant(self, connection: Connection, slug: str) -> Row[*tuple[Any, ...]]:
        row = connection.execute(select(tenants).where(tenants.c.slug == slug)).first()
        if row is None:
            raise NotInDirectory(f"there is no tenant {slug!r}; `tenantry tenants list` names them")
        return row

    def _record(self, connection: Connection, action: str, subject: str, detail: dict[str, object]) -> None:
        version = directory_version(connection) + 1
        if version == 1:
            connection.execute(insert(meta).values(name=VERSION_NAME, value="1"))
        else:
            connection.execute(update(meta).where(meta.c.name == VERSION_NAME).values(value=str(version)))
        self._audit(connection, action, subject, detail)

    def _audit(self, connection: Connection, action: str, subject: str, detail: dict[str, object]) -> None:
        connection.execute(
            insert(audit_log).values(
                at=now_utc(),
                actor=self._actor,
                action=action,
                object=subject,
                detail=json.dumps(detail, ensure_ascii=False),
            )
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
