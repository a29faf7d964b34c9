"""The isolation proof against a real gateway: green on this one. It is red on others: see `test_planted_*`."""

import json
import os
import signal
from typing import Any

import pytest

from tenantry.control.isolation.engine import clean_site
from tenantry.control.isolation.stage import PROVES
from tenantry.storage.directory import Directory
from tenantry.wire.routes import sample_targets
from tests.faulty_gateway import FAULTS
from tests.planted.proof import probes_of, prove
from tests.spawner import Process, run, spawn
from tests.stack import PATIENCE_SECONDS, Stack, wait_for

# The issue that asked for them: so many, of different kinds.
FAULTS_MIN = 25
# A proof takes seconds, and on a machine that is busy with others' minutes.
PROOF_SECONDS_MAX = 600.0


def start_command(stack: Stack) -> Process:
    return spawn("verify", "isolation", env=os.environ | stack.environ, cwd=stack.folder)


def run_command(stack: Stack, *words: str) -> tuple[int, str, str]:
    done = run(
        "verify", "isolation", *words, env=os.environ | stack.environ, cwd=stack.folder, timeout=PROOF_SECONDS_MAX
    )
    return done.returncode, done.stdout, done.stderr


def test_this_gateway_passes_and_the_report_tells_everything_but_secrets(stack: Stack) -> None:
    page = stack.folder / "isolation.html"
    code, out, err = run_command(stack, "--quick", "--json", "--report", str(page), "--logs", str(stack.folder))
    document: dict[str, Any] = json.loads(out)
    failures = [check for group in document["groups"] for check in group["checks"] if not check["ok"]]
    assert failures == []
    assert (code, document["verdict"]) == (0, "PASS")
    assert {group["verdict"] for group in document["groups"]} == {"PASS"}
    tried = " ".join(check["tried"] for group in document["groups"] for check in group["checks"])
    assert all(sample.name in tried for sample in sample_targets())
    assert "secrets in /metrics of the control" in tried
    html = page.read_text("utf-8")
    assert "✓ PASS" in html
    assert "✗ FAIL" not in html
    for text in (out, err, html):
        assert "sk-proxy-" not in text
        assert "sandbox-canary" not in text
    assert document["not_covered"]


def test_nothing_of_the_probes_is_left_but_their_rows_which_name_them(stack: Stack) -> None:
    report = prove(stack)
    assert report.ok
    assert probes_of(stack) == []
    marked = {row["tenant_id"] for row in stack.rows() if report.run in row["tenant_id"]}
    assert marked == {f"tnt_probe-{report.run}-{role}" for role in ("own", "other", "noisy", "quiet")}
    (line,) = [row for row in stack.site.directory.list_audit() if row.subject == report.run]
    assert line.detail["verdict"] == "PASS"


def test_a_key_that_is_known_long_before_its_budget_turns_nothing_red(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Directory.set_budgets

    def late(self: Directory, *rest: Any, **named: Any) -> None:
        stack.follow()
        real(self, *rest, **named)

    monkeypatch.setattr(Directory, "set_budgets", late)
    report = prove(stack, "sharing")
    assert [check for group in report.groups for check in group.failures] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_removes_its_probes(stack: Stack, number: int) -> None:
    command = start_command(stack)
    wait_for(lambda: probes_of(stack), what="a probe")
    command.send_signal(number)
    command.wait(PATIENCE_SECONDS)
    assert command.returncode == 130
    assert probes_of(stack) == []


# What stands in the run's words when it is stopped: nothing yet, and the beginning of groups of every kind.
@pytest.mark.parametrize("behind", ["undisturbed", "connection", "credentials", "bleed", "books", "sharing"])
def test_ctrl_c_twice_says_in_one_line_what_is_done_and_what_not(stack: Stack, behind: str) -> None:
    told = stack.folder / f"stopped-{behind}.txt"
    with told.open("wb") as err:
        words = ("verify", "isolation", "--quick")
        command = spawn(*words, env=os.environ | stack.environ, cwd=stack.folder, stderr=err)
        wait_for(lambda: PROVES[behind] in told.read_text(), PROOF_SECONDS_MAX, f"{behind} being done")
        command.send_signal(signal.SIGINT)
        command.send_signal(signal.SIGINT)
        command.wait(PATIENCE_SECONDS)
    *groups, last = told.read_text().splitlines()
    assert last.startswith("tenantry: interrupted, and what it had made is removed; held: undisturbed")
    assert "; not shown: " in last
    assert last.endswith("search")
    assert {line[:8].strip() for line in groups} == {"PASS"}
    assert probes_of(stack) == []


def test_what_a_killed_run_left_is_removed_by_the_next_and_two_do_not_run_at_once(stack: Stack) -> None:
    killed = start_command(stack)
    wait_for(lambda: len(probes_of(stack)) > 3, what="some probes")
    code, _, err = run_command(stack, "--quick")
    assert (code, "Another isolation proof runs" in err) == (1, True)
    killed.kill()
    killed.wait()
    left = probes_of(stack)
    assert left
    code, _, err = run_command(stack, "--quick")
    assert code == 0
    assert "Removed what a run before had left" in err
    assert probes_of(stack) == []


def test_a_client_whose_name_only_looks_like_a_probe_is_not_removed(stack: Stack) -> None:
    stack.tenant("probe-0123abcd-own", secret="sandbox-canary-real-client")
    with clean_site(stack.site) as removed:
        assert removed == []
    assert stack.site.directory.get_tenant("probe-0123abcd-own").name == "probe-0123abcd-own"


def test_real_tenants_are_tried_without_a_single_message_unless_allowed(stack: Stack) -> None:
    for slug in ("acme", "globex"):
        stack.tenant(slug, "standard", secret=f"sandbox-canary-{slug}")
    before = len(stack.billed())
    code, _, err = run_command(stack, "--tenants", "acme,globex")
    assert code == 0
    assert "only refusals and free routes are sent" in err
    assert len(stack.billed()) == before
    code, out, _ = run_command(stack, "--tenants", "acme,globex", "--yes", "--json")
    assert code == 0
    assert len(stack.billed()) == before + 2
    assert {group["name"]: group["verdict"] for group in json.loads(out)["groups"]}["books"] == "PASS"
    for slug in ("acme", "globex"):
        keys = [row for row in stack.site.directory.list_keys(slug) if row.label != "test"]
        assert keys
        assert {row.status for row in keys} == {"revoked"}


@pytest.mark.parametrize(
    "words", [["--tenants", "acme"], ["--tenants", "acme,acme"], ["--logs", "missing"], ["--report", "no/where.html"]]
)
def test_wrong_usage_is_told_before_anything_is_made(stack: Stack, words: list[str]) -> None:
    code, _, err = run_command(stack, *words)
    assert code == 2
    assert err.startswith("tenantry: ")


def test_tenants_that_are_not_there_and_a_gateway_that_is_not_are_told(own_stack: Stack) -> None:
    code, _, err = run_command(own_stack, "--tenants", "acme,nobody")
    assert (code, "there is no tenant" in err) == (1, True)
    code, _, err = run_command(own_stack)
    assert (code, "no gateway answers" in err) == (1, True)
    assert probes_of(own_stack) == []


def test_there_are_enough_planted_faults_for_every_group() -> None:
    assert len(FAULTS) >= FAULTS_MIN
    caught = {fault.group for fault in FAULTS.values()}
    # These two show what a fault of a kind of their own would need: another tenant coming, a route that scopes ids.
    assert set(PROVES) - caught == {"undisturbed", "objects"}
