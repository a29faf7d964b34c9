"""Files of a control elsewhere, brought here: whole or not at all, for their owner alone."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tenantry.cli.context import USAGE, fail
from tenantry.cli.progress import Came
from tenantry.cli.remote.api import Api, NotWritten, ServerFailed
from tenantry.ledger.exports import replacing


def fetch(api: Api, path: Path, *place: str, **query: Any) -> str:
    """What is at a place of the API, into a file; its SHA-256. Raises: ServerFailed, OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path) as file:
        try:
            api.save(file, *place, **query)
        except NotWritten as error:
            raise OSError(None, str(error)) from None
    with path.open("rb") as whole:
        return hashlib.file_digest(whole, "sha256").hexdigest()


def fetch_exports(
    api: Api, period: str, tenant: str | None, form: str, folder: Path, came: Came
) -> list[dict[str, Any]]:
    """Exports that control makes, each with its file here. Raises: ServerFailed, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = ("exports",) if tenant is None else ("tenants", tenant, "exports")
    try:
        made = api.write("POST", *place, body={"period": period, "format": form})["files"]
    except ServerFailed as error:
        # What it cannot make at all is wrong usage, as it is on the store itself.
        if error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise fail(str(error), USAGE) from None
        if error.status == HTTPStatus.FORBIDDEN and tenant is None:
            raise ServerFailed(f"{error} (of all tenants; of one: --tenant SLUG)", error.status) from None
        raise
    done: list[dict[str, Any]] = []
    for count, one in enumerate(made, 1):
        path = folder / Path(one["file"]).name
        if fetch(api, path, "exports", one["file"]) != one["sha256"]:
            path.unlink(missing_ok=True)
            raise ServerFailed(f"{one['file']} was made anew while it was fetched: ask again")
        done.append({"file": str(path), **{name: one[name] for name in ("rows", "cost_nanos", "sha256")}})
        came(count / len(made))
    return done
