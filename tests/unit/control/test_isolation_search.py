"""The search finds what it is to find: in files, over the edges of reads, and in the database."""

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tenantry.control.isolation import search
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.search import Needles
from tenantry.control.site import Site, open_site
from tenantry.settings import load_settings
from tenantry.storage.directory import CredentialRefused, DirectoryError, NotInDirectory
from tests.template import init_from_template

SECRET = "sandbox-canary-needle-0123456789"


@pytest.fixture
def needles() -> Needles:
    made = Needles()
    made.add("the needle", SECRET)
    made.add("another", "sandbox-canary-other")
    return made


@pytest.fixture
def site(tmp_path: Path) -> Site:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")})
    init_from_template(settings)
    return open_site(settings)


def test_a_secret_in_a_file_is_found_by_name_and_not_shown(tmp_path: Path, needles: Needles) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.log").write_text(f"key={SECRET}\n")
    (tmp_path / "y.log").write_text("nothing")
    group = Group("search", "")
    assert search.search_files(group, needles, [tmp_path], time.time()) == []
    (check,) = group.checks
    assert not check.ok
    assert check.seen == "holds the needle"
    assert SECRET not in repr(group)


@pytest.mark.parametrize("back", range(0, len(SECRET) + 1, 8))
def test_a_secret_is_found_over_the_edge_of_a_read(
    tmp_path: Path, needles: Needles, monkeypatch: pytest.MonkeyPatch, back: int
) -> None:
    monkeypatch.setattr(search, "READ_BYTES", 1000)
    (tmp_path / "x").write_bytes(b"." * (1000 - back) + SECRET.encode() + b"." * 1500)
    group = Group("search", "")
    search.search_files(group, needles, [tmp_path], time.time())
    assert group.verdict == "FAIL"


def test_files_of_before_the_run_are_not_read_and_those_too_large_are_named(
    tmp_path: Path, needles: Needles, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, large = tmp_path / "old", tmp_path / "large"
    old.write_text(SECRET)
    os.utime(old, (1, 1))
    large.write_text("x" * 100)
    monkeypatch.setattr(search, "SEARCH_BYTES_MAX", 50)
    group = Group("search", "")
    assert search.search_files(group, needles, [tmp_path], time.time()) == [str(large)]
    assert group.verdict == "PASS"


def test_a_secret_in_the_database_is_found(site: Site, needles: Needles) -> None:
    engine: Engine = site.engine
    group = Group("search", "")
    search.search_database(group, engine, needles, time.time())
    assert group.verdict == "PASS"
    site.directory.audit("y", "z", {"leaked": SECRET})
    group = Group("search", "")
    search.search_database(group, engine, needles, time.time())
    assert [check.seen for check in group.failures] == ["holds the needle"]
    engine.dispose()


def test_credentials_and_upstreams_in_use_are_not_removed(site: Site) -> None:
    directory = site.directory
    directory.set_upstream("elsewhere", "http://127.0.0.1:9")
    directory.add_credential("its", SECRET, "elsewhere")
    directory.create_tenant("acme", "Acme", "standard")
    directory.bind_credential("acme", "its")
    with pytest.raises(DirectoryError, match="its"):
        directory.remove_upstream("elsewhere")
    with pytest.raises(CredentialRefused, match="acme"):
        directory.remove_credential("its")
    directory.remove_tenant("acme", None, "over")
    directory.remove_credential("its")
    directory.remove_upstream("elsewhere")
    assert "elsewhere" not in {row.name for row in directory.list_upstreams()}
    for again in (directory.remove_credential, directory.remove_upstream):
        with pytest.raises(NotInDirectory):
            again("its")
    site.engine.dispose()
