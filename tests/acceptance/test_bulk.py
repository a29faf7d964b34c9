"""`tenantry provision --from clients.csv`: checked whole, made one by one, resumed after a kill."""

import csv
import json
import os
import pty
import signal
import stat
import time
from pathlib import Path

from sqlalchemy import select

from tenantry.storage.tables import budgets, tenants
from tests.acceptance.test_commands import tenantry
from tests.spawner import spawn
from tests.stack import PATIENCE_SECONDS, Stack, wait_for

HEAD = "name,slug,tier,credential,contact,month_usd\n"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def slugs(stack: Stack) -> set[str]:
    return {row.slug for row in stack.site.directory.list_tenants()}


def test_every_client_of_the_file_works_and_a_second_run_changes_nothing(stack: Stack) -> None:
    folder = stack.folder
    (folder / "clients.csv").write_text(
        HEAD + "Acme GmbH,,premium,vault:sandbox,ops@acme.example,50.00\n"
        '"Globex, Inc.",globex,,vault:sandbox,,\n'
        "Initech,,,env:INITECH_KEY,,12.5\n"
    )
    done = tenantry(stack, "provision", "--from", "clients.csv", INITECH_KEY="sk-ant-api03-DUMMY")
    # The sandbox is no Anthropic: a credential of that upstream cannot answer here.
    assert done.returncode == 1
    assert "line 4: initech: failed" in done.stderr
    assert "2 made, 1 failed" in done.stdout
    keys_file = folder / "clients.keys.csv"
    assert stat.S_IMODE(keys_file.stat().st_mode) == 0o600
    keys = {row["slug"]: row["key"] for row in rows(keys_file)}
    assert set(keys) == {"acme-gmbh", "globex"}
    for slug, key in keys.items():
        assert stack.message(key, path=f"/t/{slug}/v1/messages")[0] == 200
        assert key not in done.stdout + done.stderr
    assert "initech" not in slugs(stack)
    assert "$50.00 a month" in (folder / "clients" / "acme-gmbh.md").read_text()
    with stack.site.engine.connect() as connection:
        found = connection.execute(
            select(tenants.c.contact, budgets.c.period, budgets.c.amount_nanos)
            .join(budgets, budgets.c.tenant_id == tenants.c.tenant_id)
            .where(tenants.c.slug == "acme-gmbh")
        ).all()
    assert [tuple(row) for row in found] == [("ops@acme.example", "month", 50_000_000_000)]
    before = keys_file.read_bytes()
    (folder / "clients.csv").write_text(
        HEAD + 'Acme GmbH,,premium,vault:sandbox,,\n"Globex, Inc.",globex,,vault:sandbox,,\n'
    )
    again = tenantry(stack, "provision", "--from", "clients.csv", "--json")
    assert again.returncode == 0, again.stderr
    assert [one["result"] for one in json.loads(again.stdout)["clients"]] == ["there already", "there already"]
    assert keys_file.read_bytes() == before


def test_the_whole_file_is_checked_before_the_first_client(stack: Stack) -> None:
    before = slugs(stack)
    (stack.folder / "wrong.csv").write_text(
        HEAD
        + "Good,,,vault:sandbox,,\n"
        + ",,,vault:sandbox,,\n"
        + "Typo,,premum,vault:sandbox,,\n"
        + "Secret,,,sk-ant-api03-DUMMY,,\n"
        + "Unset,,,env:NOT_SET_ANYWHERE,,\n"
        + "Login,,,env:LOGIN,,\n"
        + "Nobody,,,vault:nobody,,\n"
        + "Poor,,,vault:sandbox,,-5\n"
        + "Good,,,vault:sandbox,,\n"
        + "!!!,,,vault:sandbox,,\n"
        + "Wide,,,vault:sandbox,,,more\n"
        + "Slug,A B,,vault:sandbox,,\n"
        + "File,,,file:missing.key,,\n"
    )
    done = tenantry(stack, "provision", "--from", "wrong.csv", LOGIN="sk-ant-oat01-DUMMY")
    assert done.returncode == 2
    expected = """has no name; no tier 'premum'; a secret never stands; is empty; subscription; no credential 'nobody'
        month_usd: An amount; as line 2 is; no letter or digit; more cells; not a slug; cannot be read"""
    for line, words in enumerate(expected.replace("\n", ";").split(";"), 3):
        assert any(f"wrong.csv:{line}:" in told and words.strip() in told for told in done.stderr.splitlines()), words
    assert "DUMMY" not in done.stderr
    assert slugs(stack) == before
    assert not (stack.folder / "wrong.keys.csv").exists()


def test_wrong_words_are_told(stack: Stack) -> None:
    (stack.folder / "ok.csv").write_text(HEAD + "Words,,,vault:sandbox,,\n")
    for words in (
        ["--from", "ok.csv", "Name"],
        ["--from", "ok.csv", "--credential", "sandbox"],
        [],
        ["--keys-out", "x"],
    ):
        assert tenantry(stack, "provision", *words).returncode == 2
    (stack.folder / "open.csv").write_text("")
    (stack.folder / "open.csv").chmod(0o644)
    refused = tenantry(stack, "provision", "--from", "ok.csv", "--keys-out", "open.csv")
    assert refused.returncode == 1
    assert "chmod 600" in refused.stderr
    assert "words" not in slugs(stack)


def test_killed_at_any_moment_the_next_run_finishes_and_every_client_has_one_key(stack: Stack) -> None:
    count = 30
    text = HEAD + "".join(f"Killed {number},,,vault:sandbox,,5\n" for number in range(count))
    (stack.folder / "killed.csv").write_text(text)
    keys_file = stack.folder / "killed.keys.csv"
    kills = 0
    for pause in (0.00, 0.013, 0.031, 0.052, 0.074):
        have = len(rows(keys_file)) if keys_file.exists() else 0
        if have == count:  # a machine that wakes this test late has let one run finish
            break
        process = spawn("provision", "--from", "killed.csv", env=os.environ | stack.environ, cwd=stack.folder)
        wait_for(lambda have=have: keys_file.exists() and len(rows(keys_file)) > have, what="another key")
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 1
    done = tenantry(stack, "provision", "--from", "killed.csv")
    assert done.returncode == 0, done.stderr
    found = rows(keys_file)
    assert sorted(row["slug"] for row in found) == sorted(f"killed-{number}" for number in range(count))
    for row in found:
        assert stack.message(row["key"], path=f"/t/{row['slug']}/v1/messages")[0] == 200
    assert not (stack.folder / "killed.keys.csv.started").exists()
    bound = {row.slug: row.credential for row in stack.site.directory.list_tenants()}
    assert all(bound[row["slug"]] == "sandbox" for row in found)


def test_two_runs_at_once_do_not_meet_in_one_file(stack: Stack) -> None:
    from tenantry.control.bulk.keys_file import opened_keys_file

    (stack.folder / "two.csv").write_text(HEAD + "Two,,,vault:sandbox,,\n")
    with opened_keys_file(stack.folder / "two.keys.csv"):
        done = tenantry(stack, "provision", "--from", "two.csv")
    assert done.returncode == 1
    assert "another run is writing" in done.stderr


def test_a_terminal_gets_a_bar(stack: Stack) -> None:
    (stack.folder / "bar.csv").write_text(HEAD + "Bar,,,vault:sandbox,,\n")
    main, terminal = pty.openpty()
    environ = os.environ | stack.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with os.fdopen(terminal, "r+b", buffering=0) as file:
        process = spawn("provision", "--from", "bar.csv", env=environ, cwd=stack.folder, stdin=file, stderr=file)
    shown = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert b"1/1" in shown


def test_what_a_kill_left_is_made_anew_or_finished_and_nothing_in_use_is_taken(stack: Stack) -> None:
    directory = stack.site.directory
    (stack.folder / "left.csv").write_text(HEAD + "Half,,,vault:sandbox,,\nWhole,,,vault:sandbox,,7\n")
    marker = stack.folder / "left.keys.csv.started"
    directory.create_tenant("half", "Half", "standard")
    marker.write_text("half\n")
    directory.create_tenant("whole", "Whole", "standard")
    directory.bind_credential("whole", "sandbox")
    lost = directory.issue_key("whole", "first key")
    first = tenantry(stack, "provision", "--from", "left.csv")
    assert "half: made:" in first.stderr
    assert "whole: there already:" in first.stderr
    marker.write_text("whole\n")
    second = tenantry(stack, "provision", "--from", "left.csv")
    assert second.returncode == 0, second.stderr
    assert "whole: finished:" in second.stderr
    for key in [row["key"] for row in rows(stack.folder / "left.keys.csv")] + [lost.text]:
        assert stack.message(key)[0] == 200
    assert "$7.00 a month" in (stack.folder / "clients" / "whole.md").read_text()
