"""A snapshot that was followed is the snapshot that would be loaded, and shares with the last what did not change."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, event, update

from tenantry.domain.directory import Snapshot, TenantStatus
from tenantry.domain.limits import Limits
from tenantry.storage import versions
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import Directory, DirectoryError
from tenantry.storage.directory.tenants import TenantChange
from tenantry.storage.snapshot import DirectoryWatch, SnapshotLoader
from tenantry.storage.tables import credentials, directory_changes, meta
from tenantry.storage.vault import Sealed, Vault
from tests.stack import wait_for
from tests.template import new_store
from tests.unit.domain.test_lanes_cost import calls_of

SLUGS = ("a", "b", "c", "d")
TIERS = ("standard", "premium", "own")
STEPS = 300


class CountingVault(Vault):
    """Counts what it opens."""

    opened = 0

    def open(self, sealed: Sealed, context: str, place: str = "") -> str:
        self.opened += 1
        return super().open(sealed, context, place)


VAULT = CountingVault(bytes(32))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "tenantry.db")
    yield made
    made.dispose()


@pytest.fixture
def directory(engine: Engine) -> Directory:
    made = Directory(engine, VAULT, "test")
    made.seed_tiers()
    made.set_tier("own", {"sessions_max": 7})
    made.set_upstream("up", "http://127.0.0.1:1")
    for slug in SLUGS[:2]:
        made.create_tenant(slug, slug, "standard")
        made.add_credential(slug, f"secret-of-{slug}", "up")
        made.bind_credential(slug, slug)
        made.issue_key(slug, "first")
    return made


def loader_of(engine: Engine) -> SnapshotLoader:
    loader = SnapshotLoader(engine, VAULT)
    loader.load()
    return loader


class Changes:
    """One change of each kind, of random things."""

    def __init__(self, directory: Directory, chance: random.Random) -> None:
        self.directory = directory
        self.chance = chance
        self._numbers = itertools.count()
        self.names = sorted(name for name in dir(self) if name.startswith("do_"))

    def one(self) -> str:
        name = self.chance.choice(self.names)
        try:
            getattr(self, name)()
        except DirectoryError:
            return f"{name} refused"
        return name

    def slug(self) -> str:
        return self.chance.choice(SLUGS)

    def key(self) -> str:
        return self.chance.choice([row.key_id for row in self.directory.list_keys()] or ["key_none"])

    def secret(self) -> str:
        return f"another-secret-{next(self._numbers)}"

    def credential(self) -> str:
        return self.chance.choice([row.name for row in self.directory.list_credentials()] or ["none"])

    def sessions(self) -> dict[str, int]:
        return {"sessions_max": self.chance.randint(1, 40)}

    def do_create(self) -> None:
        self.directory.create_tenant(self.slug(), "made", self.chance.choice(TIERS))

    def do_set(self) -> None:
        change = TenantChange(self.chance.choice((None, *TIERS)), self.sessions(), contact="x@example.com")
        self.directory.set_tenant(self.slug(), change)

    def do_inherit(self) -> None:
        self.directory.set_tenant(self.slug(), TenantChange(inherit=["sessions_max"], disconnect="cancel"))

    def do_describe(self) -> None:
        self.directory.set_tenant(self.slug(), TenantChange(name=f"n{next(self._numbers)}", offboard="delete"))

    def do_status(self) -> None:
        self.directory.set_tenant_status(self.slug(), self.chance.choice(tuple(TenantStatus)))

    def do_contact(self) -> None:
        self.directory.set_tenant(self.slug(), TenantChange(contact=f"c{next(self._numbers)}"))

    def do_hosts(self) -> None:
        names = self.chance.sample(("a.example", "b.example", "c.example"), self.chance.randint(0, 2))
        self.directory.set_tenant(self.slug(), TenantChange(hosts=names))

    def do_offboard(self) -> None:
        self.directory.offboard_tenant(self.slug(), self.chance.random() < 0.5)

    def do_roll_back(self) -> None:
        slug = self.slug()
        own = self.directory.add_credential(f"own-{next(self._numbers)}", self.secret(), "up")
        self.directory.remove_tenant(slug, own, "a reason")

    def do_issue(self) -> None:
        limits = self.chance.choice(({}, {"sessions_max": 1}))
        self.directory.issue_key(self.slug(), "k", now_utc() + timedelta(days=1), limits)

    def do_slot(self) -> None:
        slug, name, limits = self.slug(), self.chance.choice("xy"), self.chance.choice(({}, {"sessions_max": 1}))
        with contextlib.suppress(DirectoryError):
            self.directory.add_slot(slug, name, limits)
        self.directory.issue_key(slug, "k", slot=name)

    def do_set_slot(self) -> None:
        self.directory.set_slot(self.slug(), self.chance.choice("xy"), self.sessions(), None)

    def do_remove_slot(self) -> None:
        self.directory.remove_slot(self.slug(), self.chance.choice("xy"))

    def do_rotate(self) -> None:
        self.directory.rotate_key(self.key(), now_utc() + timedelta(hours=1))

    def do_set_key(self) -> None:
        self.directory.set_key(self.key(), None, None, {"sessions_max": 1})

    def do_revoke(self) -> None:
        self.directory.revoke_key(self.key())

    def do_tier(self) -> None:
        self.directory.set_tier(self.chance.choice(TIERS), self.sessions())

    def do_put_tier(self) -> None:
        self.directory.put_tier(self.chance.choice(TIERS), Limits(sessions_max=self.chance.randint(1, 40)))

    def do_upstream(self) -> None:
        self.directory.set_upstream("up", f"http://127.0.0.1:{self.chance.randint(1, 9)}")

    def do_other_upstream(self) -> None:
        self.directory.set_upstream(f"up{next(self._numbers)}", "http://127.0.0.1:1")

    def do_add_credential(self) -> None:
        self.directory.add_credential(f"c{next(self._numbers)}", self.secret(), "up", shared=True)

    def do_replace(self) -> None:
        self.directory.replace_secret(self.credential(), self.secret())

    def do_move(self) -> None:
        upstreams = [row.name for row in self.directory.list_upstreams()]
        self.directory.move_credential(self.credential(), self.chance.choice(upstreams))

    def do_workspace(self) -> None:
        self.directory.set_workspace(self.credential(), f"wrkspc_{next(self._numbers)}")

    def do_share(self) -> None:
        self.directory.share_credential(self.credential())

    def do_bind(self) -> None:
        as_fallback = self.chance.random() < 0.5
        self.directory.bind_credential(self.slug(), self.credential(), declare_shared=True, as_fallback=as_fallback)

    def do_release(self) -> None:
        self.directory.release_credential(self.slug())

    def do_drop_fallback(self) -> None:
        self.directory.drop_fallback(self.slug())

    def do_remove_credential(self) -> None:
        self.directory.remove_credential(self.credential())

    def do_budget(self) -> None:
        self.directory.set_budgets(self.slug(), {"day": self.chance.choice((None, 5_000_000_000))}, "soft")

    def do_key_budget(self) -> None:
        for key in self.directory.list_keys()[:1]:
            self.directory.set_budgets(key.slug, {"month": next(self._numbers) + 1}, key_id=key.key_id)

    def do_raise(self) -> None:
        self.directory.raise_budget(self.slug(), "day", 1_000_000_000, now_utc() + timedelta(days=1))

    def do_plan(self) -> None:
        self.directory.put_plan("studio", {"fee_usd": str(next(self._numbers))})

    def do_thresholds(self) -> None:
        self.directory.set_thresholds(self.slug(), [self.chance.randint(1, 90)])

    def do_many(self) -> None:
        """Several in one transaction, or none of them."""
        with self.directory.transaction() as directory:
            inner = Changes(directory, self.chance)
            inner._numbers = self._numbers
            for name in self.chance.sample([name for name in self.names if name != "do_many"], 3):
                getattr(inner, name)()


def differing(before: dict[str, object], after: dict[str, object]) -> set[str]:
    return {one for one in before.keys() | after.keys() if before.get(one) is not after.get(one)}


def assert_follows(loader: SnapshotLoader, before: Snapshot, engine: Engine, why: str) -> Snapshot:
    change = loader.follow()
    after = change.snapshot
    assert after == SnapshotLoader(engine, VAULT).load(), why
    assert change.tenants == differing({**before.tenants}, {**after.tenants}), why
    assert change.keys == {
        one for one in before.keys.keys() | after.keys.keys() if before.keys.get(one) is not after.keys.get(one)
    }, why
    # What is equal is the same, down to the parts that a gateway compares.
    for tenant_id, tenant in after.tenants.items():
        known = before.tenants.get(tenant_id)
        if known is not None:
            assert (known == tenant) is (known is tenant), why
            for part in ("limits", "budget", "credential", "fallback"):
                then, now = getattr(known, part), getattr(tenant, part)
                assert then != now or then is now, (why, part)
    for digest, key in after.keys.items():
        known_key = before.keys.get(digest)
        assert known_key != key or known_key is key, why
    return after


@pytest.mark.sqlite
@pytest.mark.parametrize("seed", [1, 2, None])
def test_after_any_changes_what_was_followed_is_what_would_be_loaded(
    engine: Engine, directory: Directory, seed: int | None
) -> None:
    seed = random.randrange(1 << 32) if seed is None else seed
    print(f"seed {seed}")
    chance = random.Random(seed)
    changes = Changes(directory, chance)
    loader = SnapshotLoader(engine, VAULT)
    snapshot = loader.load()
    for step in range(STEPS):
        done = [changes.one() for _ in range(chance.randint(0, 3))]
        snapshot = assert_follows(loader, snapshot, engine, f"seed {seed}, step {step}: {done}")


def read_whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each time that the whole directory is read."""
    told: list[str] = []
    whole: Callable[..., object] = SnapshotLoader._whole  # pyright: ignore[reportPrivateUsage] -- watched, not used

    def watched(*arguments: object) -> object:
        told.append("whole")
        return whole(*arguments)

    monkeypatch.setattr(SnapshotLoader, "_whole", watched)
    return told


def test_a_change_of_one_tenant_reads_that_tenant_only(
    engine: Engine, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = loader_of(engine)
    told = read_whole(monkeypatch)
    directory.set_tenant_status("a", TenantStatus.DISABLED)
    change = loader.follow()
    assert change.tenants == {directory.get_tenant("a").tenant_id}
    assert change.keys == set()
    assert told == []


def test_provisioning_one_tenant_costs_the_same_beside_two_and_beside_hundreds(
    engine: Engine, directory: Directory
) -> None:
    def provision(slug: str) -> int:
        with directory.transaction() as several:
            several.create_tenant(slug, slug, "own")
            several.add_credential(slug, f"secret-of-{slug}", "up")
            several.bind_credential(slug, slug)
            several.issue_key(slug, "first")
        return calls_of(loader.follow)

    loader = loader_of(engine)
    provision("warm")
    few = provision("one")
    with directory.transaction() as several:
        for number in range(400):
            several.create_tenant(f"t{number}", "T", "standard")
    loader.follow()
    assert provision("two") <= few + 20


def test_nothing_changed_is_told_as_nothing(engine: Engine, directory: Directory) -> None:
    loader = loader_of(engine)
    before = loader.follow().snapshot
    directory.put_plan("studio", {})
    change = loader.follow()
    assert (change.tenants, change.keys) == (set(), set())
    assert change.snapshot.version == before.version + 1


def test_the_first_time_everything_may_differ(engine: Engine, directory: Directory) -> None:
    change = SnapshotLoader(engine, VAULT).follow()
    assert (change.tenants, change.keys) == (None, None)
    assert len(change.snapshot.tenants) == 2


def test_a_secret_that_did_not_change_is_not_opened_again(engine: Engine, directory: Directory) -> None:
    loader = loader_of(engine)
    opened = VAULT.opened
    directory.set_tenant("a", TenantChange(limits={"sessions_max": 3}))
    directory.set_upstream("up", "http://127.0.0.1:1", answer_seconds=7)
    loader.follow()
    loader.load()
    assert VAULT.opened == opened
    directory.set_upstream("up", "http://127.0.0.1:2")  # sealed anew for it
    loader.follow()
    assert VAULT.opened == opened + 2
    opened += 2
    directory.replace_secret("a", "secret-number-two")
    loader.follow()
    assert VAULT.opened == opened + 1


@pytest.mark.parametrize("what", ["rows dropped", "a program that writes none", "more than is read one by one"])
def test_what_is_not_known_is_read_whole_and_told_exactly(
    engine: Engine, directory: Directory, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    loader = SnapshotLoader(engine, VAULT)
    before = loader.load()
    told = read_whole(monkeypatch)
    if what == "more than is read one by one":
        monkeypatch.setattr(versions, "TOUCHED_MAX", 1)
        with directory.transaction() as several:
            for slug in SLUGS[:2]:
                several.set_tenant_status(slug, TenantStatus.DISABLED)
    else:
        for slug in SLUGS[:2]:
            directory.set_tenant_status(slug, TenantStatus.DISABLED)
        first = directory_changes.c.version == before.version + 1
        last = directory_changes.c.version == before.version + 2
        with engine.begin() as connection:
            connection.execute(delete(directory_changes).where(first if what == "rows dropped" else last))
    change = loader.follow()
    assert told == ["whole"]
    assert change.tenants == set(before.tenants)
    assert change.keys == set()


def test_rows_of_old_versions_are_dropped(
    engine: Engine, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "VERSIONS_KEPT", 3)
    for _ in range(9):
        directory.set_upstream("up", f"http://127.0.0.1:{directory.version()}")
    with engine.connect() as connection:
        assert len(connection.execute(directory_changes.select()).all()) == 3


def test_a_secret_that_does_not_open_holds_nobody_up_but_its_own_tenant(engine: Engine, directory: Directory) -> None:
    """Somebody changed a row, or a disk did: revocations of others arrive all the same, now and at the next start."""
    loader = loader_of(engine)
    a, b = (directory.get_tenant(slug).tenant_id for slug in ("a", "b"))
    directory.set_tenant_status("b", TenantStatus.DISABLED)
    directory.replace_secret("a", "secret-number-two")
    with engine.begin() as connection:
        connection.execute(update(credentials).where(credentials.c.name == "a").values(master_key_id="another"))
    change = loader.follow()
    assert change.snapshot.tenants[b].status is TenantStatus.DISABLED
    last = change.snapshot.tenants[a].credential
    assert last is not None
    assert last.secret == "secret-of-a"
    assert "credential 'a'" in loader.closed[0]
    started = loader_of(engine)
    snapshot = started.load()
    assert snapshot.tenants[a].credential is None
    assert snapshot.tenants[b].status is TenantStatus.DISABLED
    assert started.closed == loader.closed
    directory.replace_secret("a", "secret-number-three")
    for one in (loader, started):
        change = one.follow()
        opened = change.snapshot.tenants[a].credential
        assert opened is not None
        assert opened.secret == "secret-number-three"
        assert one.closed == []


def test_a_change_of_a_tier_asks_about_its_keys_once(engine: Engine, directory: Directory) -> None:
    for number in range(30):
        directory.create_tenant(f"t{number}", "T", "standard")
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: asked.append(statement))
    directory.set_tier("standard", {"sessions_max": 9})
    assert len(asked) < 20


def test_a_watch_tells_of_each_change_once_and_of_none_by_others(engine: Engine, directory: Directory) -> None:
    watch = DirectoryWatch(engine)
    assert not watch.changed()
    directory.set_tenant("a", TenantChange(contact="x"))
    wait_for(watch.changed, what="the change being told")
    assert not watch.changed()
    with engine.begin() as connection:  # as the drain does all day
        connection.execute(meta.insert().values(name="else", value="1"))
    assert not watch.changed()
    watch.forget()
    assert watch.changed()
    watch.close()


def test_a_host_that_goes_to_another_tenant_names_that_one(engine: Engine, directory: Directory) -> None:
    directory.set_tenant("a", TenantChange(hosts=["ai.client.example", "old.client.example"]))
    loader = loader_of(engine)
    before = loader.load().hosts
    assert before == {b"ai.client.example": b"a", b"old.client.example": b"a"}
    directory.set_tenant("a", TenantChange(contact="x@example.com"))
    assert loader.follow().snapshot.hosts is before
    with directory.transaction() as both:
        both.set_tenant("a", TenantChange(hosts=["old.client.example"]))
        both.set_tenant("b", TenantChange(hosts=["ai.client.example"]))
    after = loader.follow().snapshot
    assert after.hosts == {b"ai.client.example": b"b", b"old.client.example": b"a"}
    directory.offboard_tenant("b", False)
    directory.offboard_tenant("a", True)
    assert loader.follow().snapshot.hosts == {}


def test_a_host_is_one_tenants(directory: Directory) -> None:
    directory.set_tenant("a", TenantChange(hosts=["ai.client.example"]))
    version = directory.version()
    directory.set_tenant("a", TenantChange(hosts=["ai.client.example"]))
    assert directory.version() == version  # it is so already
    with pytest.raises(DirectoryError, match=r"host ai\.client\.example is a's already"):
        directory.set_tenant("b", TenantChange(hosts=["ai.client.example"]))
    for wrong in (["AI.client.example"], ["ai.client.example."], ["ai.client.example:443"], ["x.example", "x.example"]):
        with pytest.raises(DirectoryError):
            directory.set_tenant("a", TenantChange(hosts=wrong))
    assert directory.get_tenant("a").hosts == ("ai.client.example",)
    assert directory.list_audit(1)[0].detail["after"] == {"hosts": ["ai.client.example"]}
    directory.set_tenant("a", TenantChange(hosts=[]))
    directory.set_tenant("b", TenantChange(hosts=["ai.client.example"]))
    assert directory.find_host("ai.client.example") == "b"


def test_it_says_which_limits_are_a_tenants_and_a_keys_own(engine: Engine, directory: Directory) -> None:
    loader = loader_of(engine)
    for slug in ("plain", "own"):
        directory.create_tenant(slug, slug, "standard")
    directory.set_tenant("own", TenantChange(limits={"sessions_max": 2}))
    directory.issue_key("own", "of a test", limits={"requests_per_minute": 3})
    snapshot = loader.load()
    tenants = {one.slug: one.own_limits for one in snapshot.tenants.values()}
    assert (tenants["plain"], tenants["own"]) == (frozenset(), {"sessions_max"})
    keys = [one.own_limits for one in snapshot.keys.values() if one.limits is not None]
    assert keys == [{"requests_per_minute"}]
