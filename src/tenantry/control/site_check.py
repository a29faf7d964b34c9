"""What the store and the gateways tell of the site: credentials that upstreams refuse, upstreams in use, the backup."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, func, or_, select

from tenantry.control.findings import Finding
from tenantry.control.live_everywhere import health_everywhere
from tenantry.domain.alerts import mend_spent
from tenantry.ledger.journal import is_alive
from tenantry.ledger.live import dead_credentials
from tenantry.storage.columns import aware, now_utc
from tenantry.storage.tables import audit_log, credentials, ledger, tenants, upstreams

# The newest rows say what upstreams answer now; reading so many takes some 10 ms.
ROWS_BACK = 10_000
# docs/production.md makes one a day; a week of what cannot be made again is what most can bear to lose.
BACKUP_DAYS_MAX = 7
# What an upstream says to a key that it does not take, or whose account cannot pay.
_REFUSED = ("authentication_error", "billing_error")


def check_running(engine: Engine, journal_dir: Path) -> Finding:
    """A site that has served and does not: a site that never did is waiting for its first start."""
    runs = [path for path in journal_dir.iterdir() if path.is_dir()] if journal_dir.is_dir() else []
    if any(is_alive(path) for path in runs):
        return Finding("running", True, "a gateway runs")
    with engine.connect() as connection:
        has_served = bool(runs) or connection.execute(select(ledger.c.entry_id).limit(1)).first() is not None
    if not has_served:
        return Finding("running", True, "nothing runs, and nothing has: `tenantry serve` starts it")
    mend = "`tenantry serve` (or `systemctl start tenantry`); its log says why it ended"
    return Finding("running", False, "nothing runs: no gateway, and no client is served", mend)


def check_credentials(engine: Engine, journal_dir: Path) -> Iterator[Finding]:
    """Credentials that their upstream does not take, by gateways that live and by the newest rows of the ledger."""
    is_well = True
    dead = dead_credentials(health_everywhere(engine, journal_dir))
    for name, one in sorted(dead.items()):
        if one.is_spent:
            is_well = False
            yield Finding(f"credential {name}", False, one.words, mend_spent(name))
    for name, why in _refused(engine):
        if name not in dead or not dead[name].is_spent:
            is_well = False
            mend = (
                f"`tenantry credentials check {name}` asks again; if it is refused: a new key from the upstream's "
                f"console, then `tenantry credentials rotate {name} --stdin`"
            )
            yield Finding(f"credential {name}", False, f"its upstream refused it last ({why})", mend)
    if is_well:
        yield Finding("credentials", True, "none was refused by its upstream last")


def _refused(engine: Engine) -> Iterator[tuple[str, str]]:
    """Names of credentials whose newest answer was a refusal of the credential, and what it was."""
    columns = ledger.c
    is_refusal = or_(columns.status.in_((401, 402)), columns.error.in_(_REFUSED))
    with engine.connect() as connection:
        newest = connection.execute(select(func.max(columns.entry_id))).scalar() or 0
        last = (
            select(columns.credential_id, func.max(columns.entry_id).label("entry_id"))
            .where(columns.entry_id > newest - ROWS_BACK, or_(is_refusal, columns.status == 200))
            .group_by(columns.credential_id)
            .subquery()
        )
        query = (
            select(credentials.c.name, credentials.c.checked_at, columns.ended_at_us, columns.status, columns.error)
            .join(last, last.c.entry_id == columns.entry_id)
            .join(credentials, credentials.c.credential_id == columns.credential_id)
            .where(is_refusal)
            .order_by(credentials.c.name)
        )
        rows = list(connection.execute(query))
    for row in rows:
        was_well_since = row.checked_at is not None and aware(row.checked_at).timestamp() * 1_000_000 > row.ended_at_us
        if not was_well_since:
            yield row.name, " ".join(str(one) for one in (row.status, row.error) if one)


def upstreams_in_use(engine: Engine) -> set[str]:
    """Names of upstreams that a tenant's requests go to."""
    used = or_(
        tenants.c.credential_id == credentials.c.credential_id,
        tenants.c.fallback_credential_id == credentials.c.credential_id,
    )
    query = (
        select(upstreams.c.name)
        .join(credentials, credentials.c.upstream_id == upstreams.c.upstream_id)
        .join(tenants, used)
        .distinct()
    )
    with engine.connect() as connection:
        return set(connection.execute(query).scalars())


def check_backup(engine: Engine, now: datetime | None = None) -> Finding:
    """The newest `tenantry backup`, by the audit log. A site is given as long for its first one."""
    now = now or now_utc()
    made = audit_log.c.action == "site.backup"
    with engine.connect() as connection:
        last = connection.execute(select(func.max(audit_log.c.at)).where(made)).scalar()
        first = connection.execute(select(audit_log.c.at).order_by(audit_log.c.audit_id).limit(1)).scalar()
    mend = "`tenantry backup FILE.tar`, kept on another machine; docs/production.md makes one every day by a timer"
    limit = timedelta(days=BACKUP_DAYS_MAX)
    if last is not None:
        age = now - aware(last)
        found = f"the newest is {age.days} days old"
        return Finding("backup", age <= limit, found, "" if age <= limit else mend)
    if first is not None and now - aware(first) > limit:
        return Finding("backup", False, f"none was ever made, in {(now - aware(first)).days} days", mend)
    return Finding("backup", True, "none was made yet")
