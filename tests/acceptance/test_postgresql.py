"""A whole site on PostgreSQL, whose role has a password: what an operator and a client do with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from tests import postgresql
from tests.patience import patience_seconds
from tests.spawner import run
from tests.stack import Stack, tenantry, wait_for

pytestmark = pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed")
PASSWORD = "hunter2-of-the-store"
# A proof takes seconds, and on a machine that is busy with others' minutes.
PROOF_SECONDS_MAX = 600.0
FILE = """
[tenants.beta]
name = "Beta"
credential = "env:BETA_KEY"
upstream = "sandbox"
[tenants.beta.keys.production]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("site")
    name = f"acceptance_{os.getpid()}"
    secret = folder / "store-password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    url = postgresql.guarded_database(name, PASSWORD)
    running = Stack(folder, TENANTRY_STORE_URL=url, TENANTRY_STORE_PASSWORD_FILE=str(secret)).start()
    yield running
    running.stop()
    postgresql.drop_database(name)


def done(site: Stack, *words: str) -> str:
    found = tenantry(site, *words)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_a_client_is_provisioned_served_capped_billed_and_cut_off(site: Stack) -> None:
    told = json.loads(done(site, "provision", "acme", "--credential", "sandbox", "--json"))
    key: str = told["key"]
    done(site, "plans", "set", "metered", "--markup", "20")
    done(site, "plans", "assign", "acme", "metered")
    wait_for(lambda: site.get(key, "/v1/models")[0] != 401, what="the gateway following the directory")
    assert site.message(key)[0] == 200
    row = wait_for(lambda: site.rows("acme"), what="the row")[-1]
    assert row["outcome"] == "settled"
    assert row["cost_nanos"] > 0
    done(site, "budget", "set", "acme", "--month", "0.000001")
    status, _, body = wait_for(lambda: _refused(site, key), what="the budget being known")
    assert (status, json.loads(body)["error"]["type"]) == (402, "billing_error")
    assert "acme" in done(site, "usage", "acme")
    month = f"{datetime.now(UTC):%Y-%m}"
    bill = json.loads(done(site, "invoice", "acme", "--month", month, "--json"))
    assert bill["lines"]
    done(site, "tenants", "disable", "acme", "--yes")
    wait_for(lambda: site.message(key)[0] == 403, what="the tenant being cut off")
    done(site, "ledger", "verify")
    done(site, "audit", "--verify")


def _refused(site: Stack, key: str) -> tuple[int, dict[str, str], bytes] | None:
    answer = site.message(key)
    return answer if answer[0] == 402 else None


def test_tenants_of_a_file_are_planned_applied_and_found_to_drift(site: Stack, fixtures: Path) -> None:
    shutil.copytree(fixtures / "classic", site.folder / "old")
    old = ("old/env.proxy", "--routes", "old/tenant-routes.json", "--out", "moved")
    assert "tenantry plan" in done(site, "import", "env-file", *old)
    imported = tenantry(site, "plan", "moved/tenants.toml", "--json")
    assert imported.returncode == 1, imported.stderr
    assert len(json.loads(imported.stdout)["missing_secrets"]) > 1
    (site.folder / "tenants.toml").write_text(FILE)
    secret = {"BETA_KEY": "sandbox-canary-beta"}
    applied = tenantry(site, "apply", "--yes", "--keys-out", "keys.jsonl", **secret)
    assert applied.returncode == 0, applied.stderr
    assert "ok   live check of beta" in applied.stdout
    assert tenantry(site, "plan", **secret).returncode == 0
    before = _by_hand(site).count("tenant.disabled")  # of other tests
    done(site, "tenants", "disable", "beta", "--yes")
    assert _by_hand(site).count("tenant.disabled") == before + 1


def _by_hand(site: Stack) -> list[str]:
    found = tenantry(site, "drift", "--json")
    assert found.returncode == 1, found.stderr
    return [one["action"] for one in json.loads(found.stdout)["by_hand"]]


def test_isolation_is_proven_and_what_was_booked_leaves_as_files(site: Stack) -> None:
    words = ("verify", "isolation", "--quick", "--json")
    proof = run(*words, env=os.environ | site.environ, cwd=site.folder, timeout=PROOF_SECONDS_MAX)
    assert proof.returncode == 0, proof.stdout + proof.stderr
    assert json.loads(proof.stdout)["verdict"] == "PASS"
    done(site, "export", "--month", f"{datetime.now(UTC):%Y-%m}", "--tenant", "acme", "--out", "books")
    lines = [path.read_text().splitlines() for path in (site.folder / "books").glob("**/*.csv")]
    assert [len(one) for one in lines if "attempt_id" in one[0]] == [1 + len(site.rows("acme"))]
    done(site, "ledger", "verify")


def test_a_gateway_goes_on_while_its_connections_to_the_store_are_cut(site: Stack) -> None:
    key = site.tenant("steady")
    site.follow()
    assert site.message(key)[0] == 200
    with postgresql.as_admin() as engine, engine.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :name"),
            {"name": postgresql.GUARDED},
        )
    assert site.message(key)[0] == 200
    wait_for(lambda: len(_settled(site)) == 2, what="both being booked")
    later = site.tenant("later")  # a change after the cut reaches the gateway, too
    wait_for(lambda: site.get(later, "/v1/models")[0] != 401, what="the gateway following again")


def _settled(site: Stack) -> list[object]:
    return [row for row in site.rows("steady") if row["outcome"] == "settled"]


def test_doctor_is_content_and_a_backup_comes_back(site: Stack, tmp_path: Path) -> None:
    found = tenantry(site, "doctor").stdout
    assert "postgresql" in found
    file = tmp_path / "site.tar"
    done(site, "backup", str(file), "--with-master-key", "--check")
    assert tenantry(site, "restore", str(file), "--yes").returncode != 0  # it runs
    site.stop()
    said = done(site, "restore", str(file), "--yes")
    assert "each verified" in said
    assert "schema replaced_" in said
    done(site, "ledger", "verify")
    site.start()
    key = site.tenant("after")
    wait_for(lambda: site.message(key)[0] == 200, what="a request after the restore")


def test_no_log_no_answer_and_no_command_line_has_the_password(site: Stack) -> None:
    site.kill("gateway")
    wrong = site.folder / "wrong"
    wrong.write_text("not-this-one")
    wrong.chmod(0o600)
    right = site.environ["TENANTRY_STORE_PASSWORD_FILE"]
    site.environ["TENANTRY_STORE_PASSWORD_FILE"] = str(wrong)
    refused = tenantry(site, "tenants", "list")
    doctor = tenantry(site, "doctor")
    site.environ["TENANTRY_STORE_PASSWORD_FILE"] = right
    assert refused.returncode == 1
    assert "password authentication failed" in refused.stderr
    said = refused.stdout + refused.stderr + doctor.stdout + doctor.stderr
    said += "".join(path.read_text(errors="replace") for path in site.folder.glob("*.log"))
    assert "not-this-one" not in said
    assert PASSWORD not in said


def test_the_whole_site_is_served_by_one_command_and_ends_as_it_is_told(site: Stack) -> None:
    site.stop()
    served = site.serve(site.folder / "serve.log")
    try:
        key = site.tenant("served")
        wait_for(lambda: _answers(site, key) or served.poll() is not None, what="an answer")
        served.terminate()
        assert served.wait(patience_seconds()) == 0
    finally:
        served.kill()
        served.wait()


def _answers(site: Stack, key: str) -> bool:
    with contextlib.suppress(OSError):
        return site.message(key)[0] == 200
    return False
