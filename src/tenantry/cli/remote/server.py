"""Which control a command works through: its address, the token for it, the CA that its certificate is from."""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tenantry.regular_files import open_regular

ADDRESS_VARIABLE: Final = "TENANTRY_SERVER"
CA_VARIABLE: Final = "TENANTRY_SERVER_CA_FILE"
TOKEN_VARIABLE: Final = "TENANTRY_ADMIN_TOKEN"  # noqa: S105 -- the name of a variable
TOKEN_FILE_VARIABLE: Final = "TENANTRY_ADMIN_TOKEN_FILE"  # noqa: S105 -- the name of a variable
# Under which the system's keyring keeps a token, for the address as it is typed.
KEYRING_SERVICE: Final = "tenantry"
# As control has it (web/tokens.py).
_TOKEN_CHARS_MAX: Final = 512
_PORTS: Final = {"https": 443, "http": 80}


class BadServer(ValueError):
    """The server or its token cannot be used as named."""


@dataclass(frozen=True, slots=True)
class Server:
    """An address that was looked at. `root` is what stands before `/api/v1` in a path, "" mostly."""

    url: str
    is_tls: bool
    host: str
    port: int
    root: str
    ca_file: Path | None
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Named:
    """What was typed, or set in the environment, before anything of it was looked at."""

    url: str
    ca_file: Path | None = None


# What the top of the command line says, for the commands below it.
NAMED: ContextVar[Named | None] = ContextVar("server", default=None)


def read_server(named: Named, environ: Mapping[str, str]) -> Server:
    """The server with its token. Raises: BadServer."""
    try:
        found = urlsplit(named.url)
        port = found.port
    except ValueError:
        raise BadServer(_words(named.url)) from None
    if found.scheme not in _PORTS or not found.hostname or found.query or found.fragment or not _is_plain(named.url):
        raise BadServer(_words(named.url))
    if found.username is not None or found.password is not None:
        raise BadServer(f"--server takes no name and no password: the token goes into {TOKEN_VARIABLE}")
    is_tls = found.scheme == "https"
    if not is_tls and not _is_loopback(found.hostname):
        raise BadServer(f"{found.hostname} is not this machine: a token goes there over https:// only")
    if not is_tls and named.ca_file is not None:
        raise BadServer("--ca-file is for https://")
    token = _read_token(named.url, environ)
    root = found.path.rstrip("/")
    return Server(named.url, is_tls, found.hostname, port or _PORTS[found.scheme], root, named.ca_file, token)


def _words(url: str) -> str:
    return f"--server is an address such as https://control.agency.example, not {url[:80]!r}"


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read_token(url: str, environ: Mapping[str, str]) -> str:
    """From the environment, a private file or the keyring: the first that there is."""
    given = environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        return _checked(given, TOKEN_VARIABLE)
    path = environ.get(TOKEN_FILE_VARIABLE)
    if path:
        return _checked(_from_file(Path(path)), path)
    kept = _from_keyring(url)
    if kept:
        return _checked(kept.strip(), "the keyring")
    raise BadServer(
        f"no admin token for {url}: set {TOKEN_VARIABLE}, or {TOKEN_FILE_VARIABLE} to a file with mode 0600; "
        "`tenantry keys admin create` makes one, on the machine of control"
    )


def _checked(token: str, source: str) -> str:
    if not _is_plain(token) or len(token) > _TOKEN_CHARS_MAX:
        raise BadServer(f"{source}: what is in it is no admin token")
    return token


def _from_file(path: Path) -> str:
    try:
        with open_regular(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise BadServer(f"{path}: others can read it; `chmod 600 {path}`, and take another token if they did")
            text = file.read(2 * _TOKEN_CHARS_MAX).decode("ascii", "replace").strip()
    except OSError as error:
        raise BadServer(f"{path}: {error.strerror or error}") from None
    if not text:
        raise BadServer(f"{path} is empty")
    return text


def _from_keyring(url: str) -> str | None:
    """Of the library `keyring`, where it is installed beside Tenantry."""
    try:
        keyring: Any = importlib.import_module("keyring")
    except ImportError:
        return None
    try:
        return keyring.get_password(KEYRING_SERVICE, url)
    except Exception as error:  # noqa: BLE001 -- whatever a backend raises: it is told, and no token is taken
        raise BadServer(f"the keyring cannot be read: {error}; or set {TOKEN_VARIABLE}") from None
