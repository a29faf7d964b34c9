"""A site's store from SQLite to PostgreSQL and back: every row as it was, or nothing that opens."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, inspect, select, text

from tenantry.control.presence import SiteRuns, present
from tenantry.control.site import open_site
from tenantry.control.store_check import check_file
from tenantry.control.store_copy import CopyFailed, CopyRefused, copy_store
from tenantry.ledger.verification import verify
from tenantry.settings import Settings, load_settings
from tenantry.storage import copying
from tenantry.storage.cell_tables import gateways
from tenantry.storage.database import open_store
from tenantry.storage.migrating import migrate
from tenantry.storage.schema import StoreIncomplete, StoreLater, require_current_schema
from tenantry.storage.tables import ledger
from tests import postgresql, releases
from tests.template import init_from_template
from tests.unit.ledger.books import attempt, book

pytestmark = [
    pytest.mark.sqlite,  # which makes its stores of both kinds itself
    pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed"),
]
ROWS = 40


class Killed(BaseException):
    """What a kill leaves: nothing behind it is done."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site with some of everything."""
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path_factory.mktemp("template"))})
    init_from_template(settings)
    site = open_site(settings)
    site.directory.set_upstream("anthropic", "https://upstream.invalid")
    site.directory.add_credential("main", "sk-ant-api03-" + "m" * 40, "anthropic", shared=True)
    for slug in ("acme", "globex"):
        site.directory.create_tenant(slug, slug.title(), "standard")
        site.directory.bind_credential(slug, "main", declare_shared=True, as_fallback=False)
        site.directory.set_budgets(slug, {"month": 50_000_000_000})
        site.directory.issue_key(slug, "first é \N{SNOWMAN}")
        site.directory.issue_portal_link(slug, 30, shows_invoices=True)
    book(site.engine, settings.data_dir, [attempt(number) for number in range(ROWS)])
    site.engine.dispose()
    return settings.data_dir


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> Settings:
    shutil.copytree(template, tmp_path / "data")
    return load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")})


@pytest.fixture
def target() -> Iterator[str]:
    """A database with no rows."""
    name = f"copy_{os.getpid()}"
    yield postgresql.migrated_database(name)
    postgresql.drop_database(name)


@pytest.fixture
def nothing() -> Iterator[str]:
    """A database without tables."""
    name = f"nothing_{os.getpid()}"
    yield postgresql.new_database(name)
    postgresql.drop_database(name)


def require_unusable(url: str) -> None:
    """Neither a process nor `init` takes it for a store."""
    engine = open_store(url)
    for opening in (require_current_schema, migrate):
        with pytest.raises(StoreIncomplete, match="store copy"):
            opening(engine)
    engine.dispose()


def copied_to(settings: Settings, url: str) -> Settings:
    return replace(settings, store_url=url)


def digests(url: str) -> dict[str, copying.Digest]:
    engine = open_store(url)
    with engine.connect() as connection:
        found = {table.name: copying.digest_of(connection, table) for table in copying.tables()}
    engine.dispose()
    return found


def test_every_row_of_a_site_goes_there_and_back_with_its_chains(
    settings: Settings, nothing: str, tmp_path: Path
) -> None:
    target, before = nothing, digests(settings.store_url)
    shares: list[float] = []
    done = copy_store(settings, settings.store_url, target, None, shares.append)
    assert (done.verified.rows, done.verified.fault_count, done.went_on) == (ROWS, 0, False)
    assert digests(target) == before == digests(settings.store_url)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    there = copied_to(settings, target)
    site = open_site(there)
    key = site.directory.issue_key("acme", "made there")
    book(site.engine, tmp_path, [attempt(ROWS + 1)], "later")
    assert verify(site.engine).rows == ROWS + 1
    assert site.directory.verify_audit()[1] == []
    site.engine.dispose()
    back = f"sqlite:///{tmp_path}/back.db"
    copy_store(there, target, back, None)
    assert digests(back) == digests(target)
    site = open_site(copied_to(settings, back))
    assert key.key_id in {one.key_id for one in site.directory.list_keys("acme")}
    assert (tmp_path / "back.db").stat().st_mode & 0o777 == 0o600
    assert verify(site.engine).fault_count == 0
    site.engine.dispose()


@pytest.mark.parametrize("to_server", [True, False])
def test_a_copy_that_is_killed_anywhere_opens_nowhere_and_goes_on(
    settings: Settings, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to_server: bool
) -> None:
    monkeypatch.setattr(copying, "ROWS_AT_ONCE", 7)
    source = settings.store_url
    if not to_server:
        copy_store(settings, source, target, None)
        settings, source, target = copied_to(settings, target), target, f"sqlite:///{tmp_path}/back.db"
    killed = 0
    while True:
        left = 1 + killed * 9

        def came(_share: float) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Killed

        try:
            done = copy_store(settings, source, target, None, came)
            break
        except Killed:
            killed += 1
        require_unusable(target)
    assert killed > 3
    assert done.went_on
    assert digests(target) == digests(source)


def test_a_site_that_went_on_between_a_kill_and_the_next_try_is_copied_as_it_is_now(
    settings: Settings, target: str, tmp_path: Path
) -> None:
    def killed_when_it_has_all(share: float) -> None:
        if share > 0.5:
            raise Killed

    with pytest.raises(Killed):
        copy_store(settings, settings.store_url, target, None, killed_when_it_has_all)
    site = open_site(settings)
    site.directory.issue_key("acme", "meanwhile")
    book(site.engine, tmp_path, [attempt(ROWS + 1)], "later")
    site.engine.dispose()
    assert copy_store(settings, settings.store_url, target, None).verified.rows == ROWS + 1
    assert digests(target) == digests(settings.store_url)


def test_a_site_that_runs_is_not_copied(settings: Settings, target: str) -> None:
    with present(settings), pytest.raises(SiteRuns, match="stop gateway and control"):
        copy_store(settings, settings.store_url, target, None)
    elsewhere = open_store(target)
    with elsewhere.connect(), pytest.raises(CopyRefused, match="1 connections of Tenantry are open"):
        copy_store(settings, settings.store_url, target, None)
    require_current_schema(elsewhere)  # nothing was begun
    elsewhere.dispose()


def test_a_database_with_another_site_or_another_copy_is_left_as_it_is(
    settings: Settings, target: str, tmp_path: Path
) -> None:
    other = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "other"), "TENANTRY_STORE_URL": target})
    init_from_template(other)
    before = digests(target)
    with pytest.raises(CopyRefused, match="A site is in it already"):
        copy_store(settings, settings.store_url, target, None)
    assert digests(target) == before
    back = f"sqlite:///{tmp_path}/back.db"

    def killed(_share: float) -> None:
        raise Killed

    with pytest.raises(Killed):
        copy_store(other, target, back, None, killed)
    third = postgresql.migrated_database(f"copy_third_{os.getpid()}")
    copy_store(settings, settings.store_url, third, None)
    with pytest.raises(CopyRefused, match=r"back\.db: there is the unfinished copy of another site"):
        copy_store(copied_to(settings, third), third, back, None)
    postgresql.drop_database(f"copy_third_{os.getpid()}")
    copy_store(other, target, back, None)
    with pytest.raises(CopyRefused, match="this site is in it already"):
        copy_store(other, target, back, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE ledger SET streaming = 2 WHERE attempt_id = 'att_1'", "table ledger of the copy has other values"),
        ("UPDATE ledger SET cost_nanos = 1 WHERE attempt_id = 'att_1'", "the chain was broken before"),
        ("UPDATE audit_log SET actor = 'nobody' WHERE audit_id = 1", "the chain was broken before"),
        ("UPDATE tenants SET contact = 'a' || char(0)", "a row of the table tenants is refused"),
        ("UPDATE tenants SET user_profile_id = printf('%065d', 1)", "a row of the table tenants is refused"),
    ],
)
def test_what_somebody_changed_in_the_file_is_found_and_nothing_opens(
    settings: Settings, target: str, change: str, said: str
) -> None:
    engine = open_store(settings.store_url)
    with engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()
    with pytest.raises(CopyFailed, match=said):
        copy_store(settings, settings.store_url, target, None)
    require_unusable(target)


def test_urls_that_cannot_be_right_are_told_before_anything_is_opened(settings: Settings, tmp_path: Path) -> None:
    mine, server = settings.store_url, "postgresql://tenantry@nowhere.invalid/tenantry"
    cases = {
        (mine, "postgresql://tenantry:hunter2@nowhere.invalid/tenantry"): "--to: everybody on this machine sees",
        (mine, server + "?password=hunter2"): "--to: everybody on this machine sees",
        (mine, "postgres://tenantry:hunter2@nowhere.invalid/tenantry"): "--to: a store is",
        (mine, f"sqlite:///{tmp_path}/other.db"): "both are of one kind",
        (f"sqlite:///{tmp_path}/other.db", server): "neither is the store of this site",
        (mine, "postgresql://tenantry@nowhere.invalid:port/x"): "is no URL of a store",
    }
    for (source, to), said in cases.items():
        with pytest.raises(CopyRefused, match=said) as refused:
            copy_store(settings, source, to, None)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(CopyRefused, match="no-such-file: No such file"):
        copy_store(settings, mine, server, tmp_path / "no-such-file")


def test_a_store_with_tables_of_a_later_version_is_not_copied_without_them(
    settings: Settings, target: str, tmp_path: Path
) -> None:
    with releases.becoming(tmp_path) as become:
        become(releases.EXPAND)
        engine = open_store(settings.store_url)
        migrate(engine)
        engine.dispose()
    with pytest.raises(StoreLater, match="Install that version"):
        copy_store(settings, settings.store_url, target, None)


def test_doctor_says_what_a_part_of_a_copy_is(settings: Settings, target: str, tmp_path: Path) -> None:
    copy_store(settings, settings.store_url, target, None)
    back = tmp_path / "back.db"

    def killed(_share: float) -> None:
        raise Killed

    with pytest.raises(Killed):
        copy_store(copied_to(settings, target), target, f"sqlite:///{back}", None, killed)
    (finding,) = check_file(settings, back)
    assert (finding.found, finding.mend) == (
        "it holds a part of a copy",
        "run `tenantry store copy` again: it goes on where it was",
    )


def test_every_table_that_is_made_is_copied(settings: Settings) -> None:
    engine = open_store(settings.store_url)
    made = set(inspect(engine).get_table_names()) - {"alembic_version"}
    engine.dispose()
    assert {table.name for table in copying.tables()} == made


def test_numbers_go_on_behind_the_last(settings: Settings, target: str) -> None:
    copy_store(settings, settings.store_url, target, None)
    engine = open_store(target)
    with engine.begin() as connection:
        last = connection.execute(select(ledger.c.entry_id).order_by(ledger.c.entry_id.desc()).limit(1)).scalar_one()
        following = connection.execute(
            text("SELECT nextval(pg_get_serial_sequence('ledger', 'entry_id'))")
        ).scalar_one()
        first = connection.execute(
            text("SELECT nextval(pg_get_serial_sequence('invoices', 'invoice_id'))")
        ).scalar_one()
    engine.dispose()
    assert (following, first) == (last + 1, 1)


def test_a_lease_of_the_other_stores_clock_has_run_out(settings: Settings, target: str) -> None:
    """The clock of SQLite's is the machine's since it began, PostgreSQL's is that of the world."""
    engine = open_store(settings.store_url)
    with engine.begin() as connection:
        row = {"gateway_id": "run-1", "address": "", "machine": "here", "boot": "b", "since_us": 1}
        connection.execute(insert(gateways).values(**row, lease_until_us=1 << 60))
    engine.dispose()
    copy_store(settings, settings.store_url, target, None)
    engine = open_store(target)
    with engine.connect() as connection:
        assert connection.execute(select(gateways.c.gateway_id, gateways.c.lease_until_us)).one() == ("run-1", 0)
    engine.dispose()
