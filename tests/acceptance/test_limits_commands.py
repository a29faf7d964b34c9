"""Limits, keys, credentials and upstreams by command, mistakes included."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from typer.testing import CliRunner

from tenantry.app import Processes
from tenantry.cli.main import build_cli
from tenantry.domain.limits import LIMITS, Limits
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import (
    LIVE_FILE,
    LiveBucket,
    LiveCapacity,
    LiveFile,
    LiveHead,
    LiveHealth,
    LiveTenant,
    encode_line,
)
from tenantry.storage.snapshot import SnapshotLoader
from tenantry.storage.tables import audit_log, refusals
from tests.stack import Stack, free_ports, tenantry, wait_for


def told(stack: Stack, *words: str, **more: str) -> Any:
    """What a command prints as JSON."""
    done = tenantry(stack, *words, "--json", **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def limits_of(stack: Stack, slug: str) -> Limits:
    snapshot = SnapshotLoader(stack.site.engine, stack.site.vault).load()
    return next(one.limits for one in snapshot.tenants.values() if one.slug == slug)


# Tiers


def test_a_tier_is_made_changed_and_shown(stack: Stack) -> None:
    made = tenantry(stack, "tiers", "set", "gold", "--sessions", "20", "--model", "claude-haiku-*", "--model", "a,b")
    assert made.returncode == 0, made.stderr
    assert "new tier" in made.stdout
    gold = told(stack, "tiers", "show", "gold")
    expected = Limits(sessions_max=20, models=("claude-haiku-*", "a", "b"))
    assert gold == {"name": "gold", "limits": expected.as_json(), "tenants": 0}
    assert tenantry(stack, "tiers", "set", "gold", "--rpm", "none", "--models", "none").returncode == 0
    assert told(stack, "tiers", "show", "gold")["limits"] == Limits(20, None).as_json()
    listed = {tier["name"]: tier for tier in told(stack, "tiers", "list")}
    assert [listed[name]["limits"]["sessions_max"] for name in ("standard", "premium", "enterprise")] == [5, 15, 50]
    for limit in LIMITS.values():
        assert limit.option in tenantry(stack, "tiers", "show", "gold").stdout


def test_every_limit_has_its_option(stack: Stack) -> None:
    values = {name: limit.choices[-1] if limit.choices else str(limit.low + 1) for name, limit in LIMITS.items()}
    words = [word for name, value in values.items() for word in (f"--{LIMITS[name].option}", value)]
    assert tenantry(stack, "tiers", "set", "all-limits", *words).returncode == 0
    found = told(stack, "tiers", "show", "all-limits")["limits"]
    assert {name: str(value[0] if isinstance(value, list) else value) for name, value in found.items()} == values


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["tiers", "set", "standard", "--sessions", "-1"], 2, "sessions_max must be"),
        (["tiers", "set", "standard", "--sessions", "0"], 2, "sessions_max must be"),
        (["tiers", "set", "standard", "--rpm", "9" * 30], 2, "requests_per_minute must be"),
        (["tiers", "set", "standard", "--itpm", "many"], 2, "input_tokens_per_minute must be"),
        (["tiers", "set", "standard", "--burst", "1.5"], 2, "request_burst must be"),
        (["tiers", "set", "standard", "--models", ""], 2, "models must be"),
        (["tiers", "set", "standard", "--model", "a", "--model", ""], 2, "models must be"),
        (["tiers", "set", "standard", "--max-tokens-policy", "maybe"], 2, "cap or refuse"),
        (["tiers", "set", "standard", "--rpn", "5"], 2, "No such option"),
        (["tiers", "set", "standard"], 2, "say what to change"),
        (["tiers", "set", "Gold Plate", "--rpm", "5"], 1, "not a tier's name"),
        (["tiers", "show", "platinum"], 1, "no tier 'platinum'; there are: "),
        (["tenants", "set", "demo"], 2, "say what to change"),
        (["tenants", "set", "demo", "--tier", "platinum"], 1, "no tier 'platinum'"),
        (["tenants", "set", "nobody", "--rpm", "5"], 1, "no tenant 'nobody'"),
        (["tenants", "set", "demo", "--rpm", "-5"], 2, "requests_per_minute must be"),
        (["tenants", "set", "demo", "--inherit", "rpn"], 2, "no limit 'rpn'"),
        (["tenants", "set", "demo", "--rpm", "5", "--inherit", "rpm"], 2, "--rpm is set and inherited at once"),
        (["tenants", "set", "demo", "--disconnect", "explode"], 2, "drain or cancel"),
        (["tenants", "set", "demo", "--user-profile", "a b"], 1, "not a user profile"),
        (["tenants", "set", "demo", "--contact", "x" * 301], 1, "one line of 300"),
        (["keys", "issue", "demo", "--rpm", "61"], 1, "cannot be above its tenant's 60"),
        (["keys", "issue", "demo", "--sessions", "0"], 2, "sessions_max must be"),
        (["keys", "issue", "demo", "--weight", "2"], 2, "No such option"),
        (["keys", "issue", "demo", "--expires-days", "0"], 2, "expires-days"),
        (["keys", "issue", "demo", "--label", "x" * 129], 1, "128 characters"),
        (["keys", "rotate", "key_none"], 1, "no key 'key_none'"),
        (["keys", "rotate", "key_none", "--grace", "soon"], 2, "30m, 24h or 7d"),
        (["keys", "rotate", "key_none", "--grace", "-1h"], 2, "30m, 24h or 7d"),
        (["keys", "rotate", "key_none", "--grace", "9999999999d"], 2, "ten years at most"),
        (["credentials", "rotate", "sandbox"], 2, "--env VAR or --stdin"),
        (["credentials", "rotate", "nothing", "--stdin"], 1, "no credential 'nothing'"),
        (["credentials", "check", "nothing"], 1, "no credential 'nothing'"),
        (["credentials", "bind", "demo", "nothing"], 1, "no credential 'nothing'"),
        (["credentials", "bind", "demo", "sandbox", "--fallback"], 1, "fall back to another"),
        (["credentials", "move", "sandbox", "--upstream", "mars"], 1, "no upstream 'mars'; there are: anthropic"),
        (["credentials", "add", "bad name", "--stdin"], 1, "is not a name"),
        (["upstreams", "show", "mars"], 1, "no upstream 'mars'"),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(stack: Stack, words: list[str], code: int, message: str) -> None:
    if all(row.slug != "demo" for row in stack.site.directory.list_tenants()):
        stack.tenant("demo", "standard")
    with stack.site.engine.connect() as connection:
        before = connection.execute(select(audit_log.c.audit_id)).all()
        done = CliRunner().invoke(
            build_cli(Processes()), words, "sandbox-canary-fresh", env=stack.environ | {"COLUMNS": "200"}
        )
        assert done.exit_code == code, done.stderr
        assert message in done.stderr
        assert done.exception is None or isinstance(done.exception, SystemExit)
        assert connection.execute(select(audit_log.c.audit_id)).all() == before


def test_every_bad_value_is_told_at_once(stack: Stack) -> None:
    done = tenantry(stack, "tiers", "set", "standard", "--rpm", "x", "--weight", "0", "--otpm", "-3")
    assert done.returncode == 2
    for name in ("requests_per_minute", "weight", "output_tokens_per_minute"):
        assert f"{name} must be" in done.stderr


# Tenants


def test_a_tenant_has_limits_of_its_own_until_it_inherits(stack: Stack) -> None:
    stack.tenant("varied", "standard")
    words = ["--tier", "premium", "--rpm", "120", "--otpm", "9000", "--user-profile", "uprof_01x"]
    done = tenantry(
        stack, "tenants", "set", "varied", *words, "--contact", "Ann <ann@a.example>", "--disconnect=cancel"
    )
    assert done.returncode == 0, done.stderr
    shown = told(stack, "tenants", "show", "varied")
    assert shown["limits"]["requests_per_minute"] == {"value": 120, "from": "own"}
    assert shown["limits"]["sessions_max"] == {"value": 15, "from": "tier"}
    assert (shown["user_profile_id"], shown["disconnect"]) == ("uprof_01x", "cancel")
    assert shown["contact"] == "Ann <ann@a.example>"
    assert limits_of(stack, "varied") == Limits(15, 120, output_tokens_per_minute=9000)
    back = tenantry(stack, "tenants", "set", "varied", "--inherit", "rpm", "--inherit=otpm", "--user-profile", "none")
    assert back.returncode == 0, back.stderr
    assert limits_of(stack, "varied") == Limits(15)
    assert told(stack, "tenants", "show", "varied")["user_profile_id"] is None
    row = next(row for row in told(stack, "tenants", "list") if row["slug"] == "varied")
    assert (row["tier"], row["sessions_max"], row["requests_per_minute"]) == ("premium", 15, 60)


def test_a_key_never_has_more_than_its_tenant_whoever_changes(stack: Stack) -> None:
    stack.tenant("keyed", "standard")
    tenantry(stack, "tenants", "set", "keyed", "--models", "claude-haiku-*,claude-sonnet-*")
    wider = tenantry(stack, "keys", "issue", "keyed", "--model", "claude-opus-*")
    assert wider.returncode == 1
    assert "within its tenant's" in wider.stderr
    key = told(stack, "keys", "issue", "keyed", "--model", "claude-haiku-*", "--rpm", "30", "--label", "small")
    listed = next(row for row in told(stack, "keys", "list", "keyed") if row["key_id"] == key["key_id"])
    assert listed["limits"] == {"requests_per_minute": 30, "models": ["claude-haiku-*"]}
    for words in (["tenants", "set", "keyed", "--rpm", "29"], ["tiers", "set", "standard", "--rpm", "29"]):
        refused = tenantry(stack, *words)
        assert refused.returncode == 1
        assert key["key_id"] in refused.stderr
    assert limits_of(stack, "keyed").requests_per_minute == 60
    assert tenantry(stack, "keys", "revoke", key["key_id"], "--yes").returncode == 0
    assert tenantry(stack, "tenants", "set", "keyed", "--rpm", "29").returncode == 0


def test_what_a_tenant_uses_and_was_refused_is_shown(stack: Stack) -> None:
    stack.tenant("watched", "standard")
    directory = stack.site.directory
    tenant_id = directory.get_tenant("watched").tenant_id
    with stack.site.engine.begin() as connection:
        for run, count in (("run-a", 2), ("run-b", 5)):
            row = {"run_id": run, "tenant_id": tenant_id, "reason": "requests_per_minute", "count": count}
            connection.execute(insert(refusals).values(**row, last_at_us=1_795_000_000_000_000 + count))
    quiet = Stack(stack.folder / "quiet")
    quiet.site.directory.create_tenant("alone", "Alone", "standard")
    assert told(quiet, "tenants", "show", "alone")["uses"] is None
    assert "no gateway runs" in tenantry(quiet, "tenants", "show", "alone").stdout
    writer = JournalWriter(quiet.settings.journal_dir, "test")
    use = {"sessions": 3, "waiting": 1, "requests_remaining": 7}
    use |= {"input_tokens_remaining": None, "output_tokens_remaining": 0}
    alone = quiet.site.directory.get_tenant("alone").tenant_id
    file, now = LiveFile(writer.folder / LIVE_FILE), time.time()
    line = LiveTenant(alone, now, 3, 1, LiveBucket(7.0, 0.0, 10.0), None, LiveBucket(-5.0, 0.0, 10.0))
    file.write(LiveHead(now, LiveHealth()), {alone: encode_line(line)})
    shown = told(quiet, "tenants", "show", "alone")
    assert (shown["uses"], shown["announced"]) == (use, {})
    announces_50_to(quiet, "alone", file)
    writer.close()
    assert told(quiet, "tenants", "show", "alone")["uses"] is None
    quiet.stop()
    shown = told(stack, "tenants", "show", "watched")
    assert shown["refusals"] == [{"reason": "requests_per_minute", "count": 7, "last_at": "2026-11-18T11:06:40Z"}]
    text = tenantry(stack, "tenants", "show", "watched").stdout
    for word in ("may use", "uses now", "was refused", "requests_per_minute\t7"):
        assert word in text


def announces_50_to(site: Stack, slug: str, file: LiveFile) -> None:
    """A limit that its upstream announces is shown, of the credential alone or of all of an organization."""
    models = {"claude-haiku-4-5": {"requests_per_minute": 50}}
    directory = site.site.directory
    directory.set_upstream("own", "http://127.0.0.1:9")
    directory.add_credential(slug, "sandbox-of-one", "own")
    directory.bind_credential(slug, slug)
    head = LiveHead(time.time(), LiveHealth())
    upstream_id = next(one.upstream_id for one in directory.list_upstreams() if one.name == "own")
    for name in (directory.get_tenant(slug).credential_id, upstream_id):
        assert name is not None
        file.write(head, {name: encode_line(LiveCapacity(name, models))})
        assert told(site, "tenants", "show", slug)["announced"] == models
        file.write(head, {name: encode_line(LiveCapacity(name, {}))})
    file.close()


# Keys


def test_a_rotated_key_works_on_until_its_grace_is_over(stack: Stack) -> None:
    old = stack.tenant("rotating")
    key_id = stack.site.directory.list_keys("rotating")[0].key_id
    made = told(stack, "keys", "rotate", key_id, "--grace", "7s")
    assert made["replaces"] == key_id
    wait_for(lambda: stack.get(made["key"], "/v1/models")[0] == 200, what="the new key")
    again = tenantry(stack, "keys", "rotate", key_id)
    assert again.returncode == 1
    assert made["key_id"] in again.stderr
    wait_for(lambda: stack.get(old, "/v1/models")[0] == 403, what="the end of the old key")
    assert stack.get(made["key"], "/v1/models")[0] == 200
    listed = {row["key_id"]: row for row in told(stack, "keys", "list", "rotating")}
    assert (listed[key_id]["status"], listed[key_id]["replaced_by"]) == ("expired", made["key_id"])
    dead = tenantry(stack, "keys", "rotate", key_id, "--grace", "0")
    assert dead.returncode == 1
    now = told(stack, "keys", "rotate", made["key_id"], "--grace", "0")
    wait_for(lambda: stack.get(made["key"], "/v1/models")[0] == 403, what="the end at once")
    assert stack.get(now["key"], "/v1/models")[0] == 200


def test_the_last_use_of_a_key_is_shown(stack: Stack) -> None:
    key = stack.tenant("used")
    stack.get(key, "/v1/models", **{"user-agent": "anthropic/1.0"})
    used = stack.site.directory
    wait_for(lambda: used.list_keys("used")[0].last_used_agent == "anthropic/1.0", what="the last use")
    row = told(stack, "keys", "list", "used")[0]
    assert (row["last_used_address"], row["last_used_agent"]) == ("127.0.0.1", "anthropic/1.0")
    assert row["last_used_at"].startswith(str(datetime.now(UTC).year))


# Credentials and upstreams


class _Second(http.server.BaseHTTPRequestHandler):
    """Another server that speaks a little of the Messages API, and repeats what it is shown."""

    def do_GET(self) -> None:
        key = self.headers.get("x-api-key", "")
        if key == "sandbox-canary-moving":
            self.answer(200, {"data": [{"id": "claude-second"}], "first_id": self.path})
        elif key == "sandbox-canary-broken":
            self.answer(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
        elif key == "sandbox-canary-odd":
            self.answer(200, ["not", "models"])
        else:
            message = f"invalid x-api-key: {key}\x1b[31m"
            self.answer(401, {"type": "error", "error": {"type": "authentication_error", "message": message}})

    def answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def second() -> Iterator[int]:
    """The port of the second server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Second)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_tenant_is_switched_to_another_upstream_by_one_command(stack: Stack, second: int) -> None:
    key = stack.tenant("moving", secret="sandbox-canary-moving")
    stack.site.directory.set_upstream("second", f"http://127.0.0.1:{second}")
    assert b"claude-second" not in stack.get(key, "/v1/models")[2]
    assert tenantry(stack, "credentials", "move", "moving", "--upstream", "second").returncode == 0
    wait_for(lambda: b"claude-second" in stack.get(key, "/v1/models")[2], what="the other upstream")
    shown = told(stack, "upstreams", "show", "second")
    assert shown["credentials"] == ["moving"]
    assert tenantry(stack, "credentials", "move", "moving", "--upstream", "sandbox").returncode == 0
    wait_for(lambda: b"claude-second" not in stack.get(key, "/v1/models")[2], what="the first upstream")
    listed = {row["name"]: row for row in told(stack, "credentials", "list")}
    assert (listed["moving"]["upstream"], listed["moving"]["tenants"]) == ("sandbox", ["moving"])


def test_a_credential_is_rotated_without_a_change_at_the_client(stack: Stack, second: int) -> None:
    key = stack.tenant("turning", secret="sandbox-canary-first")
    stack.site.directory.set_upstream("second", f"http://127.0.0.1:{second}")
    assert (
        tenantry(stack, "credentials", "rotate", "turning", "--env", "FRESH", FRESH="sandbox-canary-next").returncode
        == 0
    )
    wait_for(lambda: stack.message(key)[0] == 200, what="the next secret")
    twin = tenantry(stack, "credentials", "rotate", "turning", "--stdin", stdin="sandbox-canary-next")
    assert twin.returncode == 1
    assert "already stored" in twin.stderr
    login = tenantry(stack, "credentials", "rotate", "turning", "--stdin", stdin="sk-ant-oat01-DUMMY")
    assert (login.returncode, "subscription" in login.stderr) == (1, True)
    assert stack.site.directory.open_credential("turning").secret == "sandbox-canary-next"


@pytest.mark.parametrize(
    ("secret", "code", "verdict", "found"),
    [
        ("sandbox-canary-moving2", 1, "refused", "answered 401: invalid x-api-key: [the credential]"),
        ("sandbox-canary-broken", 1, "unreachable", "answered 529: Overloaded"),
        ("sandbox-canary-odd", 1, "unreachable", "not a list of models"),
    ],
)
def test_a_check_says_what_the_upstream_says(
    stack: Stack, second: int, secret: str, code: int, verdict: str, found: str
) -> None:
    directory = stack.site.directory
    directory.set_upstream("second", f"http://127.0.0.1:{second}/prefix")
    name = f"check-{secret[15:]}"
    directory.add_credential(name, secret, "second")
    done = tenantry(stack, "credentials", "check", name, "--json")
    assert done.returncode == code
    said = json.loads(done.stdout)
    assert said["verdict"] == verdict
    assert found in said["found"]
    for text in (done.stdout, done.stderr):
        assert secret not in text
        assert "\x1b" not in text


def test_a_check_of_the_sandbox_works_and_of_nothing_is_unreachable(stack: Stack) -> None:
    done = tenantry(stack, "credentials", "check", "sandbox")
    assert done.returncode == 0
    assert "sandbox works" in done.stdout
    directory = stack.site.directory
    directory.set_upstream("gone", f"http://127.0.0.1:{free_ports(1)[0]}")
    directory.add_credential("gone", "sandbox-canary-gone", "gone")
    gone = tenantry(stack, "credentials", "check", "gone")
    assert gone.returncode == 1
    assert "unreachable" in gone.stderr
    with socket.create_server(("127.0.0.1", 0)) as plain:
        # A TLS upstream that is not one: nothing is sent in clear.
        directory.set_upstream("gone", f"https://127.0.0.1:{plain.getsockname()[1]}", connect_seconds=0.5)
        assert tenantry(stack, "credentials", "check", "gone").returncode == 1
        client, _ = plain.accept()
        assert b"canary" not in client.recv(65536)
        client.close()


def test_a_fallback_is_bound_and_taken_away(stack: Stack) -> None:
    stack.tenant("falling", secret="sandbox-canary-falling")
    directory = stack.site.directory
    directory.add_credential("spare", "sandbox-canary-spare", "sandbox")
    assert tenantry(stack, "credentials", "bind", "falling", "spare", "--fallback").returncode == 0
    assert told(stack, "tenants", "show", "falling")["fallback"] == "spare"
    listed = {row["name"]: row for row in told(stack, "credentials", "list")}
    assert listed["spare"]["falls_back"] == ["falling"]
    stack.tenant("other", secret="sandbox-canary-other")
    assert tenantry(stack, "credentials", "bind", "other", "spare", "--fallback").returncode == 1
    assert tenantry(stack, "credentials", "bind", "other", "spare", "--fallback", "--shared").returncode == 0
    assert tenantry(stack, "credentials", "unbind-fallback", "falling").returncode == 0
    assert told(stack, "tenants", "show", "falling")["fallback"] is None


def test_declared_upstreams_come_into_the_store(stack: Stack, tmp_path: Path) -> None:
    config = tmp_path / "tenantry.toml"
    config.write_text(
        "[upstreams.eu]\n"
        'base_url = "https://eu.example/v1/"\n'
        "connect_seconds = 2\n"
        "answer_seconds = 90.5\n"
        "shares_capacity = true\n"
        "[upstreams.eu.capacity]\n"
        "requests_per_minute = 1000\n"
        "[upstreams.anthropic.capacity]\n"
        "sessions_max = 200\n"
    )
    for _ in range(2):
        assert tenantry(stack, "init", TENANTRY_CONFIG=str(config)).returncode == 0
    shown = told(stack, "upstreams", "show", "eu")
    assert (shown["base_url"], shown["connect_seconds"], shown["answer_seconds"]) == ("https://eu.example", 2, 90.5)
    assert shown["shares_capacity"] is True
    assert shown["capacity"] == {"request_burst": 1000, "requests_per_minute": 1000}
    assert told(stack, "upstreams", "show", "anthropic")["capacity"] == {"sessions_max": 200}
    with stack.site.engine.connect() as connection:
        lines = connection.execute(select(audit_log.c.object).where(audit_log.c.action == "upstream.set")).scalars()
        assert list(lines).count("eu") == 1
    # A control process that starts with other settings brings them in too.
    stack.kill("control", 15)
    config.write_text('[upstreams.eu]\nbase_url = "https://eu2.example"\n')
    stack.environ["TENANTRY_CONFIG"] = str(config)
    stack.start("control")
    assert told(stack, "upstreams", "show", "eu")["base_url"] == "https://eu2.example"
    assert told(stack, "upstreams", "show", "anthropic")["capacity"] == {}
    del stack.environ["TENANTRY_CONFIG"]


def test_a_credential_out_of_money_is_shown_with_its_cure_and_a_check_brings_it_back(stack: Stack) -> None:
    key = stack.tenant("broke", secret="sandbox-canary-broke")
    assert stack.message(key, "spend-cap")[0] == 429
    wait_for(lambda: "broke" in stack.lanes().get("health", {}).get("credentials_spent", []), what="the health fact")
    state = {row["name"]: row["state"] for row in told(stack, "credentials", "list")}["broke"]
    assert state.startswith("out of money upstream until 2030-01-01")
    for words in (["credentials", "list"], ["tenants", "show", "broke"]):
        assert "`tenantry credentials check broke`" in " ".join(tenantry(stack, *words).stdout.split())
    assert tenantry(stack, "credentials", "check", "broke").returncode == 0
    wait_for(lambda: stack.message(key)[0] == 200, what="the credential")
    wait_for(lambda: {row["name"]: row["state"] for row in told(stack, "credentials", "list")}["broke"] == "")
