"""The command line as a new user types it, mistakes included."""

import json

import pytest

from tests.stack import Stack, tenantry, wait_for


def test_init_again_changes_nothing_and_shows_no_token(stack: Stack) -> None:
    done = tenantry(stack, "init")
    assert done.returncode == 0
    assert "Already initialised" in done.stdout
    assert "tadm-" not in done.stdout


def test_provision_makes_a_working_client_whose_usage_can_be_read(stack: Stack) -> None:
    done = tenantry(stack, "provision", "Acme GmbH", "--tier", "premium", "--credential", "sandbox", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["tenant"] == "acme-gmbh"
    assert stack.message(made["key"], path="/t/acme-gmbh/v1/messages")[0] == 200
    guide = (stack.folder / "clients" / "acme-gmbh.md").read_text()
    assert made["endpoint"] in guide
    assert made["key"] not in guide
    for word in ("curl", "Python", "TypeScript", "Claude Code", "OpenClaw", "15"):
        assert word in guide
    wait_for(lambda: len(stack.rows("acme-gmbh")) == 2, what="both rows")
    usage = json.loads(tenantry(stack, "usage", "acme-gmbh", "--json").stdout)
    assert usage["requests"] == 2
    assert usage["cost_nanos"] == sum(row["cost_nanos"] for row in stack.rows("acme-gmbh"))
    again = tenantry(stack, "provision", "Acme GmbH", "--credential", "sandbox")
    assert again.returncode == 1
    assert "there is a tenant acme-gmbh already" in again.stderr


@pytest.mark.parametrize(
    ("words", "stdin", "code", "message"),
    [
        (["No Credential"], "", 2, "exactly one of"),
        (["Login", "--credential-stdin"], "sk-ant-oat01-DUMMY", 1, "subscription"),
        (["Admin", "--credential-stdin"], "sk-ant-admin01-DUMMY", 1, "Admin API key"),
        (["Empty", "--credential-stdin"], "", 2, "is empty"),
        (["Unset", "--credential-env", "NOT_SET_ANYWHERE"], "", 2, "is empty"),
        (["Typo", "--credential", "sandbux"], "", 1, "no credential 'sandbux'"),
        (["Tier", "--credential", "sandbox", "--tier", "gold"], "", 1, "no tier 'gold'"),
        (["!!!", "--credential", "sandbox"], "", 1, "no letter or digit"),
    ],
)
def test_a_provision_that_fails_leaves_nothing_but_an_audit_line(
    stack: Stack, words: list[str], stdin: str, code: int, message: str
) -> None:
    before = {row.slug for row in stack.site.directory.list_tenants()}
    credentials = len(stack.site.directory.list_credentials())
    done = tenantry(stack, "provision", *words, stdin=stdin)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert {row.slug for row in stack.site.directory.list_tenants()} == before
    assert len(stack.site.directory.list_credentials()) == credentials


def test_a_credential_of_another_tenant_is_refused_unless_declared_shared(stack: Stack) -> None:
    directory = stack.site.directory
    stack.tenant("owner", secret="sandbox-canary-owned")
    refused = tenantry(stack, "provision", "Second", "--credential", "owner")
    assert refused.returncode == 1
    assert "--shared" in refused.stderr
    assert tenantry(stack, "provision", "Second", "--credential-stdin", stdin="sandbox-canary-owned").returncode == 1
    assert tenantry(stack, "provision", "Second", "--credential", "owner", "--shared").returncode == 0
    assert {row.slug for row in directory.list_tenants() if row.credential == "owner"} == {"owner", "second"}


def test_destructive_commands_ask_or_take_yes(stack: Stack) -> None:
    key = stack.tenant("victim")
    key_id = stack.site.directory.list_keys("victim")[0].key_id
    assert tenantry(stack, "keys", "revoke", key_id).returncode == 2
    assert tenantry(stack, "tenants", "disable", "victim").returncode == 2
    assert stack.message(key)[0] == 200
    assert tenantry(stack, "tenants", "disable", "victim", "--yes").returncode == 0
    wait_for(lambda: stack.message(key)[0] == 403, what="the disabling")
    assert tenantry(stack, "tenants", "enable", "victim").returncode == 0
    wait_for(lambda: stack.message(key)[0] == 200, what="the enabling")


def test_lists_are_json_and_settings_errors_come_all_at_once(stack: Stack) -> None:
    for words in (["tenants", "list"], ["keys", "list"], ["credentials", "list"]):
        assert isinstance(json.loads(tenantry(stack, *words, "--json").stdout), list)
    wrong = tenantry(stack, "doctor", TENANTRY_GATEWAY_PORT="99999", LOG_LEVEL="loud", TENANTRY_TIME_ZONE="Mars")
    assert wrong.returncode == 2
    for word in ("gateway_port", "log_level", "time_zone"):
        assert word in wrong.stderr
    assert tenantry(stack, "usage", "nobody").returncode == 1
    assert tenantry(stack, "usage", "nobody", "--month", "x").returncode == 1
    assert tenantry(stack, "frobnicate").returncode == 2


def test_doctor_finds_an_open_master_key(stack: Stack) -> None:
    stack.settings.master_key_file.chmod(0o644)
    done = tenantry(stack, "doctor", "--json")
    stack.settings.master_key_file.chmod(0o600)
    assert done.returncode == 1
    finding = next(one for one in json.loads(done.stdout) if one["check"] == "master key")
    assert not finding["ok"]
    assert "chmod 600" in finding["found"]


def test_provision_takes_terms_and_a_model(stack: Stack) -> None:
    terms = ["--contact", "ops@terms.example", "--month", "50", "--model", "claude-sonnet-5-5"]
    done = tenantry(stack, "provision", "Terms", "--credential", "sandbox", *terms, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["live_check"]["model"] == "claude-sonnet-5-5"
    assert stack.site.directory.get_tenant("terms").contact == "ops@terms.example"
    assert "$50.00" in tenantry(stack, "budget", "show", "terms").stdout
    refused = tenantry(stack, "provision", "Terms Two", "--credential", "sandbox", "--month", "many")
    assert refused.returncode == 2


def test_provision_names_an_upstream_that_cannot_be_reached(stack: Stack) -> None:
    stack.site.directory.set_upstream("nowhere", "http://127.0.0.1:9")
    done = tenantry(
        stack, "provision", "Far", "--upstream", "nowhere", "--credential-stdin", stdin="sandbox-canary-far"
    )
    assert done.returncode == 1
    assert "its upstream is 'nowhere', at http://127.0.0.1:9" in done.stderr
    assert "Nothing of far was kept" in done.stderr


def test_a_tenant_is_deleted_and_its_rows_stay(stack: Stack) -> None:
    key = stack.tenant("leaver", secret="sandbox-canary-leaver")
    assert stack.message(key)[0] == 200
    wait_for(lambda: stack.rows("leaver"), what="its row")
    tenant_id = stack.site.directory.get_tenant("leaver").tenant_id
    assert tenantry(stack, "tenants", "delete", "leaver").returncode == 2
    done = tenantry(stack, "tenants", "delete", "leaver", "--yes")
    assert done.returncode == 0, done.stderr
    assert [row for row in stack.rows() if row["tenant_id"] == tenant_id]
    wait_for(lambda: stack.message(key)[0] in (401, 403), what="its key being refused")
    (statement,) = (stack.folder / "statements").glob("leaver-*.md")
    assert "Closing statement" in statement.read_text()
    assert [one.name for one in stack.site.directory.list_credentials() if one.name == "leaver"] == ["leaver"]
    assert tenantry(stack, "tenants", "delete", "leaver", "--yes").returncode == 1


def test_the_audit_log_of_a_tenant_that_never_was_is_a_mistake(stack: Stack) -> None:
    stack.tenant("audited")
    refused = tenantry(stack, "audit", "--tenant", "audted")
    assert refused.returncode == 1
    assert "did you mean audited?" in refused.stderr
    assert tenantry(stack, "audit", "--tenant", "audited", "--since", "2030-01-01").returncode == 0
