"""Where alerts go, and at which percents of a budget they are raised. A target's URL is a secret."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Row, delete, insert, select, update

from tenantry.domain.alerts import AlertKind, BadThresholds, check_thresholds
from tenantry.domain.near import did_you_mean
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError, NotInDirectory
from tenantry.storage.records import AlertTargetRecord, read_alert_target
from tenantry.storage.sealed_rows import columns_of, sealed_of
from tenantry.storage.tables import alert_deliveries, alert_targets, alert_thresholds, tenants
from tenantry.storage.vault import MasterKey
from tenantry.storage.versions import NOTHING

APPRISE = "apprise"
WEBHOOK = "webhook"
# Far above any service's URL.
URL_CHARS_MAX = 4096
_NAME_CHARS_MAX = 64
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class OpenTarget:
    """A target with its secrets, for a delivery. `secret` signs; it is "" where nothing is signed."""

    target_id: str
    name: str
    kind: str
    url: str = field(repr=False)
    secret: str = field(repr=False)


class AlertTargetChanges(Changes):
    """Changes to alert targets and thresholds."""

    def set_thresholds(self, slug: str, percents: Sequence[int] | None) -> None:
        """The percents of its budget at which a tenant raises alerts; None for the default ones, [] for none.

        Raises:
            NotInDirectory: no such tenant.
            DirectoryError: percents that cannot be.
        """
        try:
            wanted = None if percents is None else list(check_thresholds(percents))
        except BadThresholds as error:
            raise DirectoryError(str(error)) from None
        with self._engine.begin() as connection:
            tenant = self._tenant(connection, slug)
            here = alert_thresholds.c.tenant_id == tenant.tenant_id
            row = connection.execute(select(alert_thresholds).where(here)).first()
            before = None if row is None else json.loads(row.percents)
            if before == wanted:
                return
            connection.execute(delete(alert_thresholds).where(here))
            if wanted is not None:
                connection.execute(
                    insert(alert_thresholds).values(tenant_id=tenant.tenant_id, percents=json.dumps(wanted))
                )
            self._record(connection, "alerts.thresholds", slug, {"before": before, "after": wanted}, NOTHING)

    def get_thresholds(self, slug: str) -> tuple[int, ...] | None:
        """A tenant's own thresholds, or None where the default ones hold. Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            return read_thresholds_of(connection).get(self._tenant(connection, slug).tenant_id)

    def set_alert_target(
        self, name: str, kind: str, url: str, slug: str | None = None, kinds: Sequence[str] = ()
    ) -> str | None:
        """Make the target `name` be this. Nothing is written when it is already.

        With `slug` it gets that tenant's alerts and no other; with `kinds` only alerts of those kinds. Returns the
        signing secret of a webhook that is new, which is not shown again; None otherwise. A webhook keeps its secret
        when its URL changes.

        Raises:
            NotInDirectory: no such tenant.
            DirectoryError: a name, kind or URL that cannot be. The message never has the URL in it.
        """
        url = url.strip()
        _refuse_unfit(name, kind, url, kinds)
        with self._engine.begin() as connection:
            tenant_id = self._tenant(connection, slug).tenant_id if slug is not None else None
            row = connection.execute(select(alert_targets).where(alert_targets.c.name == name)).first()
            known = self._open(row) if row is not None else None
            public: dict[str, Any] = {"kind": kind, "tenant_id": tenant_id, "kinds": json.dumps(sorted(set(kinds)))}
            same = row is not None and all(getattr(row, column) == value for column, value in public.items())
            if same and known is not None and known.url == url:
                return None
            secret = known.secret if known is not None and known.secret else None
            fresh = f"whsec-{secrets.token_urlsafe(32)}" if kind == WEBHOOK and secret is None else None
            target_id = row.target_id if row is not None else new_id("tgt")
            key = self._sealing_key(connection)
            values = public | self._sealed(target_id, url, (secret or fresh or "") if kind == WEBHOOK else "", key)
            if row is not None:
                connection.execute(update(alert_targets).where(alert_targets.c.name == name).values(values))
            else:
                connection.execute(
                    insert(alert_targets).values(target_id=target_id, name=name, created_at=now_utc(), **values)
                )
            detail = {"kind": kind, "tenant": slug, "kinds": sorted(set(kinds)), "hint": values["hint"]}
            self._record(connection, "alerts.target", name, detail, NOTHING)
        return fresh

    def require_alert_target(self, name: str) -> None:
        """Raises: NotInDirectory."""
        with self._engine.connect() as connection:
            self._target(connection, name)

    def remove_alert_target(self, name: str) -> None:
        """What still waits for it is dropped. Raises: NotInDirectory."""
        with self._engine.begin() as connection:
            row = self._target(connection, name)
            connection.execute(delete(alert_deliveries).where(alert_deliveries.c.target_id == row.target_id))
            connection.execute(delete(alert_targets).where(alert_targets.c.target_id == row.target_id))
            self._record(connection, "alerts.target_remove", name, {"kind": row.kind, "hint": row.hint}, NOTHING)

    def list_alert_targets(self, slug: str | None = None) -> list[AlertTargetRecord]:
        """Targets without their secrets.

        Raises:
            NotInDirectory: no such tenant.
        """
        query = (
            select(
                alert_targets.c.target_id,
                alert_targets.c.name,
                alert_targets.c.kind,
                alert_targets.c.hint,
                tenants.c.slug,
                alert_targets.c.kinds,
                alert_targets.c.created_at,
            )
            .outerjoin(tenants, tenants.c.tenant_id == alert_targets.c.tenant_id)
            .order_by(alert_targets.c.name)
        )
        with self._engine.connect() as connection:
            if slug is not None:
                query = query.where(alert_targets.c.tenant_id == self._tenant(connection, slug).tenant_id)
            return [read_alert_target(row) for row in connection.execute(query)]

    def open_alert_target(self, name: str) -> OpenTarget:
        """A target with its secrets.

        Raises:
            NotInDirectory: no such target.
            SecretUnreadable: it was sealed under another master key.
        """
        with self._engine.connect() as connection:
            return self._open(self._target(connection, name))

    def find_open_target(self, target_id: str) -> OpenTarget | None:
        """The same by id, None where it has been removed. Raises: SecretUnreadable."""
        with self._engine.connect() as connection:
            row = connection.execute(select(alert_targets).where(alert_targets.c.target_id == target_id)).first()
            return self._open(row) if row is not None else None

    def _target(self, connection: Connection, name: str) -> Row[*tuple[Any, ...]]:
        row = connection.execute(select(alert_targets).where(alert_targets.c.name == name)).first()
        if row is None:
            names = connection.execute(select(alert_targets.c.name)).scalars()
            meant = did_you_mean(name, names, "`tenantry alerts targets list` names them")
            raise NotInDirectory(f"there is no alert target {name!r}; {meant}")
        return row

    def _sealed(self, target_id: str, url: str, secret: str, key: MasterKey) -> dict[str, Any]:
        sealed = self._vault.seal(json.dumps({"url": url, "secret": secret}), target_id, key=key)
        return {"hint": _hint(url), **columns_of(sealed)}

    def _open(self, row: Row[*tuple[Any, ...]]) -> OpenTarget:
        opened = json.loads(self._vault.open(sealed_of(row), row.target_id))
        return OpenTarget(row.target_id, row.name, row.kind, opened["url"], opened["secret"])


def read_thresholds_of(connection: Connection) -> dict[str, tuple[int, ...]]:
    """Own thresholds by tenant id."""
    return {row.tenant_id: tuple(json.loads(row.percents)) for row in connection.execute(select(alert_thresholds))}


def _hint(url: str) -> str:
    """The scheme and the last four characters: enough to tell two targets apart."""
    scheme, _, rest = url.partition("://")
    return f"{scheme[:32]}://...{rest[-4:] if len(rest) >= 12 else ''}"


def _refuse_unfit(name: str, kind: str, url: str, kinds: Sequence[str]) -> None:
    if not name or len(name) > _NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise DirectoryError(f"a target's name has 1 to {_NAME_CHARS_MAX} characters, not {name[:80]!r}")
    known = [one.value for one in AlertKind if one is not AlertKind.TEST]
    unknown = [one for one in kinds if one not in known]
    if unknown:
        raise DirectoryError(f"there is no kind of alert {unknown[0]!r}; there are: {', '.join(known)}")
    if kind not in (APPRISE, WEBHOOK):
        raise DirectoryError(f"a target is {APPRISE} or {WEBHOOK}, not {kind!r}")
    if len(url) > URL_CHARS_MAX or not url.isprintable() or "://" not in url or " " in url:
        raise DirectoryError(f"the URL of a target is one URL of at most {URL_CHARS_MAX} characters, without blanks")
    if kind == WEBHOOK:
        _refuse_unfit_webhook(url)


def _refuse_unfit_webhook(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise DirectoryError("the webhook's URL is malformed") from None
    if not host or parts.scheme not in ("https", "http") or not url.isascii():
        raise DirectoryError("a webhook's URL is https://...")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise DirectoryError("a webhook's URL must be https; http is for loopback only")
    if parts.username or parts.password:
        raise DirectoryError("a webhook's URL has no user or password: it is signed with a secret of its own")
