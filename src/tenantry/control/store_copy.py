"""A site from SQLite to PostgreSQL, or back: its store is copied, checked, and then opened by changing `store_url`.

Nothing of the site may run, and the source is left as it is. Journals and the master key stay where they are: both
belong to whichever store the settings name.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, make_url, text
from sqlalchemy.exc import ArgumentError

from tenantry.control.presence import alone
from tenantry.domain.values import value
from tenantry.ledger.verification import Verification, verify
from tenantry.setting_checks import is_store_url
from tenantry.settings import Settings
from tenantry.storage import copying
from tenantry.storage.audit import verify_chain
from tenantry.storage.custody import open_vault
from tenantry.storage.database import open_store, path_of_store, reading
from tenantry.storage.key_files import KeyFiles
from tenantry.storage.schema import require_current_schema
from tenantry.storage.server import APPLICATION
from tenantry.store_settings import read_secret, without_password

Came = Callable[[float], None]

# Every row is written once, and read again on both sides.
_PASSES: Final = 3
# Not that of a site's processes: of a copy that was killed the server may not have taken leave yet.
_APPLICATION: Final = f"{APPLICATION}-copy"
# The programs of a site, by what they tell the server. Its own role sees its own sessions, whatever its rights.
_OTHERS: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND (application_name = :name OR application_name LIKE :name || ' %')"
)


class CopyRefused(Exception):
    """The store was not copied; nothing was changed."""


class CopyFailed(Exception):
    """The copy is not what it is of; nothing opens it, and the store that it is of is as it was."""


@value
class Copied:
    """What a copy did. `went_on`: with what an earlier one, which was ended, had begun."""

    tables: int
    rows: int
    verified: Verification
    audit_rows: int
    went_on: bool


def copy_store(
    settings: Settings, source_url: str, target_url: str, password_file: Path | None, came: Came = lambda share: None
) -> Copied:
    """Copy the store of the site whose settings these are, from or to the one that they name.

    Raises:
        CopyRefused: the two are not of two kinds, none is the site's, one is in use, or the target is not empty.
        CopyFailed: a row was refused, a digest differs, a chain broke, in the source too.
        SiteRuns: a process of the site runs.
        StoreMissing, StoreOutdated, MasterKeyUnusable: of the source.
        OSError: of the folder of an SQLite store.
    """
    source_url, target_url = _read_urls(settings, source_url, target_url)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(settings), _opened(settings, source_url, password_file, must_exist=True) as source:
        vault = open_vault(source, KeyFiles(settings.master_key_file))
        require_current_schema(source)  # of a later version's tables and columns this one would copy nothing
        with _opened(settings, target_url, password_file) as target, reading(source) as connection:
            went_on = _prepare(target, copying.site_of(connection))
            try:
                rows, tables = _copy(connection, target, went_on, came)
                verified = verify(target)
                with target.connect() as copied:
                    audit_rows, problems = verify_chain(copied, vault)
            except (copying.CopyDiffers, copying.RowRefused) as error:
                raise CopyFailed(str(error)) from error
            if verified.fault_count or problems:
                first = f"{verified.faults[0].run}: {verified.faults[0].message}" if verified.faults else problems[0]
                raise CopyFailed(
                    f"every row is as it was, and the chain was broken before: {first}. "
                    "`tenantry ledger verify` and `tenantry audit --verify` say all"
                )
            copying.finish(target)
    came(1.0)
    return Copied(tables, rows, verified, audit_rows, went_on)


def _copy(source: Connection, target: Engine, went_on: bool, came: Came) -> tuple[int, int]:
    """The number of rows and of tables."""
    rows = copying.count_rows(source)
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        came(min(0.99, done / max(1, rows * _PASSES)))

    copying.copy(source, target, told)
    try:
        return rows, len(copying.require_same(source, target, told))
    except copying.CopyDiffers:
        if not went_on:
            raise
    done = 0  # the site went on between the two
    copying.begin_again(target)
    copying.copy(source, target, told)
    return rows, len(copying.require_same(source, target, told))


def _prepare(target: Engine, site: str) -> bool:
    try:
        return copying.prepare(target, site)
    except copying.TargetTaken as error:
        path = path_of_store(target.url)
        raise CopyRefused(f"{path or told_of(target.url)}: {error}") from None


def _read_urls(settings: Settings, source: str, target: str) -> tuple[str, str]:
    for option, url in (("--from", source), ("--to", target)):
        if without_password(url)[1] is not None:
            raise CopyRefused(
                f"{option}: everybody on this machine sees the password of a command: leave it out, and name a file "
                "of mode 0600 that has it with --password-file"
            )
        if not is_store_url(url):
            raise CopyRefused(f"{option}: a store is sqlite:////PATH or postgresql://USER@HOST/DATABASE")
    if _parsed(source).get_backend_name() == _parsed(target).get_backend_name():
        raise CopyRefused(
            "both are of one kind: `tenantry backup`, and `tenantry restore` with the other in store_url, move a "
            "site between two of them"
        )
    if not {_parsed(source), _parsed(target)} & {_parsed(settings.store_url)}:
        raise CopyRefused(
            "neither is the store of this site (store_url): its processes, master key and chains could not be looked at"
        )
    return source, target


def told_of(url: URL) -> str:
    """As its user wrote it."""
    return url.difference_update_query(["application_name"]).set(drivername=url.get_backend_name()).render_as_string()


def _parsed(url: str) -> URL:
    """Raises: CopyRefused."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise CopyRefused(f"{url!r} is no URL of a store") from None


@contextmanager
def _opened(settings: Settings, url: str, password_file: Path | None, *, must_exist: bool = False) -> Generator[Engine]:
    """Raises: CopyRefused: a program of a site is connected to it."""
    is_own = _parsed(url) == _parsed(settings.store_url)
    password = settings.store_password if is_own else None
    if password_file is not None and _parsed(url).get_backend_name() == "postgresql":
        password = _password_in(password_file)
    if _parsed(url).get_backend_name() == "postgresql":
        named = _parsed(url).update_query_dict({"application_name": _APPLICATION})
        url = named.render_as_string(hide_password=False)  # there is none in it
    engine = open_store(url, password=password, must_exist=must_exist)
    try:
        if engine.dialect.name == "postgresql":
            _require_unused(engine)
        yield engine
    finally:
        engine.dispose()


def _password_in(file: Path) -> str:
    try:
        return read_secret(file)
    except (OSError, ValueError) as error:
        raise CopyRefused(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def _require_unused(engine: Engine) -> None:
    """On a server it may be processes of another machine. Those of this one were asked already."""
    with engine.connect() as connection:
        others = connection.execute(_OTHERS, {"name": APPLICATION}).scalar_one()
    if others:
        raise CopyRefused(
            f"{others} connections of Tenantry are open to {told_of(engine.url)}: stop gateway and control "
            "first, on every machine"
        )
