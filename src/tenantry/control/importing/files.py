"""From a file to its text, and from an import to the two files and what to type next."""

from __future__ import annotations

import shlex
from datetime import date
from pathlib import Path

from tenantry.control.importing.dotenv import FILE_BYTES_MAX
from tenantry.control.importing.report import Imported, Report
from tenantry.control.toml_out import write_toml
from tenantry.regular_files import read_regular

SETTINGS_FILE = "tenantry.toml"
TENANTS_FILE = "tenants.toml"


def read_text(path: Path, report: Report) -> str | None:
    """The text of a file; None, and a problem in the report, when it cannot be one."""
    try:
        data = read_regular(path, FILE_BYTES_MAX)
    except OSError as error:
        report.problem(str(path), 0, f"cannot be read: {error.strerror or error}")
        return None
    if len(data) > FILE_BYTES_MAX:
        report.problem(str(path), 0, f"is larger than {FILE_BYTES_MAX >> 20} MiB: is it the right file?")
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        report.problem(str(path), data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")
        return None


def texts_of(imported: Imported, command: str, origin: str, today: date) -> dict[str, str]:
    """The two files, by name."""
    head = f"Made by `tenantry import {command}` from {origin} on {today}."
    secrets = "Secrets stay in the environment: `env:NAME` says where."
    return {
        TENANTS_FILE: write_toml(imported.tenants, {(): f"{head}\n{secrets}", **imported.comments}),
        SETTINGS_FILE: write_toml(imported.settings, {(): head}) or f"# {head}\n",
    }


def next_steps(imported: Imported, sourced: Path | None, out: Path) -> list[str]:
    """The commands that come next, one a line, in their order."""
    steps: list[str] = []
    if sourced is not None:
        path = sourced if sourced.is_absolute() or out == Path() else sourced.absolute()
        text = str(path) if path.is_absolute() or "/" in str(path) else f"./{path}"
        steps.append(f"set -a; . {shlex.quote(text)}; set +a")
    if out != Path():
        steps.append(f"cd {shlex.quote(str(out))}")
    for variable, what in imported.variables.items():
        steps.append(f"read -rs {variable} && export {variable}    # {what}")
    return [
        *steps,
        "tenantry init",
        "tenantry serve    # in another terminal, with the same environment",
        "tenantry plan",
        "tenantry apply --keys-out keys.txt",
    ]
