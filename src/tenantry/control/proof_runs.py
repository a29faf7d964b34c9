"""`verify isolation` as a task: in a process of its own, as by hand: its load and its keys are not control's."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tenantry.control.tasks import Work
from tenantry.settings import Settings

# A whole run with load takes some minutes on a busy machine.
PROOF_SECONDS_MAX: Final = 1800


class ProofFailed(Exception):
    """The proof could not be run."""


def proofs_folder(settings: Settings) -> Path:
    return settings.data_dir / "proofs"


def proof_work(report: Path, tenants: Sequence[str], *, quick: bool, messages: bool) -> Work:
    """What a task does: the report goes to `report`, each group's verdict is a line of progress."""
    asked = ["verify", "isolation", "--json", "--report", str(report)]
    asked += ["--tenants", ",".join(tenants)] if tenants else []
    asked += ["--quick"] if quick else []
    asked += ["--yes"] if messages else []

    def work(tell: Callable[[str], None]) -> dict[str, Any]:
        report.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _run([sys.executable, "-m", "tenantry", *asked], tell)

    return work


def _run(command: list[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """Raises: ProofFailed."""
    with subprocess.Popen(  # noqa: S603 -- this program itself, with arguments that were checked
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        last: list[str] = []
        told = threading.Thread(target=_tell_lines, args=(child, tell, last), daemon=True)
        told.start()
        killer = threading.Timer(PROOF_SECONDS_MAX, child.kill)
        killer.daemon = True
        killer.start()
        try:
            out = child.stdout.read() if child.stdout is not None else ""
        finally:
            killer.cancel()
        told.join()
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        raise ProofFailed(last[-1] if last else "it ended without a word") from None
    return found


def _tell_lines(child: subprocess.Popen[str], tell: Callable[[str], None], last: list[str]) -> None:
    for line in child.stderr or ():
        last[:] = [line.strip().removeprefix("tenantry: ")]
        tell(line.rstrip())
