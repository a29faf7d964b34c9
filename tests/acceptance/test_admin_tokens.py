"""Admin tokens by command, used at the running control process, and attacks on them."""

from __future__ import annotations

import http.client
import json
from typing import Any

from tests.stack import PATIENCE_SECONDS, Stack, tenantry


def ask(stack: Stack, token: str | None, host: str | None = None) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", stack.settings.control_port, timeout=PATIENCE_SECONDS)
    connection.putrequest("GET", "/api/v1/tenants", skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{stack.settings.control_port}")
    if token is not None:
        connection.putheader("Authorization", f"Bearer {token}")
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())
    connection.close()
    return found


def test_tokens_are_made_rotated_and_revoked_by_command_and_the_api_knows_at_once(stack: Stack) -> None:
    made = json.loads(tenantry(stack, "keys", "admin", "create", "ops", "--expires-days", "2", "--json").stdout)
    assert ask(stack, made["token"])[0] == 200
    again = tenantry(stack, "keys", "admin", "create", "ops")
    assert (again.returncode, "keys admin rotate ops" in again.stderr) == (1, True)
    second = json.loads(tenantry(stack, "keys", "admin", "rotate", "ops", "--grace", "1h", "--json").stdout)
    assert [ask(stack, one["token"])[0] for one in (made, second)] == [200, 200]
    third = tenantry(stack, "keys", "admin", "rotate", "ops").stdout.split()[0]
    assert [ask(stack, one)[0] for one in (made["token"], second["token"], third)] == [401, 401, 200]
    rows = {row["name"]: row for row in json.loads(tenantry(stack, "keys", "admin", "list", "--json").stdout)}
    assert (rows["ops"]["status"], rows["ops"]["token"], bool(rows["ops"]["used_at"])) == (
        "active",
        f"...{third[-4:]}",
        True,
    )
    assert rows["admin"]["status"] == "active"  # the first one, of `init`
    assert "ops" in tenantry(stack, "keys", "admin", "list").stdout
    refused = tenantry(stack, "keys", "admin", "revoke", "ops")
    assert (refused.returncode, ask(stack, third)[0]) == (2, 200)
    assert "ops is revoked." in tenantry(stack, "keys", "admin", "revoke", "ops", "--yes").stdout
    status, _, told = ask(stack, third)
    assert (status, told["detail"].startswith("this admin token (ops) is revoked")) == (403, True)
    wrong = tenantry(stack, "keys", "admin", "revoke", "opps", "--yes")
    assert (wrong.returncode, "ops" in wrong.stderr, "Traceback" in wrong.stderr) == (1, True, False)
    actions = [row.action for row in stack.site.directory.list_audit() if row.action.startswith("admin.")]
    assert set(actions) >= {"admin.add", "admin.rotate", "admin.revoke", "admin.refused"}


def test_another_name_of_this_address_is_refused(stack: Stack) -> None:
    assert ask(stack, None, "evil.example")[0] == 421
    assert ask(stack, None, "localhost")[0] == 401


def test_guesses_run_into_429_with_the_time_to_wait(stack: Stack) -> None:
    answers = [ask(stack, f"tadm-guess-{number}") for number in range(14)]
    statuses = [status for status, _, _ in answers]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert 1 <= int(answers[-1][1]["retry-after"]) <= 6
    assert "too many wrong admin tokens" in answers[-1][2]["detail"]
    for name in ("control", "gateway"):
        log = (stack.folder / f"{name}.log").read_text()
        assert "tadm-" not in log
