"""Tokens, people, portals, alerts, the audit log and what takes long: through `--server` as on the store itself."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, update

from tenantry.control.live_check import LiveCheck
from tenantry.domain.alerts import Alert, AlertKind
from tenantry.domain.roles import Role
from tenantry.ledger.outbox import Outbox
from tenantry.storage.cell_tables import cells
from tenantry.storage.cells import CellStore
from tests.unit.cli.remote.control import listening
from tests.unit.cli.remote.ways import changed_alike, make, read_alike, refused_alike, run
from tests.unit.web.api_asks import prepare_cluster
from tests.unit.web.api_site import Served

READ = [
    "keys admin list",
    "keys people list",
    "tenants portal list acme",
    "alerts list",
    "alerts list --tenant acme --most 1",
    "alerts targets list",
    "alerts targets list --tenant acme",
    "alerts thresholds acme",
    "gateways list",
    "cells list",
    "controls list",
    "audit --tenant acme",
    "audit --since 2020-01-01",
    "audit --verify",
]
WRITTEN = [
    "keys admin create books --role billing --tenant acme --tenant globex",
    "keys admin create monitoring --role viewer --expires-days 90 --json",
    "keys admin rotate books",
    "keys admin rotate books --grace 24h --json",
    "keys admin rotate monitoring --expires-days 3",
    "keys admin revoke books --yes",
    "keys people link",
    "keys people invite ben --role viewer --tenant acme --email b@a.example",
    "keys people invite cleo --role owner --json",
    "keys people link ben",
    "keys people change ana --role billing --tenant acme --tenant globex",
    "keys people change ben --role viewer --email ''",
    "keys people disable ana --yes",
    "keys people enable ana",
    "keys people reset-totp ana --yes",
    "keys people delete cleo --yes",
    "keys people list",
    "tenants portal link acme",
    "tenants portal link acme --days 7 --no-invoices --json",
    "tenants portal set acme --rotate",
    "tenants portal set acme --password-env WORDS",
    "tenants portal set acme --no-password --no-rotate",
    "tenants portal revoke acme {portal}",
    "tenants portal revoke acme --all",
    "tenants portal list acme",
    "alerts targets add hook --webhook-env HOOK --tenant acme --kinds budget_threshold",
    "alerts targets add by/ops --webhook https://hook.invalid/x",
    "alerts targets list",
    "alerts targets remove by/ops --yes",
    "alerts thresholds acme 50,80,100",
    "alerts thresholds acme none",
    "alerts thresholds acme default",
    "gateways forget gateway-ended --yes",
    "gateways forget gateway-ended --yes --json",
    "gateways list",
]
REFUSED = [
    "keys admin create owner",
    "keys admin create 'two words'",
    "keys admin create books --tenant nobody",
    "keys admin rotate nothing",
    "keys admin rotate owner --grace long",
    "keys admin revoke nothing --yes",
    "keys admin revoke owner",
    "keys people link nobody",
    "keys people invite ana --role viewer",
    "keys people invite 'Not A Name' --role viewer",
    "keys people invite ben --role viewer --tenant nobody",
    "keys people invite ben --role owner --tenant acme",
    "keys people invite ben --role viewer --email ben",
    "keys people change nobody --role viewer",
    "keys people disable nobody --yes",
    "keys people enable nobody",
    "keys people reset-totp nobody --yes",
    "keys people delete nobody --yes",
    "keys people delete ana",
    "tenants portal link nobody",
    "tenants portal list nobody",
    "tenants portal revoke acme",
    "tenants portal revoke acme ptl_nothing",
    "tenants portal set acme",
    "tenants portal set acme --password-env EMPTY",
    "tenants portal set nobody --rotate",
    "alerts list --tenant nobody",
    "alerts test nothing",
    "alerts test there",
    "alerts thresholds nobody",
    "alerts thresholds acme 0,500",
    "alerts targets list --tenant nobody",
    "alerts targets add there --webhook https://hook.invalid/x",
    "alerts targets add x --webhook http://hook.invalid/x",
    "alerts targets add x --webhook https://hook.invalid/x --kinds nothing",
    "alerts targets add x --webhook https://hook.invalid/x --tenant nobody",
    "alerts targets remove nothing --yes",
    "alerts targets remove there",
    "gateways forget nothing --yes",
    "gateways forget gateway-free --yes",
    "gateways forget gateway-ended",
    "cells move nothing --to gateway-free --yes",
    "cells move acme --to gateway-free --yes",
    "cells move main --to nothing --yes",
    "cells move main --to gateway-ended --yes",
    "cells move main --to gateway-owner --yes",
    "cells move main --to gateway-free",
    "audit --tenant nobody",
    "audit --since sometime",
    "audit --out file.txt",
    "verify isolation --tenants acme",
    "verify isolation --tenants acme,nobody",
    "verify isolation --report no-such-folder/isolation.html",
    "provision",
    "provision Initech",
    "provision Initech --credential nothing",
    "provision Initech --credential main --tier nothing",
    "provision Acme --slug acme --credential main",
    "provision Initech --credential main --month much",
    "provision Initech --credential main --upstream anthropic",
]
# What has a test of its own here.
BY_THEMSELVES = ["backup", "cells move", "doctor", "provision", "verify isolation", "alerts test"]


def prepared(folder: Path) -> Iterator[Served]:
    for one in make(folder):
        one.ids["portal"] = one.ids.pop("acme portal")
        prepare_cluster(one)
        outbox = Outbox(one.site.engine)
        for slug in ("acme", "globex"):
            tenant_id = one.site.directory.get_tenant(slug).tenant_id
            outbox.raise_alert(Alert(AlertKind.BUDGET_THRESHOLD, slug, "at 80 %", tenant_id=tenant_id, slug=slug), 1)
        yield one


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For what changes nothing."""
    yield from prepared(tmp_path_factory.mktemp("still") / "one")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    yield from prepared(tmp_path / "one")


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Served]:
    yield from prepared(tmp_path / "two")


def test_what_is_read_is_equal_to_the_byte(still: Served) -> None:
    with listening(still) as server:
        run(["audit"], still, server)  # that the token was used is noted once a minute
        read_alike(READ, still, server, without_json=("alerts thresholds",))


def test_what_is_refused_is_told_alike_and_ends_alike(
    still: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(still) as server:
        refused_alike(REFUSED, still, server)


def test_what_is_changed_is_told_alike(
    api: Served, second: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(second) as server:
        for command in WRITTEN:
            changed_alike(command, (api, second), server, tmp_path, monkeypatch)


def test_the_audit_log_is_written_alike(still: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(still) as server:
        for form in ("csv", "jsonl"):
            for out, address in (("here", None), ("there", server)):
                assert run(["audit", "--tenant", "acme", "--out", f"{out}.{form}"], still, address).exit_code == 0
            assert Path(f"there.{form}").read_bytes() == Path(f"here.{form}").read_bytes()


def test_a_backup_stays_at_the_machine_of_control_and_is_told_alike(
    api: Served, second: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(second) as server:
        changed_alike("backup --check --keep 3", (api, second), server, tmp_path, monkeypatch)
        for words in (["backup", "here.tar"], ["backup", "--with-master-key"]):
            refused = run(words, second, server)
            assert refused.exit_code == 2
            assert "stays on the machine of control" in refused.stderr
    (made,) = (second.site.settings.data_dir / "backups").glob("*.tar")
    with tarfile.open(made) as archive:
        assert "master.key" not in archive.getnames()
    assert list((tmp_path / "there").iterdir()) == []


def test_doctor_tells_what_it_finds_at_the_machine_of_control(still: Served) -> None:
    with listening(still) as server:
        for form in ([], ["--json"]):
            here, there = run(["doctor", *form], still), run(["doctor", *form], still, server)
            assert here.exit_code == there.exit_code == 1  # no gateway runs
            assert _checks(there.stdout) == _checks(here.stdout)


def _checks(text: str) -> list[str]:
    """The lines, without what is of the moment: bytes that are free, ages."""
    if text.startswith("["):
        return [f"{one['check']} {one['ok']} {one['mend']}" for one in json.loads(text)]
    return [line.split("\t")[1] for line in text.splitlines()]


def test_a_client_is_provisioned_with_its_guide_alike(
    api: Served, second: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call to a gateway is left out: none runs here."""
    monkeypatch.setattr(
        "tenantry.control.provisioning.check_live", lambda *_: LiveCheck("claude-haiku-4-5", 9, 1, 12, True)
    )
    with listening(second) as server:
        said = changed_alike(
            "provision Initech --credential main --month 20", (api, second), server, tmp_path, monkeypatch
        )
        changed_alike("provision Umbrella --credential-env SECRET --json", (api, second), server, tmp_path, monkeypatch)
        refused = run(["provision", "--from", "clients.csv"], second, server)
    assert "SIMULATION" in said
    assert (refused.exit_code, "run it on the machine of control" in refused.stderr) == (2, True)
    for one in ("here", "there"):
        assert sorted(path.name for path in (tmp_path / one / "clients").iterdir()) == [
            *("initech.html", "initech.md", "umbrella.html", "umbrella.md")
        ]


@pytest.mark.parametrize(("sees_to_it", "ends"), [(True, 0), (False, 1)])
def test_a_cell_is_moved_alike_and_who_asks_is_told_when_its_owner_has_seen_to_it(
    api: Served, second: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sees_to_it: bool, ends: int
) -> None:
    """The owner is one statement here: what it does to give a cell has tests of its own."""
    if not sees_to_it:
        monkeypatch.setattr("tenantry.cli.cells._MOVE_SECONDS_MAX", 0.0)

    def give(connection: Connection, name: str, to: str) -> None:
        connection.execute(update(cells).where(cells.c.name == name).values(gateway_id=to))

    if sees_to_it:
        monkeypatch.setattr("tenantry.storage.directory.gateways.write_wish", give)
    command = "cells move main --to gateway-free --yes"
    with listening(second) as server:
        said = changed_alike(command, (api, second), server, tmp_path, monkeypatch, ends)
        changed_alike("cells list", (api, second), server, tmp_path, monkeypatch)
    assert ("main is gateway-free's now" in said) is sees_to_it
    (line,) = second.site.directory.newest_audit(1, action="cell.move")
    assert (line.actor, line.detail) == (
        "api:owner",
        {"capacity": "main", "from": "gateway-owner", "to": "gateway-free"},
    )


def test_a_move_is_waited_for_no_longer_than_its_owner_lives(
    api: Served, second: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_seconds: float) -> None:
        CellStore(second.site.engine).end(["gateway-owner"])

    with listening(second) as server:
        monkeypatch.setattr("tenantry.cli.cells._MOVE_SECONDS_MAX", 0.0)
        changed_alike("cells move main --to gateway-free --yes", (api, second), server, tmp_path, monkeypatch, 1)
        assert "gateway-owner (goes to gateway-free)" in changed_alike(
            "cells list", (api, second), server, tmp_path, monkeypatch
        )
        monkeypatch.setattr("tenantry.cli.cells._MOVE_SECONDS_MAX", 1.0)
        monkeypatch.setattr("tenantry.cli.cells.time", SimpleNamespace(sleep=end, monotonic=lambda: 0.0))
        said = run(["cells", "move", "main", "--to", "gateway-free", "--yes"], second, server)
    assert said.exit_code == 1
    assert "gateway-owner, whose main was, has ended" in said.stderr


def test_a_proof_is_followed_and_ends_as_it_does_there(
    api: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    group = {"name": "keys", "verdict": "FAIL", "checks": [{"ok": True}, {"ok": False}]}
    done = {"verdict": "FAIL", "groups": [group], "seconds": 1.5, "gateway": "http://127.0.0.1:9"}

    def proof_work(_site: object, _options: object, report: Path) -> object:
        def work(tell: object) -> object:
            tell("FAIL    keys (2 checks)")  # type: ignore[operator]
            report.parent.mkdir()
            report.write_text("<p>report</p>")
            return done | {"report": report.name}

        return work

    monkeypatch.setattr("tenantry.web.api.site.proof_work", proof_work)
    with listening(api) as server:
        told = run(["verify", "isolation", "--report", "isolation.html"], api, server)
        logs = run(["verify", "isolation", "--logs", "."], api, server)
    assert told.exit_code == 1
    assert told.stderr == "FAIL    keys (2 checks)\n"
    assert told.stdout == "FAIL: 2 checks, 1 failed, 1.5 s, on http://127.0.0.1:9\nReport: isolation.html\n"
    assert Path("isolation.html").read_text() == "<p>report</p>"
    assert (logs.exit_code, "search them there" in logs.stderr) == (2, True)


def test_whoever_may_prove_the_ledger_follows_the_proof_and_reads_no_other_task(api: Served) -> None:
    tokens = {role: api.site.directory.create_admin(f"a-{role}", None, role) for role in Role}
    with listening(api) as server:
        for role, may in ((Role.OWNER, True), (Role.BILLING, True), (Role.OPERATOR, False), (Role.VIEWER, False)):
            done = run(["ledger", "verify"], api, server, tokens[role])
            assert done.exit_code == (0 if may else 1), done.output
            assert may or done.stderr == f"tenantry: a-{role} is {role} and may not: ledger.correct\n"
    (task, *_) = api.ask("GET", "/tasks", token=tokens[Role.BILLING]).document["data"]
    assert task["kind"] == "ledger verification"
    assert api.ask("GET", f"/tasks/{task['task_id']}", token=tokens[Role.OPERATOR]).status == 403
    assert api.ask("GET", "/tasks", token=tokens[Role.OPERATOR]).document["data"] == []


WHO_MAY_NOT = [
    "doctor", "audit", "backup", "margin", "invoices list", "prices set x --input 1 --output 2", "plans remove pro",
    "keys admin list", "keys people list", "alerts targets list", "ledger quarantine", "verify isolation",
    "export --month 2026-10",
]  # fmt: skip


def test_a_token_of_some_tenants_and_one_that_does_not_work_are_told_in_one_line(api: Served) -> None:
    confined = api.site.directory.create_admin("of-acme", None, Role.VIEWER, ["acme"])
    with listening(api) as server:
        for command in WHO_MAY_NOT:
            done = run(command.split(), api, server, confined)
            assert (done.exit_code, done.stdout) == (1, ""), command
            assert done.stderr.startswith("tenantry: of-acme is viewer of some tenants and may not: "), command
        own = api.site.directory.create_admin("acme-ops", None, Role.OPERATOR, ["acme"])
        refused = run(["export", "--month", "2026-10"], api, server, own)
        assert refused.stderr.endswith("may not: exports.make (of all tenants; of one: --tenant SLUG)\n")
        unknown = run(["margin"], api, server, "tadm-nobody")
        assert (unknown.exit_code, unknown.stdout) == (1, "")
        assert "does not know this admin token" in unknown.stderr
    for command in WHO_MAY_NOT:
        down = run(command.split(), api, server)
        assert (down.exit_code, down.stdout) == (1, ""), command
        assert "cannot be reached" in down.stderr
