"""Is this site fit to serve? Each check says what it found and how to mend it."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select
from sqlalchemy.exc import SQLAlchemyError

from tenantry.certificate_files import BadCertificate, load_certificate
from tenantry.control.controls import check_leaders
from tenantry.control.findings import Finding
from tenantry.control.form import describe_form
from tenantry.control.process_check import check_control, check_gateways, check_journal
from tenantry.control.reach_check import check_reach
from tenantry.control.server_check import check_server
from tenantry.control.site_check import check_backup, check_credentials, check_running, upstreams_in_use
from tenantry.control.store_check import SCHEMA_FAULTS, SCHEMA_WORDS, check_file, check_privacy
from tenantry.ledger.quarantine import count_quarantined
from tenantry.setting_checks import reached_at
from tenantry.setting_tables import MAIN_CERTIFICATE
from tenantry.settings import Settings
from tenantry.storage.addresses import is_own_address
from tenantry.storage.columns import aware
from tenantry.storage.custody import ForeignMasterKey, Owner, find_owner
from tenantry.storage.database import open_store, path_of_store
from tenantry.storage.directory.master_key import ROTATED
from tenantry.storage.key_files import KeyFiles
from tenantry.storage.schema import USABLE, look
from tenantry.storage.server import DriverMissing
from tenantry.storage.tables import audit_log, tenant_hosts, tenants, upstreams
from tenantry.storage.vault import MasterKeyUnusable

DESCRIPTORS_MIN = 4096
DISK_BYTES_MIN = 1 << 30
# Dated price rows and TLS certificates need a clock that is right within minutes; before this day it is surely wrong.
_SERVER_MEND = "check store_url, store_password_file, and that the server runs and has this role and database"
_CLOCK_EARLIEST = 1_795_000_000  # 2026-11-18
# Let's Encrypt's are renewed 30 days before their end (letsencrypt.org/docs/faq): so late, that has failed.
CERTIFICATE_DAYS_MIN = 14
# Of names that lack something, so many are told.
HOSTS_NAMED_MAX = 3
# A process of ours answers in milliseconds.
ANSWER_SECONDS_MAX = 2.0


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, one after the other."""
    yield Finding("form", True, describe_form())
    yield _data_dir(settings.data_dir)
    yield from _master_key(KeyFiles(settings.master_key_file))
    store = path_of_store(settings.store_url)
    yield from check_gateways(settings, store)
    yield from _database(settings, store)
    yield check_journal(settings.journal_dir)
    yield from _disks(settings, store)
    yield _clock()
    yield from _certificates(settings)
    yield _descriptors()
    yield _port("gateway", settings.gateway_host, settings.gateway_port, "/healthz", settings.tls_cert_file is not None)
    yield _port(
        "control", settings.control_host, settings.control_port, "/healthz", settings.control_tls_key is not None
    )


def _data_dir(path: Path) -> Finding:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Finding("data directory", False, f"{path} is missing", "run `tenantry init`")
    if mode & 0o077:
        return Finding("data directory", False, f"{path} is open to others ({mode:04o})", f"chmod 700 {path}")
    if not os.access(path, os.W_OK):
        return Finding("data directory", False, f"{path} cannot be written", "run as its owner, or chown it")
    return Finding("data directory", True, str(path))


def _master_key(files: KeyFiles) -> Iterator[Finding]:
    try:
        key = files.load()
    except MasterKeyUnusable as error:
        yield Finding("master key", False, str(error), "do what it says; without this key credentials cannot be read")
    else:
        yield Finding("master key", True, f"{files.path}, mode 0600, fingerprint {key.key_id}")
    if files.next_path.exists():
        found = f"a rotation was not finished: the next key waits in {files.next_path}; what runs serves on"
        yield Finding("master key's rotation", False, found, "`tenantry keys master rotate` goes on with it")
    retired = files.retired()
    if retired:
        found = (
            f"{', '.join(path.name for path in retired)} in {files.path.parent}: for backups from before, if you have"
        )
        found += " any; then keep it where those are, and remove it here"
        yield Finding("master keys retired", True, found)


def _owner(settings: Settings, engine: Engine) -> Finding:
    """Whether the database belongs to the master key at hand."""
    while True:
        owner = find_owner(engine)
        finding = _owner_of_key(settings, engine, owner)
        if finding.ok or find_owner(engine) == owner:  # else a rotation came between the two looks
            return finding


def _owner_of_key(settings: Settings, engine: Engine, owner: Owner | None) -> Finding:
    check, files = "database's master key", KeyFiles(settings.master_key_file)
    try:
        placed = files.load()
    except MasterKeyUnusable:
        if owner is None:
            return Finding(check, True, "it needs none yet")
        mend = f"put that key back at {settings.master_key_file} (mode 0600)"
        return Finding(check, False, f"it belongs to {owner}, which is not at hand", mend)
    if owner is None or owner.is_key_of(placed):
        return Finding(check, True, _rotated(engine))
    try:
        owner.find_key(files)
    except ForeignMasterKey:
        where = f"{settings.master_key_file} (mode 0600), {owner.told_where(files)}"
        mend = f"put that key back at {where}or name the right database (store_url)"
        return Finding(check, False, f"it belongs to {owner}, not to the one at hand ({placed.key_id})", mend)
    return Finding(check, True, f"{files.next_path.name}, which a rotation has not put in its place yet")


def _addresses(settings: Settings, known: Sequence[Row[*tuple[Any, ...]]]) -> Iterator[Finding]:
    """Addresses that somebody else has written into the database."""
    keys = KeyFiles(settings.master_key_file).at_hand()
    for upstream in known:
        if keys and not any(is_own_address(upstream, key) for key in keys):
            found = (
                f"its address in the database, {upstream.base_url}, was not written by Tenantry: no secret goes there"
            )
            mend = "`tenantry init` puts the address of tenantry.toml back; then find out who writes to the database"
            yield Finding(f"upstream {upstream.name}'s address", False, found, mend)


def _rotated(engine: Engine) -> str:
    """Since when it is the one at hand, where it was rotated."""
    with engine.connect() as connection:
        at = connection.execute(select(func.max(audit_log.c.at)).where(audit_log.c.action == ROTATED)).scalar()
    return "the one at hand" + (f", since {aware(at):%Y-%m-%d %H:%M} UTC" if at is not None else "")


def _database(settings: Settings, store: Path | None) -> Iterator[Finding]:
    """The database, and what it says: how far the booking is, what is in quarantine, which upstreams there are."""
    if store is not None:
        faults = list(check_file(settings, store))
        yield from faults
        yield from check_privacy(store)
        if faults:
            return
    try:
        engine = open_store(settings.store_url, password=settings.store_password)
    except DriverMissing as error:
        yield Finding("database", False, str(error), "install it here, into the same environment")
        return
    try:
        fit = look(engine)
        if fit not in USABLE:
            yield Finding("database", False, *SCHEMA_FAULTS[fit])
            if store is None:
                yield from check_server(engine)
            return
        yield Finding("database", True, f"{engine.dialect.name}, {SCHEMA_WORDS[fit]}")
        if store is None:
            yield from check_server(engine)
        yield _owner(settings, engine)
        yield from check_control(settings, engine, store)
        yield from check_leaders(settings, engine)
        with engine.connect() as connection:
            known = list(connection.execute(select(upstreams)))
            lines = count_quarantined(connection)
            yield from _host_names(settings, connection)
        yield _quarantine(lines)
        yield check_running(engine, settings.journal_dir)
        yield from check_credentials(engine, settings.journal_dir)
        yield check_backup(engine)
        used = upstreams_in_use(engine)
    except (SQLAlchemyError, OSError) as error:
        mend = "check store_url and the file's owner" if store is not None else _SERVER_MEND
        yield Finding("database", False, str(error).splitlines()[0], mend)
        return
    finally:
        engine.dispose()
    yield from _addresses(settings, known)
    for upstream in known:
        yield from check_reach(upstream.name, upstream.base_url, upstream.ca_file, is_used=upstream.name in used)


def _quarantine(lines: int) -> Finding:
    if lines:
        mend = "`tenantry ledger quarantine` shows them; --retry books what can be booked, --settle the rest"
        return Finding("quarantine", False, f"{lines} lines of journals could not be booked", mend)
    return Finding("quarantine", True, "every line of the journals was booked")


def _disks(settings: Settings, store: Path | None) -> Iterator[Finding]:
    """One finding for each disk that the site's files are on."""
    seen: set[int] = set()
    for path in (settings.data_dir, settings.journal_dir, *([store.parent] if store is not None else [])):
        if path.exists() and (device := path.stat().st_dev) not in seen:
            seen.add(device)
            yield _disk(path)


def _disk(path: Path) -> Finding:
    space = os.statvfs(path)
    free = space.f_bavail * space.f_frsize
    found = f"{free / (1 << 30):.1f} GiB free for {path}"
    if free < DISK_BYTES_MIN:
        mend = f"free some space: `du -xh {path} | sort -h | tail`; on a full disk the gateway forwards nothing"
        return Finding("disk", False, found, mend)
    return Finding("disk", True, found)


def _clock() -> Finding:
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() < _CLOCK_EARLIEST:
        return Finding("clock", False, found, "set the clock (timedatectl set-ntp true)")
    return Finding("clock", True, found)


def _certificates(settings: Settings) -> Iterator[Finding]:
    """Of the gateway's own TLS: of each chain the first to end."""
    for one in settings.certificates:
        check = "certificate" if one.name == MAIN_CERTIFICATE else f"certificate {one.name}"
        mend = f"renew it and put it at {one.cert_file} with its key: the gateway takes it within seconds"
        try:
            held = load_certificate(one.cert_file, one.key_file)
        except BadCertificate as error:
            found = f"{error}; a gateway that runs goes on with what it has loaded before"
            yield Finding(check, False, found, "do what it says; the gateway takes new files within seconds")
            continue
        why, left = held.why_not_now(), (held.ends_at - datetime.now(UTC)).total_seconds() / 86400
        if why is not None and left > 0:
            yield Finding(check, False, f"{one.cert_file} {why}", mend)
            continue
        words = f"ends in {left:.0f} days" if left > 0 else "has ended"
        found = f"{one.cert_file} {words} ({held.ends_at:%Y-%m-%d %H:%M} UTC)"
        if held.is_alone:
            found += "; who signed it is not in the file: unless clients trust that one itself, use the full chain"
        yield Finding(check, left >= CERTIFICATE_DAYS_MIN, found, "" if left >= CERTIFICATE_DAYS_MIN else mend)


def _host_names(settings: Settings, connection: Connection) -> Iterator[Finding]:
    """Behind the gateway's own TLS: clients' names that it has no certificate for. A proxy in front may have one."""
    shown: set[str] = set()
    for one in settings.certificates:
        with contextlib.suppress(BadCertificate):  # told where certificates are
            shown |= load_certificate(one.cert_file, one.key_file).names
    if not settings.certificates:
        return
    hosts = list(connection.scalars(select(tenant_hosts.c.host).order_by(tenant_hosts.c.host)))
    if settings.public_domain:
        slugs = connection.scalars(select(tenants.c.slug).order_by(tenants.c.slug))
        hosts += [f"{slug}.{settings.public_domain}" for slug in slugs]
    bare = [host for host in hosts if host not in shown and f"*.{host.partition('.')[2]}" not in shown]
    if bare:
        names = ", ".join(bare[:HOSTS_NAMED_MAX]) + (", ..." if len(bare) > HOSTS_NAMED_MAX else "")
        yield Finding("host names", True, f"no certificate here is for {names}: who calls them here is shown another")


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS_MIN:
        mend = "raise LimitNOFILE (systemd) or `ulimit -Hn`: each stream takes two"
        return Finding("descriptors", False, f"at most {hard}", mend)
    return Finding("descriptors", True, f"at most {hard}")


def _port(name: str, host: str, port: int, path: str, tls: bool) -> Finding:
    """Free, or held by this very service, is fine; held by something else is not."""
    host = reached_at(host)
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return Finding(f"port {port} ({name})", True, "free: not running")
    if tls:
        return Finding(f"port {port} ({name})", True, "in use")
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS_MAX)
    try:
        connection.request("GET", path)
        is_ours = b'"ok"' in connection.getresponse().read(200)
    except TimeoutError:
        found = "whatever holds it takes connections and does not answer"
        mend = f"if it is Tenantry, see `gateway` and `control` here: it is frozen; else set {name}_port"
        return Finding(f"port {port} ({name})", False, found, mend)
    except (OSError, http.client.HTTPException):
        is_ours = False
    finally:
        connection.close()
    if is_ours:
        return Finding(f"port {port} ({name})", True, "running")
    mend = f"stop what listens on {host}:{port}, or set {name}_port"
    return Finding(f"port {port} ({name})", False, "held by something else", mend)
