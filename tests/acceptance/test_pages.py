"""Every command of every page does what the page says, typed in its order, on a site of the page's own."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tests.pages import PAGES, ROOT, Command, ShownFile, steps
from tests.spawner import spawn
from tests.stack import Stack

# What is not run: how the command begins, and why.
NOT_RUN = {
    "make ": "builds or tests this checkout, which is what runs this test",
    "sudo apt-get": "changes the machine",
    "sudo useradd": "changes the machine",
    "sudo install": "changes the machine",
    "sudo rm": "removes what was not made",
    "sudo python3": "changes the machine",
    "sudo /opt/tenantry/bin/pip": "changes the machine",
    "sudo systemctl": "needs systemd",
    "docker ": "needs a container engine",
    "cp deploy/compose.env.example": "belongs to the containers",
    "curl https://claude.agency.example": "a name that does not exist",
    "tenantry serve": "runs already, in what the page calls the other terminal",
    "tenantry restore BACKUP.tar": "needs everything stopped; test_ledger_commands.py restores",
    "cp -r <data_dir>/replaced": "belongs to a restore",
    "tenantry service install": "writes to the machine's systemd; tests/unit/control/test_service.py installs",
    "tenantry alerts test": "would send to targets that do not exist; tests/unit/control/test_alerting.py delivers",
}
# What stands on a page for what is here.
STANDS_FOR = {
    ".venv/bin/tenantry": "tenantry",
    "sudo -E -u tenantry /opt/tenantry/bin/tenantry": "tenantry",
    "sudo -E /opt/tenantry/bin/tenantry": "tenantry",
    "sudo cp -p": "cp -p",
}
# Names that a page leaves to its reader.
FILLED_IN: dict[str, Callable[[Reader], str]] = {
    "/etc/tenantry/tenantry.toml": lambda reader: str(reader.folder / "tenantry.toml"),
    "/var/lib/tenantry/site": lambda reader: str(reader.stack.settings.data_dir),
    "/var/lib/tenantry": lambda reader: str(reader.folder),
    "/srv/": lambda reader: f"{reader.folder}/srv/",
    "127.0.0.1:3001": lambda reader: f"127.0.0.1:{reader.stack.settings.control_port}",
    "127.0.0.1:3000": lambda reader: f"127.0.0.1:{reader.stack.port}",
    "sk-proxy-demo-...": lambda reader: reader.stack.site.directory.issue_key("demo", "page").text,
    "key_...": lambda reader: reader.working_key(),
    "REQUEST_ID": lambda reader: reader.stack.final_rows("acme")[-1]["request_id"],
    "<data_dir>": lambda reader: str(reader.stack.settings.data_dir),
}
# What is typed where a command asks; `y` where it asks whether to go on.
TYPED = {
    "read -rs ACME_KEY": "sandbox-key-of-acme",
    "read -rs NEW_KEY": "sandbox-new-key-of-acme",
    "read -rs GLOBEX_KEY": "sandbox-key-of-globex",
    "add initech --stdin": "sandbox-key-of-initech",
    "add spare --stdin": "sandbox-key-to-spare",
    "read -rs CHAT_URL": "json://127.0.0.1:9/chat",
    "--apprise-stdin": "json://127.0.0.1:9/acme",
    "read -rs ACME_ANTHROPIC_KEY": "sandbox-key-of-acme",
}
_EXIT_1 = re.compile(r"#.*exit 1(:|$)", re.MULTILINE)
_NEEDS_SHELL = re.compile(r"[$|&;<>`*\\]")
COMMAND_SECONDS_MAX = 600.0
DEMO = "tenantry provision Demo --credential sandbox"
ACME = 'tenantry provision "Acme GmbH" --slug acme --tier premium --credential sandbox'
# What the reader of a page has done before, as it says. A page that begins with nothing is not here.
BEFORE: dict[str, tuple[str, ...]] = {
    "README.md": (DEMO,),
    "docs/admin-api.md": (ACME,),
    "docs/alerts.md": (ACME,),
    "docs/audit.md": (ACME,),
    "docs/summaries.md": (ACME,),
    "docs/budgets.md": (ACME,),
    "docs/control-room.md": (ACME,),
    "docs/exports.md": (ACME,),
    "docs/invoices.md": (ACME,),
    "docs/ledger.md": (ACME,),
    "docs/limits.md": (ACME,),
    "docs/portal.md": (ACME,),
    "docs/sandbox.md": (DEMO,),
}


class Reader:
    """Types what a page says, in a terminal, in a folder of their own."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.folder = stack.folder
        self._cwd = stack.folder
        self._environ = {"PATH": f"{_program(stack.folder)}:{os.environ['PATH']}", "HOME": str(stack.folder)}
        self._environ |= {"TERM": "dumb", "PYTHONPATH": str(ROOT), **stack.environ}

    def working_key(self) -> str:
        """The newest key of acme that works."""
        return [one.key_id for one in self.stack.site.directory.list_keys("acme") if one.revoked_at is None][-1]

    def make(self, file: ShownFile) -> None:
        path = self._cwd / self._filled_in(file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)

    def type(self, text: str) -> tuple[int, str]:
        """The exit code of a command, and everything that it printed."""
        text = self._filled_in(text)
        terminal, its = pty.openpty()
        with tempfile.TemporaryFile() as out, os.fdopen(its, "r+b", buffering=0) as stdin:
            answer = next((typed for name, typed in TYPED.items() if name in text), "y")
            os.write(terminal, f"{answer}\n".encode())
            code = self._run(text, stdin, out)
            out.seek(0)
            told = out.read().decode()
        os.close(terminal)
        return code, told

    def _filled_in(self, text: str) -> str:
        for name, fill in FILLED_IN.items():
            if name in text:
                text = text.replace(name, fill(self))
        return text

    def _run(self, text: str, stdin: IO[bytes], out: IO[bytes]) -> int:
        words = shlex.split(text, comments=True)
        if words[0] == "tenantry" and _NEEDS_SHELL.search(" ".join(words)) is None:
            process = spawn(*words[1:], env=self._environ, cwd=self._cwd, stdin=stdin, stdout=out, stderr=out)
            return process.wait(COMMAND_SECONDS_MAX)
        return self._run_in_shell(text, stdin, out)

    def _run_in_shell(self, text: str, stdin: IO[bytes], out: IO[bytes]) -> int:
        """What it exports, and where it goes, holds for the commands after it."""
        kept = self.folder / ".shell"
        script = f"{text}\ncode=$?\n{{ pwd; env -0; }} > {shlex.quote(str(kept))}\nexit $code\n"
        done = subprocess.run(
            ["bash", "-c", script],
            env=self._environ,
            cwd=self._cwd,
            stdin=stdin,
            stdout=out,
            stderr=out,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        place, _, environ = kept.read_text().partition("\n")
        self._cwd = Path(place)
        self._environ = dict(one.split("=", 1) for one in environ.rstrip("\0").split("\0"))
        return done.returncode


def _program(folder: Path) -> Path:
    """A folder with the command `tenantry` in it."""
    made = folder / "bin"
    made.mkdir()
    (made / "tenantry").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tenantry "$@"\n')
    (made / "tenantry").chmod(0o755)
    return made


def _as_here(command: Command) -> str:
    text = command.text
    for shown, here in STANDS_FOR.items():
        text = text.replace(shown, here)
    return text


def _is_run(text: str) -> bool:
    return not text.lstrip().startswith(tuple(NOT_RUN))


PAGES_WITH_COMMANDS = [page for page in PAGES if any(isinstance(step, Command) for step in steps(page))]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_every_command_of_the_page_runs_as_it_is_written(own_stack: Stack, page: str) -> None:
    # What clients' own keys are for is the simulation here.
    own_stack.environ["TENANTRY_UPSTREAM_BASE_URL"] = f"http://127.0.0.1:{own_stack.settings.sandbox_port}"
    own_stack.start()
    reader = Reader(own_stack)
    for before in BEFORE.get(page, ()):
        assert reader.type(before)[0] == 0
    wrong: list[str] = []
    for step in steps(page):
        if isinstance(step, ShownFile):
            reader.make(step)
        elif _is_run(text := _as_here(step)):
            code, told = reader.type(text)
            if code != (1 if _EXIT_1.search(text) else 0) or "Traceback" in told:
                wrong.append(f"{step.page}:{step.line}: exit {code}: {step.text}\n{told}")
    assert not wrong, "\n".join(wrong)


def test_no_exception_is_left_over() -> None:
    typed = [_as_here(step) for page in PAGES for step in steps(page) if isinstance(step, Command)]
    assert [begin for begin in NOT_RUN if not any(text.lstrip().startswith(begin) for text in typed)] == []
