"""`invoice --all --issue` is killed again and again: no gap, no number twice, one invoice for each tenant and month."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from tenantry.control.invoicing import verify_invoices
from tenantry.domain.plans import Terms
from tenantry.storage.directory.plans import Agreed
from tests.spawner import Process, spawn
from tests.stack import Stack, tenantry, wait_for

# `TENANTRY_KILLS=20 python -m pytest tests/acceptance/test_invoice_kills.py` kills so many.
KILLS = int(os.environ.get("TENANTRY_KILLS", "2"))
TENANTS = 60
MONTHS = [f"2026-{number:02d}" for number in range(1, 11)]
USD = 1_000_000_000


def sold(stack: Stack, tenants: int = TENANTS) -> None:
    """Tenants on a plan since before all months."""
    with stack.site.directory.transaction() as directory:
        directory.set_plan("flat", Terms(fee_nanos=79 * USD, fair_use=True))
        for number in range(tenants):
            slug = f"t{number:03d}"
            directory.create_tenant(slug, slug, "standard")
            directory.assign_plan(slug, Agreed("flat", date(2025, 12, 1)))


def issuing(stack: Stack, month: str, err: Any = None) -> Process:
    words = ("invoice", "--all", "--month", month, "--issue", "--yes", "--out", "invoices", "--format", "csv")
    return spawn(*words, env=os.environ | stack.environ, cwd=stack.folder, stderr=err)


def wait_for_an_invoice(stack: Stack, process: Process, before: int) -> None:
    """Or for the end of the process."""
    wait_for(
        lambda: process.poll() is not None or len(stack.site.directory.list_invoices()) > before, 180, "an invoice"
    )


def test_killed_at_any_moment_every_tenant_has_one_invoice_a_month_and_no_number_is_missing(own_stack: Stack) -> None:
    seed = int(os.environ.get("TENANTRY_SEED", random.randrange(10**6)))
    chance, killed, at = random.Random(seed), 0, 0
    sold(own_stack)
    while killed < KILLS and at < len(MONTHS):
        before = len(own_stack.site.directory.list_invoices())
        process = issuing(own_stack, MONTHS[at])
        # Some are hit before the first transaction, some between two or within one, some among the files.
        if chance.random() < 0.8:
            wait_for_an_invoice(own_stack, process, before)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        if process.wait(180) == 0:
            at += 1
        else:
            killed += 1
    months = MONTHS[: at + 1]
    for month in months:
        assert issuing(own_stack, month).wait(180) == 0, f"seed {seed}"
    found = own_stack.site.directory.list_invoices()
    assert [one.number for one in found] == [f"INV-2026-{number:04d}" for number in range(1, len(found) + 1)]
    assert Counter((one.slug, one.month) for one in found) == Counter(
        (f"t{number:03d}", month) for number in range(TENANTS) for month in months
    ), f"seed {seed}"
    assert verify_invoices(own_stack.site) == (len(found), [])
    assert own_stack.site.directory.verify_audit()[1] == []
    files = {path.name for path in (own_stack.folder / "invoices").glob("INV-*")}
    assert files == {f"{one.number}.csv" for one in found}, f"seed {seed}"


def test_an_interrupt_says_in_one_line_what_is_issued(own_stack: Stack) -> None:
    sold(own_stack)
    told, code = own_stack.folder / "told", 0
    months = iter(MONTHS)
    while code != 130:  # one that came too late has found the month done
        month, before = next(months), len(own_stack.site.directory.list_invoices())
        with told.open("wb") as file:
            process = issuing(own_stack, month, file)
            wait_for_an_invoice(own_stack, process, before)
            process.send_signal(signal.SIGINT)
            code = process.wait(180)
    numbers = [one.number for one in own_stack.site.directory.list_invoices(month=month)]
    which = f"{len(numbers)} are issued ({numbers[0]} to {numbers[-1]})"
    assert told.read_text() == f"tenantry: interrupted; {which}; the same command goes on with the others\n"
    assert tenantry(own_stack, "invoice", "--all", "--issue", "--yes", "--month", month).returncode == 0
    assert len(own_stack.site.directory.list_invoices(month=month)) == TENANTS


def test_a_file_that_a_folder_cannot_take_is_told_and_comes_with_the_next_run(own_stack: Stack, tmp_path: Path) -> None:
    sold(own_stack, 3)
    folder = tmp_path / "invoices"
    folder.write_text("a file in the way")
    failed = tenantry(own_stack, "invoice", "--all", "--issue", "--yes", "--out", str(folder))
    assert failed.returncode == 1
    assert failed.stderr == f"tenantry: {folder} cannot be written: File exists\n"
    folder.unlink()
    assert tenantry(own_stack, "invoice", "--all", "--issue", "--yes", "--out", str(folder)).returncode == 0
    assert len(list(folder.glob("INV-*.html"))) == 3
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
