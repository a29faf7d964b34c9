"""Tenants as a file, on a running site: plan, apply with live calls, drift, export, leaving, and who did it."""

import csv
import http.client
import itertools
import json
from pathlib import Path

import pytest

from tests.acceptance.test_commands import tenantry
from tests.stack import PATIENCE_SECONDS, Stack, wait_for

FILE = """
[tenants.acme]
name = "Acme GmbH"
tier = "premium"
credential = "env:ACME_KEY"
upstream = "sandbox"
[tenants.acme.keys.production]
[tenants.beta]
name = "Beta"
credential = "vault:sandbox"
[tenants.beta.keys.production]
"""
SECRETS = {"ACME_KEY": "sandbox-canary-acme"}


@pytest.fixture
def file(stack: Stack) -> Path:
    path = stack.folder / "tenants.toml"
    path.write_text(FILE)
    return path


def test_a_file_becomes_tenants_that_answer_and_a_diff_becomes_a_change(stack: Stack, file: Path) -> None:
    planned = tenantry(stack, "plan", "--json", "--out", "plan.json")
    assert planned.returncode == 1
    assert json.loads(planned.stdout)["missing_secrets"] == ["env:ACME_KEY"]
    assert tenantry(stack, "apply", "plan.json").returncode == 2  # nobody can be asked here
    refused = tenantry(stack, "apply", "plan.json", "--yes")
    assert refused.returncode == 1
    assert "env:ACME_KEY is empty or not set here" in refused.stderr
    done = tenantry(stack, "apply", "plan.json", "--yes", "--keys-out", "keys.jsonl", **SECRETS)
    assert done.returncode == 0, done.stderr
    for slug in ("acme", "beta"):
        assert f"ok   live check of {slug}" in done.stdout
    assert "sk-proxy-" not in done.stdout
    keys = {
        one["tenant"]: one["key"] for one in map(json.loads, (stack.folder / "keys.jsonl").read_text().splitlines())
    }
    assert stack.message(keys["acme"], path="/t/acme/v1/messages")[0] == 200
    assert tenantry(stack, "plan").returncode == 0
    assert tenantry(stack, "apply", "--yes").returncode == 0

    exported = stack.folder / "exported.toml"
    assert tenantry(stack, "tenants", "export", "--out", str(exported)).returncode == 0
    assert tenantry(stack, "plan", str(exported)).returncode == 0
    assert tenantry(stack, "tenants", "export", "--out", str(exported)).returncode == 1  # never overwritten

    assert tenantry(stack, "drift").returncode == 0
    tenantry(stack, "tenants", "disable", "acme", "--yes")
    drift = tenantry(stack, "drift", "--json")
    assert drift.returncode == 1
    found = json.loads(drift.stdout)["by_hand"]
    assert [one["action"] for one in found] == ["tenant.disabled"]
    assert found[0]["actor"].startswith("cli:")
    assert found[0]["at"]
    assert tenantry(stack, "apply", "--yes").returncode == 0
    wait_for(lambda: stack.message(keys["acme"])[0] == 200, what="the tenant served again")

    file.write_text(FILE[: FILE.index("[tenants.beta]")])
    left = tenantry(stack, "apply", "--yes")
    assert left.returncode == 0, left.stderr
    wait_for(lambda: stack.message(keys["beta"])[0] == 403, what="the revocation")
    assert "Beta" in next((stack.folder / "statements").glob("beta-*.md")).read_text()

    file.write_text(FILE.replace("tier =", "teir ="))
    wrong = tenantry(stack, "plan")
    assert wrong.returncode == 2
    assert "tenants.toml:4: tenants.acme has no field 'teir'; did you mean 'tier'?" in wrong.stderr


def test_a_live_check_that_fails_is_said_plainly(stack: Stack) -> None:
    path = stack.folder / "dead.toml"
    path.write_text('[tenants.dead]\nname = "Dead"\ncredential = "env:DEAD"\nupstream = "dead"\n')
    stack.site.directory.set_upstream("dead", "http://127.0.0.1:1")
    done = tenantry(stack, "apply", str(path), "--yes", DEAD="sandbox-canary-dead")
    assert done.returncode == 1
    assert "FAIL live check of dead" in done.stdout
    assert "applied, but the live check failed for dead" in done.stderr


def test_the_audit_log_is_read_written_and_verified(stack: Stack) -> None:
    stack.tenant("watched")
    admin = stack.site.directory
    admin.add_admin("auditor", "tadm-a-token-of-a-test")
    connection = http.client.HTTPConnection("127.0.0.1", stack.settings.control_port, timeout=PATIENCE_SECONDS)
    connection.request(
        "GET", "/api/v1/tenants/watched/usage", headers={"authorization": "Bearer tadm-a-token-of-a-test"}
    )
    assert connection.getresponse().status == 200
    connection.close()
    tenantry(stack, "usage", "watched")
    tenantry(stack, "tenants", "show", "watched")
    entries = json.loads(tenantry(stack, "audit", "--tenant", "watched", "--json").stdout)
    reads = [(one["action"], one["actor"].partition(":")[0]) for one in entries if one["action"].startswith("read.")]
    assert reads == [("read.usage", "api"), ("read.usage", "cli"), ("read.tenant", "cli")]
    by_api = next(one for one in entries if one["actor"] == "api:auditor")
    assert by_api["origin"] == "127.0.0.1"
    assert json.loads(tenantry(stack, "audit", "--since", "2099-01-01", "--json").stdout) == []
    assert tenantry(stack, "audit", "--since", "yesterday").returncode == 2
    assert tenantry(stack, "audit", "--out", "log.txt").returncode == 2
    assert tenantry(stack, "audit", "--since", "1d", "--out", "log.csv").returncode == 0
    rows = list(csv.DictReader((stack.folder / "log.csv").read_text().splitlines()))
    assert {"who", "actor"} & rows[0].keys() == {"actor"}
    assert tenantry(stack, "audit", "--out", "log.jsonl").returncode == 0
    lines = [json.loads(line) for line in (stack.folder / "log.jsonl").read_text().splitlines()]
    assert all(after["prev_hash"] == before["row_hash"] for before, after in itertools.pairwise(lines))
    assert tenantry(stack, "audit", "--verify").returncode == 0
