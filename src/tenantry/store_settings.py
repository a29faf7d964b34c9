"""Where the store is, and its password, which never stands beside it: what is not in a URL is in no log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from tenantry.regular_files import read_regular

# scheme://user:password@rest (RFC 3986 3.2.1). To the last "@": one in the password should have been escaped, and must
# not leave half of it behind.
_IN_FRONT: Final = re.compile(r"(?P<begin>postgresql(\+\w+)?://[^:@/?#]*):(?P<secret>.*)(?P<rest>@[^@]*)", re.DOTALL)
# libpq takes it as a parameter, too.
_BEHIND: Final = re.compile(r"(?P<mark>[?&])password=(?P<password>[^&#]*)&?")
_PASSWORD_BYTES_MAX: Final = 4096


def without_password(store_url: str) -> tuple[str, str | None]:
    """A store's URL without the password in it, and that."""
    if not store_url.startswith("postgresql"):
        return store_url, None
    password: str | None = None
    found = _IN_FRONT.fullmatch(store_url)
    if found is not None:
        store_url, password = found["begin"] + found["rest"], unquote(found["secret"]) or None
    behind = _BEHIND.search(store_url)
    if behind is not None:
        store_url = _BEHIND.sub(lambda one: one["mark"], store_url).rstrip("?&")
        password = password or unquote(behind["password"]) or None
    return store_url, password


def half_a_store(values: Mapping[str, Any]) -> Iterator[str]:
    """A password for what takes none, and two of them."""
    if "store_password" not in values or "store_password_file" not in values or "store_url" not in values:
        return  # told already
    store_url: str = values["store_url"] or ""
    ways = [values["store_password"], values["store_password_file"], without_password(store_url)[1]]
    if sum(one is not None for one in ways) > 1:
        yield "store_password_file: the password is set twice; leave one: the file, TENANTRY_STORE_PASSWORD, store_url"
    if any(one is not None for one in ways) and not store_url.startswith("postgresql"):
        yield "store_password_file: only PostgreSQL takes a password; set store_url to postgresql://USER@HOST/DATABASE"
    path: Path | None = values["store_password_file"]
    if path is not None and path.is_file():  # one that is missing is told elsewhere
        try:
            read_secret(path)
        except (OSError, ValueError) as error:
            yield f"store_password_file: {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}"


def read_secret(path: Path) -> str:
    """Of a file that has been found to be there. Raises: OSError, ValueError."""
    return read_regular(path, _PASSWORD_BYTES_MAX).decode("utf-8").strip()
