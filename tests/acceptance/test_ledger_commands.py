"""The ledger's commands on a running site, and its processes killed while they work."""

import csv
import json
import os
import random
import threading
from datetime import UTC, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path

from sqlalchemy import text

from tenantry.ledger.verification import verify
from tests.spawner import run
from tests.stack import Stack, tenantry, wait_for


def doubled_prices(folder: Path) -> Path:
    document = json.loads(resources.files("tenantry.domain").joinpath("prices.json").read_bytes())
    document["version"] = "doubled"
    for model in document["models"].values():
        for prices in (model, *model.get("tiers", []), *model.get("history", [])):
            for name in ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output"):
                if name in prices:
                    prices[name] = str(Decimal(prices[name]) * 2)
    file = folder / "doubled.json"
    file.write_text(json.dumps(document))
    return file


def booked(stack: Stack, slug: str, count: int = 2) -> list[dict[str, object]]:
    key = stack.tenant(slug)
    for _ in range(count):
        assert stack.message(key)[0] == 200
    return wait_for(lambda: len(found := stack.rows(slug)) == count and found, what="the rows")


def test_verify_show_and_recompute(stack: Stack) -> None:
    first = booked(stack, "acme")[0]
    verified = json.loads(tenantry(stack, "ledger", "verify", "--json").stdout)
    assert (verified["ok"], verified["faults"]) == (True, [])
    for name in ("request_id", "attempt_id", "upstream_request_id"):
        [chapter] = json.loads(tenantry(stack, "ledger", "show", str(first[name]), "--json").stdout)
        assert (chapter["attempt_id"], chapter["tenant"]) == (first["attempt_id"], "acme")
        assert (chapter["credential"], chapter["upstream"]) == ("sandbox", "sandbox")
    assert tenantry(stack, "ledger", "show", "req_nobody").returncode == 1

    words = ["ledger", "recompute", "--price-version", "doubled", "--tenant", "acme"]
    assert tenantry(stack, *words).returncode == 2  # no such version is installed
    words += ["--prices", str(doubled_prices(stack.folder))]
    before = stack.rows("acme")
    assert "Nothing was booked" in tenantry(stack, *words).stdout
    assert tenantry(stack, *words, "--book").returncode == 2  # nobody can answer
    assert stack.rows("acme") == before
    done = json.loads(tenantry(stack, *words, "--book", "--yes", "--json").stdout)
    assert (done["booked"], done["difference_nanos"]) == (2, sum(int(row["cost_nanos"]) for row in before))
    assert json.loads(tenantry(stack, *words, "--book", "--yes", "--json").stdout)["booked"] == 0
    assert stack.rows("acme")[:2] == before
    shown = tenantry(stack, "ledger", "show", str(first["request_id"])).stdout
    assert "adjustment" in shown
    assert "doubled" in shown
    usage = json.loads(tenantry(stack, "usage", "acme", "--json").stdout)
    assert usage["cost_nanos"] == 2 * done["difference_nanos"]
    assert (usage["requests"], usage["outcomes"]) == (2, {"settled": 2, "adjusted": 2})
    assert tenantry(stack, "ledger", "verify").returncode == 0


def test_a_row_that_was_changed_is_told_with_exit_code_1(stack: Stack) -> None:
    row = booked(stack, "touched", 1)[0]
    change = text("UPDATE ledger SET cost_nanos = cost_nanos + :more WHERE attempt_id = :attempt")
    with stack.site.engine.begin() as connection:
        connection.execute(change, {"more": 1, "attempt": row["attempt_id"]})
    done = tenantry(stack, "ledger", "verify")
    with stack.site.engine.begin() as connection:
        connection.execute(change, {"more": -1, "attempt": row["attempt_id"]})
    assert done.returncode == 1
    assert f"changed: {row['journal_run']} row {row['journal_seq']} ({row['attempt_id']})" in done.stdout
    assert tenantry(stack, "ledger", "verify").returncode == 0


def test_export_writes_what_was_asked_for(stack: Stack) -> None:
    rows = booked(stack, "exported")
    month = f"{datetime.now(UTC):%Y-%m}"
    done = tenantry(stack, "export", "--month", month, "--tenant", "exported", "--json")
    [made] = json.loads(done.stdout)
    assert (made["file"], made["rows"]) == (f"exports/usage-{month}-exported.csv", 2)
    assert made["cost_nanos"] == sum(int(str(row["cost_nanos"])) for row in rows)
    with (stack.folder / made["file"]).open(newline="") as file:
        assert [line["attempt_id"] for line in csv.DictReader(file)] == [row["attempt_id"] for row in rows]
    week = f"{datetime.now(UTC):%G-W%V}"
    everything = tenantry(stack, "export", "--week", week, "--format", "parquet", "--out", "out")
    assert everything.returncode == 0, everything.stderr
    assert (stack.folder / "out" / f"usage-{week}.parquet").read_bytes().startswith(b"PAR1")
    for words in ([], ["--week", week, "--month", month], ["--week", month], ["--month", "2026-13"], ["--week", "x"]):
        assert tenantry(stack, "export", *words).returncode == 2
    assert tenantry(stack, "export", "--week", week, "--tenant", "nobody").returncode == 1
    assert tenantry(stack, "export", "--week", week, "--out", "/dev/null").returncode == 1
    (stack.folder / "pyarrow.py").write_text("raise ImportError\n")  # as if the extra were not installed
    words = ("export", "--week", week, "--format", "parquet")
    missing = run(*words, env=os.environ | stack.environ, cwd=stack.folder, cold=True)
    (stack.folder / "pyarrow.py").unlink()
    assert missing.returncode == 2
    assert "tenantry[parquet]" in missing.stderr


def test_backup_of_a_running_site_and_its_way_back(stack: Stack) -> None:
    booked(stack, "kept")
    done = tenantry(stack, "backup", "site.backup")
    assert done.returncode == 0, done.stderr
    assert "master key is not in it" in done.stdout
    assert "Stop gateway and control first" in tenantry(stack, "restore", "site.backup", "--yes").stderr.replace(
        "stop", "Stop"
    )
    elsewhere = {"TENANTRY_DATA_DIR": str(stack.folder / "elsewhere")}
    done = tenantry(stack, "restore", "site.backup", **elsewhere)
    assert done.returncode == 0, done.stderr
    assert "put the master key back" in done.stdout
    key = stack.folder / "elsewhere" / "master.key"
    key.write_bytes(stack.settings.master_key_file.read_bytes())
    key.chmod(0o600)
    there = json.loads(tenantry(stack, "usage", "kept", "--json", **elsewhere).stdout)
    assert there == json.loads(tenantry(stack, "usage", "kept", "--json").stdout)
    assert tenantry(stack, "restore", "site.backup", **elsewhere).returncode == 1
    assert tenantry(stack, "restore", "no-such-file", **elsewhere).returncode == 1


def test_a_daily_backup_is_checked_named_by_its_time_and_the_oldest_goes(stack: Stack) -> None:
    booked(stack, "daily", 1)
    kept = stack.folder / "backups"
    names: list[list[str]] = []
    for day in range(3):
        done = tenantry(stack, "backup", "backups", "--keep", "2", "--check")
        assert done.returncode == 0, done.stderr
        assert "can be restored" in done.stdout
        for path in kept.glob("tenantry-2*.tar"):  # as if it had been made days ago
            path.rename(kept / f"tenantry-199{day}.tar")
        names.append(sorted(path.name for path in kept.iterdir()))
    assert names == [
        ["tenantry-1990.tar"],
        ["tenantry-1990.tar", "tenantry-1991.tar"],
        ["tenantry-1991.tar", "tenantry-1992.tar"],
    ]


def test_a_backup_before_the_first_daily_one_makes_the_folder_for_them_all(stack: Stack) -> None:
    """As docs/production.md has it before an upgrade; it made a file that stood in the timer's way."""
    folder = stack.folder / "early"
    assert tenantry(stack, "backup", "early").returncode == 0
    assert [path.suffix for path in folder.iterdir()] == [".tar"]
    (stack.folder / "taken").write_text("")
    refused = tenantry(stack, "backup", "taken", "--keep", "2")
    assert (refused.returncode, "is a file where a folder has to be" in refused.stderr) == (1, True)


def test_a_backup_replaces_no_file_unasked_and_a_drill_changes_nothing(stack: Stack) -> None:
    booked(stack, "drilled", 1)
    assert tenantry(stack, "backup", "drill.tar").returncode == 0
    whole = (stack.folder / "drill.tar").read_bytes()
    assert tenantry(stack, "backup", "drill.tar").returncode == 2  # nobody can answer
    assert (stack.folder / "drill.tar").read_bytes() == whole
    assert tenantry(stack, "backup", "drill.tar", "--yes").returncode == 0
    before = sorted(path.name for path in stack.settings.data_dir.iterdir())
    done = tenantry(stack, "restore", "drill.tar", "--check")
    assert (done.returncode, "can be restored" in done.stdout) == (0, True), done.stderr
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    (stack.folder / "damaged.tar").write_bytes(damaged)
    (stack.folder / "torn.tar").write_bytes(whole[:5000])
    for name in ("damaged.tar", "torn.tar", "absent.tar"):
        assert tenantry(stack, "restore", name, "--check").returncode == 1
    assert sorted(path.name for path in stack.settings.data_dir.iterdir()) == before


def test_control_killed_while_it_drains_books_everything_once(own_stack: Stack) -> None:
    stack = own_stack.start("sandbox", "gateway", "control")
    key = stack.tenant("busy")
    stop = threading.Event()
    answers: list[int] = []

    def send() -> None:
        while not stop.is_set():
            answers.append(stack.message(key)[0])

    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(4):
        stop.wait(0.3 + chance.random() / 2)
        stack.kill("control")
        stack.start("control")
    stop.set()
    for sender in senders:
        sender.join()
    assert set(answers) == {200}
    wait_for(lambda: len(stack.rows()) == len(answers), what="every row")
    assert len(stack.billed()) == len(answers)
    found = verify(stack.site.engine)
    assert (found.fault_count, found.rows) == (0, len(answers))
