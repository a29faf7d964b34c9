"""Whatever the program makes is readable by its own user alone, however open the shell's umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.stack import Stack, tenantry, wait_for

MANIFEST = """
[tenants.second]
name = "Second"
tier = "standard"
credential = "vault:sandbox"
[tenants.second.keys.prod]
"""
# What the test itself has put there.
OF_THE_TEST = {"gateway.log", "control.log", "sandbox.log", "tenants.toml", "old.env"}
# systemd warns of a unit that not everybody may read; there is no secret in one.
UNITS = ".config/systemd/user"
COMMANDS = (
    ["provision", "Acme", "--credential", "sandbox", "--json"],
    ["plan", "tenants.toml", "--out", "plans/plan.json"],
    ["apply", "tenants.toml", "--yes", "--keys-out", "new.keys"],
    ["plans", "set", "gold", "--fee", "9"],
    ["plans", "assign", "acme", "gold", "--from", "2026-01-01"],
    ["export", "--format", "csv", "--month", "2026-11", "--out", "exports/november"],
    ["invoice", "acme", "--month", "2026-10", "--issue", "--yes", "--out", "invoices/acme.html"],
    ["audit", "--out", "audit.jsonl"],
    ["import", "env-file", "old.env", "--out", "imported"],
    ["service", "install", "--user", "--yes"],
    ["backup", "backups", "--keep", "3", "--check"],
    ["tenants", "delete", "acme", "--yes", "--out", "closing/statements"],
)


def open_to_others(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.name in OF_THE_TEST or path.is_symlink() or (UNITS in str(path) and path.is_file()):
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield f"{path.relative_to(folder)} {mode:04o}"


def test_every_file_and_folder_of_a_used_site_is_private(tmp_path: Path) -> None:
    before = os.umask(0o022)
    stack = Stack(tmp_path / "site")
    try:
        key = stack.tenant("first")
        stack.start()
        wait_for(lambda: stack.message(key)[0] == 200, 20, "an answer")
        (stack.folder / "tenants.toml").write_text(MANIFEST)
        (stack.folder / "old.env").write_text("TENANT_ACME_KEY=sk-ant-api03-of-a-test-long-enough\n")
        for folder in ("plans", "exports", "invoices", "closing"):
            (stack.folder / folder).mkdir(mode=0o700)
        for words in COMMANDS:
            done = tenantry(stack, *words, HOME=str(stack.folder))
            assert done.returncode == (1 if words[0] == "plan" else 0), f"{words}: {done.stdout}{done.stderr}"
        wait_for(lambda: stack.rows("first"), 20, "the row")
        for name in ("gateway", "control", "sandbox"):
            stack.kill(name, 15)
        (backup,) = (stack.folder / "backups").glob("*.tar")
        done = tenantry(stack, "restore", str(backup), "--yes")
        assert done.returncode == 0, done.stderr
        made = {path.name for path in stack.folder.rglob("*")}
        assert {"plan.json", "acme.md", "journal", "tenantry.service", "acme.html"} <= made
        assert list(open_to_others(stack.folder)) == []
    finally:
        stack.stop()
        os.umask(before)
