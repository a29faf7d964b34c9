"""Settings against each other, and against the files they name. Whatever is wrong is told before anything starts."""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

PREFIX: Final = "TENANTRY_"
# Read by the command line, by the build and by a client (docs: its guide); the rest `serve` tells whom it starts.
_NO_SETTINGS: Final = frozenset(
    {
        *("config", "compile", "key", "supervised", "heartbeat", "listener", "seat", "seats", "starting"),
        *("server", "server_ca_file", "admin_token", "admin_token_file"),
    }
)
# What Kubernetes sets in every container for a service that is called `tenantry` (its "service links").
_SERVICE_LINK: Final = re.compile(r"service_host|service_port\w*|port_\d+_\w+")
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# Who listens on all addresses of a machine is reached from itself at these.
_FROM_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- compared, not bound
_EVERYWHERE: Final = frozenset(_FROM_HERE)
# Files that have to be there.
_FILES: Final = (
    "tls_cert_file",
    "tls_key_file",
    "upstream_ca_file",
    "control_tls_certificate",
    "control_tls_key",
    "oidc_client_secret_file",
    "store_password_file",
)
# Those that hold a secret.
_SECRET_FILES: Final = ("oidc_client_secret_file", "store_password_file")
_STORES: Final = re.compile(r"(sqlite|postgresql)(\+\w+)?://", re.ASCII)


def reached_at(host: str) -> str:
    """Where a process of this machine that listens on `host` is reached from here."""
    return _FROM_HERE.get(host, host)


def near_name(name: str, known: Iterable[str], shown: Mapping[str, str] | None = None) -> str:
    """What may have been meant, as the end of a sentence. `shown`: how a known name is written, where not as it is."""
    near = difflib.get_close_matches(name, known, 1)
    if not near:
        return "; docs/configuration.md lists them"
    return f": did you mean {near[0] if shown is None else shown[near[0]]!r}?"


def unknown_variables(environ: Mapping[str, str], known: Iterable[str]) -> Iterator[str]:
    """Names of the environment that look like settings and are none. `known`: the settings' names."""
    names = {*known}
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or name in names or name in _NO_SETTINGS:
            continue
        if _SERVICE_LINK.fullmatch(name) or (name == "port" and "://" in environ[variable]):
            continue
        meant = {one: PREFIX + one.upper() for one in names}
        yield f"{variable}: there is no such setting{near_name(name, names, meant)}"


def is_store_url(text: str) -> bool:
    """Whether it names a database of a kind that can be a store."""
    return _STORES.match(text) is not None


def contradictions(values: Mapping[str, Any], upstreams: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What cannot be right together. A value that could not be read is missing. `upstreams`: names and addresses."""
    yield from _shared_ports(values)
    for name, base_url in upstreams:
        if _is_own(base_url, values):
            yield f"{name}: {base_url} is this gateway itself; name the API that it forwards to"
    store_url = values.get("store_url")
    if store_url is not None and not is_store_url(store_url):
        yield "store_url: must begin with sqlite:/// or postgresql://, as in sqlite:////var/lib/tenantry/tenantry.db"
    yield from _control_in_the_clear(values)
    yield from _half_a_provider(values)
    if values.get("public_domain") and values.get("public_url", "") is None:
        yield "public_domain: set public_url too, such as https://claude.agency.example: it says how clients get there"
    for names in (("tls_cert_file", "tls_key_file"), ("control_tls_certificate", "control_tls_key")):
        if [values[name] is None for name in names if name in values] in ([True, False], [False, True]):
            yield f"{' and '.join(names)} go together: set both, or neither"


def _control_in_the_clear(values: Mapping[str, Any]) -> Iterator[str]:
    """Passwords and sessions never cross a network without TLS."""
    host, proxies = values.get("control_host"), values.get("control_tls_proxy")
    if host is None or proxies is None or "control_tls_certificate" not in values:
        return  # told already
    has_tls = values["control_tls_certificate"] is not None
    if host not in LOOPBACK and not proxies and not has_tls:
        yield (
            "control_host must be a loopback address, unless control_tls_certificate and control_tls_key are set, or "
            "control_tls_proxy says which TLS proxy in front it is reached through"
        )
    if values.get("control_url", "") is None and (proxies or host in _EVERYWHERE):
        yield "control_url: set it too, such as https://control.agency.example: it says how people get there"
    for name in ("control_url", "portal_url"):
        url: str = values.get(name) or ""
        if url.startswith("http://") and (proxies or has_tls or urlsplit(url).hostname not in LOOPBACK):
            yield f"{name}: {url} is without TLS; it has to begin with https:// unless it is on loopback"


def _half_a_provider(values: Mapping[str, Any]) -> Iterator[str]:
    names = ("oidc_issuer", "oidc_client_id", "oidc_client_secret", "oidc_client_secret_file", "oidc_roles")
    if any(name not in values for name in names) or not any(values[name] for name in names):
        return
    for name in ("oidc_issuer", "oidc_client_id"):
        if values[name] is None:
            yield f"{name}: set it too: signing in through a provider needs oidc_issuer, oidc_client_id and a secret"
    if (values["oidc_client_secret"] is None) == (values["oidc_client_secret_file"] is None):
        yield "oidc_client_secret_file: name the file with the client's secret, or set TENANTRY_OIDC_CLIENT_SECRET"


def _shared_ports(values: Mapping[str, Any]) -> Iterator[str]:
    hosts = {"gateway": values.get("gateway_host"), "control": values.get("control_host"), "sandbox": "127.0.0.1"}
    places = [(name, host, values.get(f"{name}_port")) for name, host in hosts.items() if host is not None]
    for number, (name, host, port) in enumerate(places):
        for other, its_host, its_port in places[number + 1 :]:
            if port and port == its_port and _overlap(host, its_host):
                yield f"{name}_port and {other}_port are both {port}: each needs a port of its own"


def _overlap(one: str, other: str) -> bool:
    return one == other or bool({one, other} & _EVERYWHERE) or {one, other} <= LOOPBACK


def _is_own(base_url: str, values: Mapping[str, Any]) -> bool:
    host, port = _place_of(base_url)
    public = values.get("public_url")
    if public is not None and _place_of(public) == (host, port):
        return True
    own = values.get("gateway_host")
    is_here = own is not None and (host == own or (host in LOOPBACK | _EVERYWHERE and own in LOOPBACK | _EVERYWHERE))
    return is_here and port == values.get("gateway_port")


def _place_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:  # no number, or one that is no port
        port = None
    return parts.hostname or "", port or (443 if parts.scheme == "https" else 80)


def unusable_files(values: Mapping[str, Any]) -> Iterator[str]:
    """Files that are missing, files where a folder has to be or the other way round, and what is another user's."""
    try:
        yield from _misplaced_files(values)
    except PermissionError as error:
        yield (
            f"this user may not look at {error.filename}: run it as the user that Tenantry runs as (`sudo -u tenantry`"
            " in docs/production.md)"
        )


def _misplaced_files(values: Mapping[str, Any]) -> Iterator[str]:
    """Raises: PermissionError."""
    for name in _FILES:
        path: Path | None = values.get(name)
        if path is not None and not path.is_file():
            yield f"{name}: there is no file {path}"
        elif path is not None and name in _SECRET_FILES and path.stat().st_mode & stat.S_IROTH:
            yield f"{name}: {path} can be read by every user of this machine: chmod 600 {path}"
    data_dir: Path | None = values.get("data_dir")
    if data_dir is not None:
        yield from _unusable_folder(data_dir.absolute())
    path = _store_path(values.get("store_url"))
    if path is not None and path.is_dir():
        yield f"store_url: {path} is a folder; the database is a file"


def _unusable_folder(data_dir: Path) -> Iterator[str]:
    for folder in (data_dir, *data_dir.parents):
        if folder.exists():
            if not folder.is_dir():
                yield f"data_dir: {folder} is a file; a folder has to be there"
                return
            break
    for name in ("journal",):
        if (data_dir / name).is_file():
            yield f"data_dir: {data_dir / name} is a file; a folder has to be there"
    for name in ("master.key", "tenantry.db"):
        if (data_dir / name).is_dir():
            yield f"data_dir: {data_dir / name} is a folder; a file has to be there"


def _store_path(store_url: str | None) -> Path | None:
    """The file of a store, without the store's own library: it takes longer to load than everything else here."""
    if store_url is None or not store_url.startswith("sqlite"):
        return None
    path = store_url.partition("://")[2].partition("?")[0].removeprefix("/")
    return Path(path) if path and path != ":memory:" else None
