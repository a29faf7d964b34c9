"""The master key is rotated while all goes on, and gone on with after a kill at any moment."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update

from tenantry.control import rotation
from tenantry.control.backup import RestoreRefused, back_up, check_backup, restore
from tenantry.control.doctor import examine
from tenantry.control.init import init_site
from tenantry.control.rotation import RotationRuns, rotate_master_key
from tenantry.control.site import Site, open_site
from tenantry.domain.keys import digest_key
from tenantry.settings import Settings, load_settings
from tenantry.storage import key_files
from tenantry.storage.custody import ForeignMasterKey, find_owner
from tenantry.storage.directory import Directory
from tenantry.storage.key_files import KeyFiles, load_master_key
from tenantry.storage.snapshot import SnapshotLoader
from tenantry.storage.tables import credentials, site_secrets
from tenantry.storage.vault import MasterKey, MasterKeyUnusable, SecretUnreadable
from tests.stack import wait_for
from tests.template import init_from_template

SECRET = "sandbox-canary-acme"
TOKEN = "tadm-a-token-of-a-test"
HOOK = "http://127.0.0.1:9/hook"


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def settings_in(folder: Path) -> Settings:
    return load_settings(None, {"TENANTRY_DATA_DIR": str(folder)})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = settings_in(tmp_path / "data")
    init_from_template(found)
    made = open_site(found)
    directory = made.directory
    directory.set_upstream("up", "http://127.0.0.1:9")
    directory.add_credential("acme", SECRET, "up")
    directory.create_tenant("acme", "Acme", "standard")
    directory.bind_credential("acme", "acme")
    directory.set_alert_target("hook", "webhook", HOOK, None, ())
    directory.add_admin("tester", TOKEN)
    yield made
    made.engine.dispose()


def works(directory: Directory, key: str) -> None:
    """Everything that the master key is needed for."""
    assert directory.open_credential("acme").secret == SECRET
    assert directory.open_alert_target("hook").url == HOOK
    assert directory.has_key(key)
    admin = directory.find_presented(TOKEN)
    assert admin is not None
    assert admin.name == "tester"
    assert [row.name for row in directory.list_credentials() if row.fingerprint == directory.fingerprint(SECRET)] == [
        "acme"
    ]
    assert directory.verify_audit()[1] == []


def fresh(site: Site, use: Callable[[Site], Any]) -> Any:
    """As a process that starts now."""
    opened = open_site(site.settings)
    try:
        return use(opened)
    finally:
        opened.engine.dispose()


def keys_in_rows(site: Site) -> set[str]:
    with site.engine.connect() as connection:
        found = [connection.execute(select(one.c.master_key_id)).scalars().all() for one in (credentials, site_secrets)]
    return {key_id for ids in found for key_id in ids}


def findings(settings: Settings) -> dict[str, tuple[bool, str]]:
    return {one.check: (one.ok, f"{one.found} {one.mend}") for one in examine(settings)}


def test_everything_goes_over_and_nothing_is_changed_by_it(site: Site) -> None:
    key, before, pepper = site.directory.issue_key("acme", "k").text, site.vault.key_id, site.vault.pepper
    done = rotate_master_key(site)
    assert (done.old_id, done.was_begun) == (before, False)
    assert keys_in_rows(site) == {done.new_id} == {KeyFiles(site.settings.master_key_file).load().key_id}
    assert done.new_id != before
    for one in (site, open_site(site.settings)):
        works(one.directory, key)
        assert one.vault.pepper == pepper
    [told_of] = [row for row in site.directory.list_audit() if row.action == "master_key.rotate"]
    assert told_of.detail["before"] == {"fingerprint": before}
    assert told_of.detail["after"] == {"fingerprint": done.new_id}
    assert done.retired.stat().st_mode & 0o777 == 0o600
    assert MasterKey(load_master_key(done.retired)).key_id == before
    told = findings(site.settings)
    assert told["database's master key"][1].startswith("the one at hand, since 20")
    assert (told["master keys retired"][0], done.retired.name in told["master keys retired"][1]) == (True, True)
    assert sorted(path.name for path in site.settings.data_dir.glob("*master.key*")) == [
        "master.key",
        done.retired.name,
    ]


def test_what_was_rotated_away_opens_nothing_any_more(site: Site) -> None:
    done = rotate_master_key(site)
    shutil.copy(done.retired, site.settings.master_key_file)
    with pytest.raises(ForeignMasterKey, match=rf"belongs to .*{done.new_id}"):
        open_site(site.settings)


STEPS = ("open", "write", "fsync", "link", "replace")


def dying_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> list[int]:
    """Die before the call of that number, of all those that change files."""
    seen = [0]

    def wrapped(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **named: Any) -> Any:
            seen[0] += 1
            if seen[0] == moment:
                raise Killed
            return real(*args, **named)

        return call

    fake = {name: wrapped(name) for name in STEPS}
    monkeypatch.setattr(key_files, "os", type("os", (), {**vars(os), **{k: staticmethod(v) for k, v in fake.items()}}))
    return seen


@pytest.mark.sqlite
@pytest.mark.parametrize("moment", [*range(1, 16), "commit", "after the commit"])
def test_killed_at_any_moment_everything_opens_and_the_next_one_finishes(
    site: Site, monkeypatch: pytest.MonkeyPatch, moment: int | str
) -> None:
    key, before = site.directory.issue_key("acme", "k").text, site.vault.key_id
    with monkeypatch.context() as patched:
        seen = dying_at(patched, moment if isinstance(moment, int) else -1)

        def die(*_: object) -> None:
            raise Killed

        if moment == "commit":
            event.listen(site.engine, "commit", die)
        if moment == "after the commit":
            patched.setattr(KeyFiles, "take_place", die)
        try:
            rotate_master_key(site)
        except Killed:
            was_killed = True
        else:
            was_killed = False
    assert was_killed is (not isinstance(moment, int) or moment <= seen[0])
    was_done = KeyFiles(site.settings.master_key_file).load().key_id != before
    if moment == "commit":
        event.remove(site.engine, "commit", die)
    assert len(keys_in_rows(site)) == 1  # a database belongs to one key at every moment
    fresh(site, lambda one: works(one.directory, key))
    works(site.directory, key)
    SnapshotLoader(site.engine, site.vault).load()
    if KeyFiles(site.settings.master_key_file).next_path.exists():
        ok, words = findings(site.settings)["master key's rotation"]
        assert (ok, "keys master rotate" in words) == (False, True)
        assert findings(site.settings)["database's master key"][0]
        assert not init_site(site.settings).made_master_key
    done = fresh(site, rotate_master_key)
    assert keys_in_rows(site) == {done.new_id}
    fresh(site, lambda one: works(one.directory, key))
    works(site.directory, key)
    left = [path.name for path in site.settings.data_dir.iterdir() if "master.key" in path.name]
    assert len(left) == 2 + was_done, left  # the new one, and what was retired: no draft, no next


def test_who_has_the_site_open_goes_on_under_the_new_key(site: Site) -> None:
    loader = SnapshotLoader(site.engine, site.vault)
    loader.load()
    running = open_site(site.settings)
    done = rotate_master_key(site)
    running.directory.add_credential("late", "sandbox-canary-late", "up")
    running.directory.audit("read.tenants", "*", {})
    assert keys_in_rows(site) == {done.new_id}
    names = {row.name for row in running.directory.list_credentials()}
    assert names >= {"acme", "late"}
    change = loader.follow()
    assert change.snapshot.version == running.directory.version()
    assert fresh(site, lambda one: one.directory.open_credential("late").secret) == "sandbox-canary-late"
    assert fresh(site, lambda one: one.directory.verify_audit()[1]) == []
    running.engine.dispose()


def test_what_is_written_at_the_same_moment_is_under_the_key_in_force(site: Site) -> None:
    writer, problems, stop = open_site(site.settings), list[BaseException](), threading.Event()
    made: list[str] = []

    def write() -> None:
        try:
            while not stop.is_set():
                name = f"c{len(made)}"
                writer.directory.add_credential(name, f"sandbox-canary-number-{len(made)}", "up")
                made.append(name)
        except BaseException as error:  # noqa: BLE001 -- told by the test
            problems.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    last = ""
    for _ in range(8):
        before = len(made)
        wait_for(lambda before=before: len(made) >= before + 3 or problems, what="three more credentials")
        last = rotate_master_key(site).new_id
    stop.set()
    thread.join()
    writer.engine.dispose()
    assert problems == []
    assert keys_in_rows(site) == {last}
    for number, name in enumerate(made):
        opened = fresh(site, lambda one, name=name: one.directory.open_credential(name).secret)
        assert opened == f"sandbox-canary-number-{number}"


def test_two_at_once_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real, met = KeyFiles.make_next, list[BaseException]()

    def meanwhile(files: KeyFiles) -> MasterKey:
        try:
            fresh(site, rotate_master_key)
        except RotationRuns as error:
            met.append(error)
        return real(files)

    monkeypatch.setattr(rotation.KeyFiles, "make_next", meanwhile)
    rotate_master_key(site)
    assert len(met) == 1


def test_what_does_not_open_stops_the_rotation_and_is_named(site: Site) -> None:
    before = site.vault.key_id
    with site.engine.begin() as connection:
        connection.execute(update(credentials).values(wrapped_key=b"x" * 60))
    with pytest.raises(SecretUnreadable, match=r"credential 'acme'.*nothing was rotated"):
        rotate_master_key(site)
    owner = find_owner(site.engine)
    assert owner is not None
    assert (owner.key_id, keys_in_rows(site)) == (before, {before})
    open_site(site.settings).engine.dispose()


@pytest.mark.parametrize("text", ["", "zz", "00" * 31])
def test_a_next_key_that_is_none_is_named_and_nothing_is_rotated(site: Site, text: str) -> None:
    path = KeyFiles(site.settings.master_key_file).next_path
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(MasterKeyUnusable, match=r"master\.key\.next"):
        rotate_master_key(site)
    open_site(site.settings).engine.dispose()


@pytest.mark.sqlite
def test_a_backup_from_before_needs_the_old_key_and_the_words_lead_to_it(site: Site, tmp_path: Path) -> None:
    key, file = site.directory.issue_key("acme", "k").text, tmp_path / "b.tar"
    back_up(site, file, with_master_key=False)
    done = rotate_master_key(site)
    with pytest.raises(RestoreRefused, match=r"from before the master key was rotated.*here still") as refused:
        check_backup(site.settings, file)
    command = str(refused.value).split("`")[1]
    assert os.waitstatus_to_exitcode(os.system(command)) == 0  # noqa: S605 -- what the operator is told to type
    assert check_backup(site.settings, file).master_key_id == done.old_id
    site.engine.dispose()
    restore(site.settings, file, replace=True)
    fresh(site, lambda one: works(one.directory, key))
    fresh(site, rotate_master_key)
    fresh(site, lambda one: works(one.directory, key))


@pytest.mark.sqlite
def test_without_the_retired_key_the_refusal_says_that_it_is_needed(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    back_up(site, file, with_master_key=False)
    rotate_master_key(site).retired.unlink()
    with pytest.raises(RestoreRefused, match="A backup from before the master key was rotated needs the key of then"):
        check_backup(site.settings, file)


@pytest.mark.sqlite
@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_backup_holds_the_key_that_its_database_needs(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    key, file = site.directory.issue_key("acme", "k").text, tmp_path / "b.tar"
    if moment == "between":

        def die(*_: object) -> Path:
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(KeyFiles, "take_place", die)
            with pytest.raises(Killed):
                rotate_master_key(site)
    elif moment == "after":
        rotate_master_key(site)
    back_up(site, file, with_master_key=True)
    other = settings_in(tmp_path / "other")
    assert not restore(other, file, replace=False).needs_master_key
    opened = open_site(other)
    works(opened.directory, key)
    opened.engine.dispose()


@pytest.mark.sqlite
def test_a_site_of_an_earlier_version_keeps_every_key_and_can_be_rotated(site: Site) -> None:
    """As it is found after the migration, or after an older backup was restored: nothing derived, nothing bound."""
    master = site.vault.master
    key = "sk-proxy-acme-of-an-earlier-version"
    derived = master.derived_hashing()
    with site.engine.begin() as connection:
        connection.execute(site_secrets.delete())
        connection.exec_driver_sql("UPDATE upstreams SET address_seal = NULL")
        sealed = site.vault.seal(SECRET, connection.execute(select(credentials.c.credential_id)).scalar_one())
        connection.execute(update(credentials).values(wrapped_key=sealed.wrapped_key, ciphertext=sealed.ciphertext))
        digest = digest_key(derived.pepper, TOKEN)
        connection.exec_driver_sql("UPDATE admin_users SET token_digest = ? WHERE name = 'tester'", (digest,))
        connection.execute(update(credentials).values(fingerprint=site.vault.fingerprint("another")))
    old = open_site(site.settings)
    assert old.vault.pepper == derived.pepper
    with old.engine.begin() as connection:
        connection.execute(update(credentials).values(fingerprint=old.vault.fingerprint(SECRET)))
    old.directory.issue_key("acme", "old", text=key)
    works(old.directory, key)
    rotate_master_key(old)
    fresh(site, lambda one: works(one.directory, key))
    old.engine.dispose()


@pytest.mark.sqlite
@pytest.mark.parametrize("number", range(1, 9))
def test_a_rotation_at_any_look_at_the_files_shows_no_foreign_key(
    site: Site, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    looks = 0

    def rotating(path: Path) -> bytes:
        """A whole rotation between what was read before and this file."""
        nonlocal looks
        looks += 1
        if looks == number:
            rotate_master_key(site)
        return load_master_key(path)

    monkeypatch.setattr(key_files, "load_master_key", rotating)
    opened = open_site(site.settings)
    assert opened.directory.open_credential("acme").secret == SECRET
    opened.engine.dispose()
    looks = 0
    said = {one.check: (one.ok, one.found) for one in examine(site.settings) if "key" in one.check}
    assert said["database's master key"][0], said
