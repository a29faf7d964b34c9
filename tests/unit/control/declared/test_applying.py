"""Apply does exactly what was planned, in one transaction, or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, select, update

from tenantry.control.declared.applying import ApplyRefused, KeysFile, apply_plan, require_same
from tenantry.control.declared.drifting import find_drift
from tenantry.control.declared.exporting import export_tenants
from tenantry.control.declared.model import BadDeclaration
from tenantry.control.declared.planning import make_plan, read_plan, write_plan
from tenantry.control.declared.references import References
from tenantry.control.declared.state import read_standing
from tenantry.control.declared.words import in_words
from tenantry.control.site import Site
from tenantry.domain.directory import TenantStatus
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import LIVE_FILE, LiveFile, LiveHead, LiveHealth, LiveTenant, encode_line
from tenantry.storage.columns import now_utc, utc
from tenantry.storage.directory import DirectoryError
from tenantry.storage.tables import audit_log, gateway_keys
from tests.spawner import run, spawn
from tests.unit.control.declared.sites import ACME, SECRETS, applied, declare, left, new_site, planned, references

# A big and a small file: killed anywhere between, the store is what one of them says.
MANY = "".join(
    f'[tenants.t{n}]\nname = "T"\ncredential = "env:KEY_{n}"\n[tenants.t{n}.keys.a]\n'
    f'[tenants.t{n}.budget]\nday_usd = "5"\n'
    for n in range(60)
)
MANY_SECRETS = {f"KEY_{n}": f"sk-ant-api03-many-{n}" for n in range(60)}
KILLS = 8


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = new_site(tmp_path)
    yield made
    made.engine.dispose()


def test_applying_again_changes_nothing(site: Site, tmp_path: Path) -> None:
    done = applied(site, tmp_path, ACME)
    assert [key.label for key in done.keys] == ["signing secret of env:HOOK", "production"]
    assert left(site, tmp_path, ACME) == []
    assert site.directory.has_key(SECRETS["OLD_KEY"])  # taken over, working, and not shown again
    version = site.directory.version()
    assert applied(site, tmp_path, ACME).keys == []
    assert site.directory.version() == version


def test_a_plan_can_be_made_without_the_secrets_and_apply_names_all_that_are_missing(
    site: Site, tmp_path: Path
) -> None:
    plan = make_plan(site, declare(site, tmp_path, ACME), References({}))
    assert set(plan.missing) == {"env:ACME_KEY", "env:OLD_KEY", "env:HOOK"}
    with pytest.raises(ApplyRefused) as caught:
        apply_plan(site, plan, References({}), keys_out=None, statements=tmp_path)
    assert all(name in str(caught.value) for name in ("ACME_KEY", "OLD_KEY", "HOOK"))
    assert site.directory.list_tenants() == []


def test_a_secret_that_changed_is_a_rotation(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, ACME)
    assert left(site, tmp_path, ACME, ACME_KEY="sk-ant-api03-another-one") == [
        ("credential.rotate", "acme", "credential")
    ]
    applied(site, tmp_path, ACME, ACME_KEY="sk-ant-api03-another-one")
    assert site.directory.open_credential("acme").secret == "sk-ant-api03-another-one"
    assert left(site, tmp_path, ACME, ACME_KEY="sk-ant-api03-another-one") == []


def test_another_url_behind_a_reference_replaces_the_one_of_the_target(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, ACME)
    other = "http://127.0.0.1:9/other"
    assert left(site, tmp_path, ACME, HOOK=other) == [("target.replace", "acme", "env:HOOK")]
    assert applied(site, tmp_path, ACME, HOOK=other).keys == []  # its signing secret stays
    assert site.directory.open_alert_target("acme env:HOOK").url == other
    assert left(site, tmp_path, ACME, HOOK=other) == []
    with pytest.raises(DirectoryError, match="no URL that alerts can go to"):
        applied(site, tmp_path, ACME, HOOK="nonsense")


def test_a_state_that_moved_refuses_the_plan_and_names_who_moved_it(site: Site, tmp_path: Path) -> None:
    plan = planned(site, tmp_path, ACME)
    site.directory.acting_as("cli:bob@ops", "ops").create_tenant("other", "Other", "standard")
    with pytest.raises(ApplyRefused, match=r"moved[\s\S]*tenant\.create other by cli:bob@ops"):
        apply_plan(site, plan, references(), keys_out=None, statements=tmp_path)
    assert [row.slug for row in site.directory.list_tenants()] == ["other"]


def test_a_plan_in_a_file_is_that_plan_or_refused(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    plan = planned(site, tmp_path, ACME)
    write_plan(plan, file)
    assert "canary" not in file.read_text()
    declared, made = read_plan(file, site)
    again = make_plan(site, declared, references())
    require_same(again, made, site.directory)
    document = json.loads(file.read_text())
    document["documents"][str(tmp_path / "tenants.toml")]["tenants"]["acme"]["tier"] = "enterprise"
    file.write_text(json.dumps(document))
    declared, made = read_plan(file, site)
    with pytest.raises(ApplyRefused, match="another now"):
        require_same(make_plan(site, declared, references()), made, site.directory)
    for text in ("", "[]", "{}", '{"tenantry_plan": 1}', '{"tenantry_plan": 2}'):
        file.write_text(text)
        with pytest.raises(BadDeclaration):
            read_plan(file, site)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ('tier = "glod"', "no tier 'glod'; did you mean 'gold'"),
        ('plan = "studo"', "no plan 'studo'; did you mean 'studio'"),
        ('credential = "vault:nobody"', "no credential 'nobody'"),
        ('upstream = "antropic"', "no upstream 'antropic'; did you mean 'anthropic'"),
        ("keys = { a = { limits = { requests_per_minute = 900 } } }", "cannot be above"),
        ('credential = "env:ACME_KEY"', "would serve beta and acme"),
    ],
)
def test_what_only_the_store_can_tell_is_a_problem_with_its_line(
    site: Site, tmp_path: Path, block: str, message: str
) -> None:
    with pytest.raises(BadDeclaration, match=r"tenants\.toml:") as caught:
        planned(site, tmp_path, f'{ACME}\n[tenants.beta]\nname = "Beta"\n{block}\n')
    assert message in str(caught.value)


def test_a_credential_is_shared_only_when_it_is_declared(site: Site, tmp_path: Path) -> None:
    both = "".join(
        f'[tenants.{slug}]\nname = "x"\ncredential = "env:ACME_KEY"\nshared_credential = true\n' for slug in ("a", "b")
    )
    applied(site, tmp_path, both)
    assert left(site, tmp_path, both) == []
    assert {row.credential for row in site.directory.list_tenants()} == {"a"}


def test_two_tenants_can_swap_their_credentials(site: Site, tmp_path: Path) -> None:
    text = '[tenants.a]\nname="A"\ncredential="env:ACME_KEY"\n[tenants.b]\nname="B"\ncredential="env:BETA_KEY"\n'
    applied(site, tmp_path, text)
    names = {row.slug: row.credential for row in site.directory.list_tenants()}
    swapped = text.replace("ACME", "X").replace("BETA", "ACME").replace("X_", "BETA_")
    applied(site, tmp_path, swapped)
    assert left(site, tmp_path, swapped) == []
    assert {row.slug: row.credential for row in site.directory.list_tenants()} == {"a": names["b"], "b": names["a"]}


def test_one_key_under_two_references_is_refused(site: Site, tmp_path: Path) -> None:
    text = '[tenants.a]\nname="A"\ncredential="env:ACME_KEY"\n[tenants.b]\nname="B"\ncredential="env:BETA_KEY"\n'
    with pytest.raises(DirectoryError, match="write env:ACME_KEY in both"):
        applied(site, tmp_path, text, BETA_KEY=SECRETS["ACME_KEY"])
    assert site.directory.list_tenants() == []


def test_keys_are_left_alone_where_the_file_has_none(site: Site, tmp_path: Path) -> None:
    text = '[tenants.acme]\nname = "Acme"\n'
    done = applied(site, tmp_path, text)
    assert [key.label for key in done.keys] == ["first key"]  # a new tenant can do nothing without one
    site.directory.issue_key("acme", "by hand")
    assert left(site, tmp_path, text) == []
    assert left(site, tmp_path, text + "[tenants.acme.keys]\n") == [
        ("key.revoke", "acme", "first key"),
        ("key.revoke", "acme", "by hand"),
    ]


def test_a_key_that_is_due_is_replaced_and_the_old_one_goes_on_for_a_week(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, ACME)
    with site.engine.begin() as connection:
        connection.execute(update(gateway_keys).values(created_at=now_utc() - timedelta(days=91)))
    assert left(site, tmp_path, ACME) == [("key.rotate", "acme", "production")]
    assert [key.label for key in applied(site, tmp_path, ACME).keys] == ["production"]
    assert left(site, tmp_path, ACME) == []
    with site.engine.connect() as connection:
        old = connection.execute(select(gateway_keys).where(gateway_keys.c.replaced_by.is_not(None))).one()
    assert timedelta(days=6) < utc(old.expires_at) - now_utc() < timedelta(days=8)


def test_leaving_revokes_states_and_keeps_or_deletes_as_declared(site: Site, tmp_path: Path) -> None:
    text = ACME + '[tenants.beta]\nname = "Beta"\noffboard = "delete"\ncredential = "env:BETA_KEY"\n'
    applied(site, tmp_path, text)
    kept = text[: text.index("[tenants.acme]")]
    with pytest.raises(BadDeclaration, match="declares no tenant"):
        planned(site, tmp_path, kept)
    done = applied(site, tmp_path, kept + "[tenants]\n")
    assert sorted(path.name.rsplit("-", 3)[0] for path in done.statements) == ["acme", "beta"]
    statement = next(path for path in done.statements if "acme" in path.name)
    assert statement.stat().st_mode & 0o777 == 0o600
    assert "Closing statement: Acme GmbH" in statement.read_text()
    assert [(row.slug, row.status) for row in site.directory.list_tenants()] == [("acme", "disabled")]
    assert {row.status for row in site.directory.list_keys()} == {"revoked"}
    assert site.directory.list_credentials() == []  # they came from outside and can come again
    assert left(site, tmp_path, kept + "[tenants]\n") == []
    back = applied(site, tmp_path, ACME.replace('digest_of = "env:OLD_KEY"', ""))
    assert [key.label for key in back.keys if key.key_id] == ["production", "old"]


def test_a_slug_that_leaves_twice_on_a_day_has_two_closing_statements(site: Site, tmp_path: Path) -> None:
    beta = '[tenants.beta]\nname = "Beta {}"\noffboard = "delete"\ncredential = "env:BETA_KEY"\n'
    written: list[Path] = []
    for number in (1, 2, 3):
        applied(site, tmp_path, ACME + beta.format(number))
        written += applied(site, tmp_path, ACME.replace('digest_of = "env:OLD_KEY"', "")).statements
    assert len(set(written)) == 3
    assert [path.read_text().splitlines()[0][-6:] for path in written] == ["Beta 1", "Beta 2", "Beta 3"]
    assert written[1].stem == f"{written[0].stem}-2"


def test_an_apply_that_is_refused_leaves_no_closing_statement(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, ACME + '[tenants.beta]\nname = "Beta"\n')
    plan = planned(site, tmp_path, ACME)
    site.directory.create_tenant("meanwhile", "Meanwhile", "standard")
    with pytest.raises(ApplyRefused, match="moved"):
        apply_plan(site, plan, references(), keys_out=None, statements=tmp_path / "statements")
    assert list((tmp_path / "statements").iterdir()) == []


@pytest.mark.parametrize("fallback", ["env:ACME_KEY", "vault:acme", "env:BETA_KEY"])
def test_a_fallback_that_is_the_credential_itself_is_told_by_the_plan(
    site: Site, tmp_path: Path, fallback: str
) -> None:
    secrets = {"BETA_KEY": SECRETS["ACME_KEY"]}
    if fallback.startswith("vault:"):
        applied(site, tmp_path, ACME)
    text = ACME.replace("credential =", f'fallback = "{fallback}"\ncredential =')
    with pytest.raises(BadDeclaration, match=rf"tenants.toml:\d+: the fallback {fallback} is the credential"):
        planned(site, tmp_path, text, **secrets)


def test_limits_that_allow_everything_are_shown_as_every_one_and_exported_so(site: Site, tmp_path: Path) -> None:
    text = ACME.replace('models = ["claude-haiku-*"]', 'models = ["claude-haiku-*"]\nserver_tools = ["web_search_*"]')
    applied(site, tmp_path, text)
    wide = text.replace('["claude-haiku-*"]', '["*"]').replace('server_tools = ["web_search_*"]', "")
    words = [in_words(change) for change in planned(site, tmp_path, wide).changes]
    assert words == ["tenant acme: limits: models claude-haiku-* -> every one, server tools web_search_* -> not set"]
    applied(site, tmp_path, wide)
    exported = export_tenants(read_standing(site.directory), site.settings.zone, now_utc())
    assert 'models = ["*"]' in exported
    assert left(site, tmp_path, exported) == []


def test_a_tier_that_is_in_use_cannot_be_removed(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, ACME)
    without = ACME[ACME.index("[plans.studio]") :]
    with pytest.raises(BadDeclaration, match="tier 'gold' is no longer declared, but acme has it"):
        planned(site, tmp_path, without)


def test_a_tenant_that_was_never_declared_is_left_alone(site: Site, tmp_path: Path) -> None:
    site.directory.create_tenant("by-hand", "By hand", "standard")
    applied(site, tmp_path, ACME)
    assert [row.slug for row in site.directory.list_tenants()] == ["acme", "by-hand"]


def test_an_export_is_a_file_that_has_nothing_to_do(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, ACME)
    site.directory.set_tier("standard", {"sessions_max": 7})
    text = export_tenants(read_standing(site.directory), site.settings.zone, now_utc())
    assert "canary" not in text
    changes = planned(site, tmp_path, text).changes
    assert [in_words(change) for change in changes] == ["tier standard: is declared from now on"]
    applied(site, tmp_path, text)
    assert left(site, tmp_path, text) == []


def test_money_and_running_requests_are_told(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, ACME)
    tenant_id = site.directory.get_tenant("acme").tenant_id
    writer = JournalWriter(site.settings.journal_dir, "gw-1")
    file = LiveFile(writer.folder / LIVE_FILE)
    uses = {tenant_id: encode_line(LiveTenant(tenant_id, time.time(), 12))}
    file.write(LiveHead(time.time(), LiveHealth()), uses)
    text = ACME.replace("sessions_max = 20", "sessions_max = 6").replace('"50.00"', '"80.00"')
    plan = planned(site, tmp_path, text)
    assert any("12 requests in flight now, the new limit is 6" in line for line in plan.sessions)
    assert "Budgets a month: $50.00 -> $80.00 (+$30.00)" in list(plan.money.words())
    gone = planned(site, tmp_path, ACME.replace("[tenants.acme]\n", '[tenants.acme]\nstatus = "disabled"\n'))
    assert any("cut off" in line for line in gone.sessions)
    assert "Plan fees a month: $179.00 -> $0.00 (-$179.00)" in list(gone.money.words())
    file.write(LiveHead(0.0, LiveHealth()), {})
    file.close()
    for text in (None, "", "[]\n", '{"line": "head", "at": "x"}\n'):
        if text is not None:
            (writer.folder / LIVE_FILE).write_text(text)
        assert planned(site, tmp_path, ACME.replace("max = 20", "max = 6")).sessions == []
    writer.close()


def test_drift_names_each_change_by_hand_with_who_and_when(site: Site, tmp_path: Path) -> None:
    applied(site, tmp_path, ACME)
    assert list(find_drift(planned(site, tmp_path, ACME), site.directory)) == []
    bob = site.directory.acting_as("cli:bob@ops", "ops")
    bob.set_tenant_status("acme", TenantStatus.DISABLED)
    bob.set_budgets("acme", {"month": 70 * 10**9})
    bob.issue_key("acme", "extra")
    key_id = next(row.key_id for row in bob.list_keys("acme") if row.label == "old")
    bob.revoke_key(key_id)
    bob.replace_secret("acme", "sk-ant-api03-by-hand")
    bob.set_tier("gold", {"sessions_max": 30})
    bob.create_tenant("stray", "Stray", "standard")
    bob.set_thresholds("acme", [90])
    found = list(find_drift(planned(site, tmp_path, ACME), site.directory))
    assert {one.actor for one in found} == {"cli:bob@ops"}
    assert all(one.at for one in found)
    told = "\n".join(one.text for one in found)
    for words in (
        "status: active -> disabled",
        "budget a month: $50.00 -> $70.00",
        "key 'extra'",
        "key 'old' is missing",
        "credential: env:ACME_KEY -> vault:acme",
        "tier gold: sessions max 20 -> 30",
        "tenant stray is not in the file",
        "thresholds: 50 100 -> 90",
    ):
        assert words in told, words
    assert len(found) == 8
    waiting = list(find_drift(planned(site, tmp_path, ACME.replace("ops@", "new@")), site.directory))
    assert [one.actor for one in waiting if "contact" in one.text] == [None]


def test_new_keys_go_to_a_file_that_only_its_owner_reads(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "keys.jsonl"
    plan = planned(site, tmp_path, ACME)
    apply_plan(site, plan, references(), keys_out=out, statements=tmp_path)
    assert out.stat().st_mode & 0o777 == 0o600
    entries = [json.loads(line) for line in out.read_text().splitlines()]
    assert site.directory.has_key(next(one["key"] for one in entries if one["label"] == "production"))
    with pytest.raises(ApplyRefused, match="exists"):
        apply_plan(site, plan, references(), keys_out=out, statements=tmp_path)


def test_a_keys_file_that_cannot_be_written_keeps_everything_as_it_was(site: Site, tmp_path: Path) -> None:
    plan = planned(site, tmp_path, ACME)
    with pytest.raises(ApplyRefused, match="nothing was changed"):
        apply_plan(site, plan, references(), keys_out=tmp_path / "missing" / "keys.jsonl", statements=tmp_path)
    assert site.directory.list_tenants() == []
    assert site.directory.version() == plan.standing.version


def test_keys_of_an_apply_that_died_are_rescued_or_forgotten(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "keys.jsonl.part"
    part.write_text('{"key": "sk-proxy-acme-of-a-rolled-back-apply"}\n')
    plan = planned(site, tmp_path, ACME)
    apply_plan(site, plan, references(), keys_out=tmp_path / "keys.jsonl", statements=tmp_path)
    (tmp_path / "keys.jsonl").rename(part)
    plan = planned(site, tmp_path, ACME)
    with pytest.raises(ApplyRefused, match="interrupted"):
        apply_plan(site, plan, references(), keys_out=tmp_path / "keys.jsonl", statements=tmp_path)
    assert part.exists()


def test_a_kill_between_commit_and_rename_is_told_by_the_next_apply_whatever_it_names(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_file: KeysFile) -> None:
        raise KeyboardInterrupt

    plan = planned(site, tmp_path, ACME)
    with monkeypatch.context() as patched:
        patched.setattr(KeysFile, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            apply_plan(site, plan, references(), keys_out=tmp_path / "keys.jsonl", statements=tmp_path)
    part = tmp_path / "keys.jsonl.part"
    (tmp_path / "tenants.toml").write_text(ACME)
    for words in ((), ("--keys-out", "keys.jsonl"), ("--keys-out", "others.jsonl")):
        told = run("apply", "tenants.toml", "--yes", *words, env=_environ(site) | SECRETS, cwd=tmp_path)
        assert told.returncode == 1
        assert f"they work, and are in {part}: move that file" in told.stderr
    part.rename(tmp_path / "mine.jsonl")
    told = run("apply", "tenants.toml", "--yes", env=_environ(site) | SECRETS, cwd=tmp_path)
    assert (told.returncode, "Nothing to do" in told.stdout) == (0, True)
    assert site.directory.find_left_file() is None


APPLY = ("apply", "many.toml", "--yes", "--no-probe")


def _environ(site: Site) -> dict[str, str]:
    where = {"TENANTRY_DATA_DIR": str(site.settings.data_dir), "TENANTRY_STORE_URL": site.settings.store_url}
    return os.environ | MANY_SECRETS | where


@pytest.mark.sqlite  # slow, and of one transaction, which the tests of both databases are about
def test_killed_at_any_moment_all_of_it_stands_or_nothing(site: Site, tmp_path: Path) -> None:
    chance = random.Random(5)
    outcomes: set[int] = set()
    (tmp_path / "many.toml").write_text(MANY)
    started = time.monotonic()
    assert run(*APPLY, env=_environ(site), cwd=tmp_path).returncode == 0
    seconds = time.monotonic() - started
    for kill in range(KILLS):
        small = kill % 2 == 0
        (tmp_path / "many.toml").write_text("[tenants]\n" if small else MANY.replace('"T"', f'"T{kill}"'))
        before = {row.name for row in site.directory.list_tenants() if row.status == "active"}
        process = spawn(*APPLY, env=_environ(site), cwd=tmp_path)
        time.sleep(chance.uniform(0.5, 1.0) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        rows = [row for row in site.directory.list_tenants() if row.status == "active"]
        assert len(rows) in (0, 60), f"kill {kill}: {len(rows)} tenants"
        assert len({row.name for row in rows}) <= 1
        keys = [row for row in site.directory.list_keys() if row.status == "active"]
        assert len(keys) == len(rows)
        assert site.directory.verify_audit()[1] == []
        outcomes.add({row.name for row in rows} == before)
    print("kept before and after:", outcomes)


def test_of_two_applies_at_once_one_wins_and_the_other_says_why(site: Site, tmp_path: Path) -> None:
    (tmp_path / "many.toml").write_text(MANY)
    with ThreadPoolExecutor(2) as both:
        asked = [both.submit(run, *APPLY, env=_environ(site), cwd=tmp_path) for _ in range(2)]
        ended = [one.result() for one in asked]
    codes = sorted(one.returncode for one in ended)
    assert codes in ([0, 1], [0, 0])  # the second may have come after the first had ended: nothing to do
    for one in ended:
        if one.returncode == 1:
            assert "the state moved since the plan" in one.stderr
        assert "Traceback" not in one.stderr
        assert "Applied." in one.stdout or one.returncode == 1 or "Nothing to do" in one.stdout
    assert len(site.directory.list_tenants()) == 60
    assert site.directory.verify_audit()[1] == []
    with site.engine.connect() as connection:
        assert len(connection.execute(select(audit_log).where(audit_log.c.action == "apply.done")).all()) == 1


@contextlib.contextmanager
def counted(site: Site) -> Iterator[list[str]]:
    """The statements that the store is sent meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(site.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(site.engine, "before_cursor_execute", note)


def test_ten_times_as_many_tenants_are_planned_with_as_many_statements_and_applied_with_ten_times_as_many(
    tmp_path: Path,
) -> None:
    planning: list[int] = []
    applying: list[int] = []
    for count in (20, 200):
        folder = tmp_path / str(count)
        folder.mkdir()
        site = new_site(folder)
        secrets = {f"KEY_{n}": f"sk-ant-api03-many-{n}" for n in range(count)}
        text = "".join(
            f'[tenants.t{n}]\nname = "T{n}"\ncredential = "env:KEY_{n}"\n[tenants.t{n}.keys.a]\n[tenants.t{n}.budget]\n'
            'month_usd = "50.00"\n'
            for n in range(count)
        )
        with counted(site) as sent:
            plan = planned(site, folder, text, **secrets)
        planning.append(len(sent))
        with counted(site) as sent:
            apply_plan(site, plan, references(**secrets), keys_out=None, statements=folder)
        applying.append(len(sent))
        assert left(site, folder, text, **secrets) == []
        site.engine.dispose()
    assert planning[1] == planning[0]
    assert applying[1] <= 10 * applying[0]
