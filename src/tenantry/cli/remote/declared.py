"""The file of tenants through the admin API, which takes one file and reads no references of this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tenantry.cli.context import USAGE, fail
from tenantry.cli.remote.api import Api
from tenantry.control.declared.reader import FILE_BYTES_MAX, find_files
from tenantry.regular_files import read_regular

MEDIA = "application/toml"


def ask_plan(api: Api, files: list[Path]) -> dict[str, Any]:
    """Raises: ServerFailed, BadDeclaration, OSError."""
    file = _one(files)
    return api.send("declarations", "plan", data=read_regular(file, FILE_BYTES_MAX), media=MEDIA, name=str(file))


def ask_drift(api: Api, files: list[Path]) -> dict[str, Any]:
    """Raises: as `ask_plan`."""
    file = _one(files)
    return api.send("declarations", "drift", data=read_regular(file, FILE_BYTES_MAX), media=MEDIA, name=str(file))


def ask_apply(
    api: Api, files: list[Path], plan: dict[str, Any], keys_out: Path | None, *, probe: bool
) -> dict[str, Any]:
    """Do what was planned, or nothing. Raises: as `ask_plan`."""
    file = _one(files)
    data = read_regular(file, FILE_BYTES_MAX)
    with _new_file(keys_out) as out:
        done: dict[str, Any] = api.send(
            "declarations", "apply", data=data, media=MEDIA, match=plan["fingerprint"], name=str(file), probe=probe
        )
        if out is not None:
            for key in done["keys"]:
                entry = {name: key[name] for name in ("tenant", "label", "key", "endpoint")}
                out.write(json.dumps(entry, ensure_ascii=False) + "\n")
            out.flush()
            os.fsync(out.fileno())
    return done


@contextmanager
def _new_file(path: Path | None) -> Generator[IO[str] | None]:
    """Made before anything is done, so that no key is without a place; away again where nothing came into it."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise fail(f"{path} exists; move it away, or name another file") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
    finally:
        if path.stat().st_size == 0:
            path.unlink()


def _one(files: list[Path]) -> Path:
    found = find_files(files, Path())
    if len(found) != 1 or found[0].suffix == ".json":
        raise fail("through --server it is one file of tenants, such as tenants.toml: no more, and no plan.json", USAGE)
    return found[0]
