"""The only reader of the environment and of `tenantry.toml`. Every problem is reported at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tenantry.domain.hosts import BadHost, HostRule, check_host
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import CAPACITY_LIMITS, LIMITS, BadLimit, read_limit
from tenantry.domain.portal import DEFAULT_COLOUR, read_colour
from tenantry.regular_files import read_regular
from tenantry.setting_checks import (
    LOOPBACK,
    contradictions,
    near_name,
    reached_at,
    unknown_variables,
    unusable_files,
)
from tenantry.sign_in_settings import Network, RoleClaim, read_networks, read_role_claims
from tenantry.store_settings import half_a_store, read_secret, without_password
from tenantry.toml_files import parse_toml

# A hundred upstreams are 20 KB.
_FILE_BYTES_MAX = 1 << 20


class SettingsError(Exception):
    """The settings cannot be used. `problems` names each one and what to do."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A chain and its private key, as `[certificates.NAME]` declares them."""

    name: str
    cert_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What the data plane needs."""

    host: str
    port: int
    public_domain: str
    public_host: str
    certificates: tuple[CertificateFiles, ...]
    anthropic_version: str
    require_tenant_id: bool
    connections_max: int
    connections_per_peer_max: int
    connections_per_tenant_max: int
    idle_upstream_connections_max: int
    data_dir: Path
    store_url: str
    store_password: str | None = field(repr=False)
    master_key_file: Path
    shutdown_seconds: float
    zone: ZoneInfo
    contact: str
    keeps_traceparents: bool
    cluster: bool
    lease_seconds: float
    envelope_nanos: int
    peer_host: str
    peer_port: int


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """An upstream as `[upstreams.NAME]` declares it. `capacity` has been read by `read_limit`."""

    name: str
    base_url: str
    ca_file: Path | None
    connect_seconds: float
    answer_seconds: float
    shares_capacity: bool
    capacity: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked. docs/configuration.md describes each."""

    data_dir: Path
    gateway_host: str
    gateway_port: int
    public_url: str
    public_domain: str
    control_host: str
    control_port: int
    control_hosts: tuple[str, ...]
    control_url: str
    portal_url: str
    portal_name: str
    portal_colour: str
    status_page: bool
    control_tls_certificate: Path | None
    control_tls_key: Path | None
    control_tls_proxy: tuple[Network, ...]
    oidc_issuer: str | None
    oidc_client_id: str | None
    oidc_client_secret: str | None = field(repr=False)
    oidc_client_secret_file: Path | None
    oidc_roles: tuple[RoleClaim, ...]
    sandbox_port: int
    store_url: str  # never with a password in it
    store_password: str | None = field(repr=False)
    store_password_file: Path | None
    upstream_base_url: str
    upstream_ca_file: Path | None
    anthropic_version: str
    tls_cert_file: Path | None
    tls_key_file: Path | None
    require_tenant_id: bool
    connections_max: int
    connections_per_peer_max: int
    connections_per_tenant_max: int
    idle_upstream_connections_max: int
    time_zone: str
    contact: str
    log_level: str
    drain_seconds: float
    gateway_processes: int
    cluster: bool
    lease_seconds: float
    envelope_usd: float
    peer_host: str
    peer_port: int
    usage_alert_threshold_percent: int
    billing_export_interval: str
    metrics_open: bool
    metrics_tenants_max: int
    log_format: str
    traces_endpoint: str | None
    invoice_schedule: str
    invoice_day: int
    invoice_hour: int
    invoice_formats: tuple[str, ...]
    invoice_folder: Path
    summary_schedule: str
    summary_weekday: str
    summary_hour: int
    summary_folder: Path | None
    upstreams: tuple[UpstreamSettings, ...]
    more_certificates: tuple[CertificateFiles, ...]

    @property
    def certificates(self) -> tuple[CertificateFiles, ...]:
        """The gateway's own: that of `tls_cert_file`, which is for every name that no other is for, then the others."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return ()
        return (CertificateFiles(MAIN_CERTIFICATE, self.tls_cert_file, self.tls_key_file), *self.more_certificates)

    @property
    def master_key_file(self) -> Path:
        return self.data_dir / "master.key"

    @property
    def journal_dir(self) -> Path:
        return self.data_dir / "journal"

    @property
    def public_host(self) -> str:
        """The name of the site itself, as `Host` says it: in lower case, without a port."""
        return (urlsplit(self.public_url).hostname or "").rstrip(".")

    @property
    def host_rule(self) -> HostRule:
        """Which names below `public_domain` are whose."""
        return HostRule(self.public_domain, self.public_host)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def gateway(self) -> GatewaySettings:
        return GatewaySettings(
            host=self.gateway_host,
            port=self.gateway_port,
            public_domain=self.public_domain,
            public_host=self.public_host,
            certificates=self.certificates,
            anthropic_version=self.anthropic_version,
            require_tenant_id=self.require_tenant_id,
            connections_max=self.connections_max,
            connections_per_peer_max=self.connections_per_peer_max,
            connections_per_tenant_max=self.connections_per_tenant_max,
            idle_upstream_connections_max=self.idle_upstream_connections_max,
            data_dir=self.data_dir,
            store_url=self.store_url,
            store_password=self.store_password,
            master_key_file=self.master_key_file,
            shutdown_seconds=self.drain_seconds,
            zone=self.zone,
            contact=self.contact,
            keeps_traceparents=self.traces_endpoint is not None,
            cluster=self.cluster or self.gateway_processes != 1,
            lease_seconds=self.lease_seconds,
            envelope_nanos=round(self.envelope_usd * 1_000_000_000),
            peer_host=self.peer_host,
            peer_port=self.peer_port,
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: how it is read, its default, and the classic name that also sets it (`.env.proxy`)."""

    read: Callable[[Any], Any]
    default: Any
    classic: str | None = None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value.strip()


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError("must be a whole number")
        try:
            number = int(value)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"must be between {low} and {high}")
        return number

    return read


def _seconds(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            number = float("" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            raise ValueError("must be a number of seconds") from None
        if not low <= number <= high:  # nan is neither
            raise ValueError(f"must be between {low:g} and {high:g} seconds")
        return number

    return read


def _processes(value: Any) -> int:
    """How many; 0: as many as there are cores."""
    return 0 if value == "auto" else _whole(1, PROCESSES_MAX)(value)


def _dollars(value: Any) -> float:
    try:
        number = float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        raise ValueError("must be an amount in US dollars, such as 1 or 0.5") from None
    if not 0.01 <= number <= 1000:  # nan is neither
        raise ValueError("must be between 0.01 and 1000 US dollars")
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "1", "yes", "on"):
        return True
    if isinstance(value, str) and value.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def _public_url(value: Any) -> str:
    return _url(value, "https://claude.agency.example")


def _url(value: Any, example: str = "https://api.anthropic.com") -> str:
    text = _text(value).rstrip("/")
    parts = urlsplit(text)
    is_known = parts.scheme in ("http", "https") and parts.hostname and _has_port(parts)
    if not is_known or parts.query or parts.fragment:
        raise ValueError(f"must be a URL such as {example}")
    if parts.username or parts.password:
        raise ValueError("must not hold a user or password: a secret in a URL ends up in logs")
    # The endpoints carry /v1 themselves.
    return text.removesuffix("/v1")


def _origin(value: Any) -> str:
    url = _url(value, "https://control.agency.example")
    if urlsplit(url).path:
        raise ValueError("must have no path, as https://control.agency.example: pages stand at its root")
    return url


def _colour(value: Any) -> str:
    return read_colour(_text(value))


def _url_of_issuer(value: Any) -> str:
    """As the provider spells it, which is compared letter by letter (OpenID Connect Discovery 4.3)."""
    text = _text(value)
    parts = urlsplit(text)
    is_loopback = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not (parts.scheme == "https" or is_loopback) or not parts.hostname or not _has_port(parts):
        raise ValueError("must be a URL with https, such as https://login.agency.example (http on loopback alone)")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must be a URL without user, query and fragment")
    return text


def _has_port(parts: SplitResult) -> bool:
    """Whether its port is one, or left out."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _domain(value: Any) -> str:
    name = _text(value).removesuffix(".").lower()
    try:
        return check_host(name)
    except BadHost:
        raise ValueError("must be a domain such as claude.agency.example, as DNS has it (xn--... for others)") from None


def _zone(value: Any) -> str:
    name = _text(value)
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("must be a time zone such as Europe/Berlin") from None
    return name


def _path(value: Any) -> Path:
    return Path(_text(value)).expanduser()


def _level(value: Any) -> str:
    level = _text(value).upper().replace("WARN", "WARNING").replace("WARNINGING", "WARNING")
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("must be debug, info, warning or error")
    return level


def _choice(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = _text(value).lower()
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text

    return read


def _formats(value: Any) -> tuple[str, ...]:
    """Of invoices: a list, or a text with commas between them."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise ValueError('must be a list such as ["html", "csv"]')
    found = tuple(dict.fromkeys(str(name).strip().lower() for name in cast("list[object]", names)))
    if not {*found} <= {*INVOICE_FORMATS}:
        raise ValueError(f"must be a list of {', '.join(INVOICE_FORMATS)}")
    return found


def _hosts(value: Any) -> tuple[str, ...]:
    """Host names: a list, or a text with commas between them."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        raise ValueError('must be a list of host names such as ["control.agency.example"]')
    found = tuple(str(name).strip().lower().removesuffix(".") for name in cast("list[object]", names))
    for name in found:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError("must be host names without scheme, port or path, such as control.agency.example")
    return found


def _collector(value: Any) -> str:
    """Of an OpenTelemetry collector; it adds `/v1/traces` itself."""
    return _url(str(value).removesuffix("/v1/traces"), "http://127.0.0.1:4318")


# Each gateway of a machine has two, and its successor the other one of them.
PEER_PORT_MAX = 65535 - 2 * 64
# Of gateways on one machine; more than it has cores do not help.
PROCESSES_MAX = 64
# What an invoice is written as (billing/render.py; a test holds them equal).
INVOICE_FORMATS = ("html", "csv", "json", "pdf", "facturx", "cii", "xrechnung")
OFF, PREVIEW, ISSUE, WEEKLY = "off", "preview", "issue", "weekly"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_PORT = _whole(0, 65535)
# A name of DNS (RFC 1123 2.1), or an address of IPv6 without its brackets. Never a pattern: each name is written out.
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|[0-9a-f:]{2,39}", re.ASCII)

# Looks at the values that could be read, by name; a sentence for each problem.
Check = Callable[[Mapping[str, Any]], Iterable[str]]

SETTINGS: dict[str, Setting] = {
    "data_dir": Setting(_path, ".tenantry"),
    "gateway_host": Setting(_text, "127.0.0.1"),
    "gateway_port": Setting(_PORT, 3000, "PROXY_PORT"),
    "public_url": Setting(_public_url, None),
    "public_domain": Setting(_domain, None),
    "control_host": Setting(_text, "127.0.0.1"),
    "control_port": Setting(_PORT, 3001),
    "control_hosts": Setting(_hosts, ()),
    "control_url": Setting(_origin, None),
    "portal_url": Setting(_origin, None),
    "portal_name": Setting(_any_text, ""),
    "portal_colour": Setting(_colour, DEFAULT_COLOUR),
    "status_page": Setting(_flag, False),
    "control_tls_certificate": Setting(_path, None),
    "control_tls_key": Setting(_path, None),
    "control_tls_proxy": Setting(read_networks, ()),
    "oidc_issuer": Setting(_url_of_issuer, None),
    "oidc_client_id": Setting(_text, None),
    "oidc_client_secret": Setting(_text, None),
    "oidc_client_secret_file": Setting(_path, None),
    "oidc_roles": Setting(read_role_claims, ()),
    "sandbox_port": Setting(_PORT, 3002),
    "store_url": Setting(_text, None),
    "store_password": Setting(_text, None),
    "store_password_file": Setting(_path, None),
    "upstream_base_url": Setting(_url, "https://api.anthropic.com", "ANTHROPIC_BASE"),
    "upstream_ca_file": Setting(_path, None),
    "anthropic_version": Setting(_text, "2023-06-01", "ANTHROPIC_VERSION"),
    "tls_cert_file": Setting(_path, None),
    "tls_key_file": Setting(_path, None),
    "require_tenant_id": Setting(_flag, False),
    "connections_max": Setting(_whole(1, 1_000_000), 16_384),
    "connections_per_peer_max": Setting(_whole(1, 1_000_000), 4_096),
    "connections_per_tenant_max": Setting(_whole(1, 1_000_000), 4_096),
    # Some 50 KB each over TLS. Go's default transport keeps a hundred, for one user.
    "idle_upstream_connections_max": Setting(_whole(0, 1_000_000), 1_000),
    "time_zone": Setting(_zone, "UTC"),
    "contact": Setting(_any_text, ""),
    "log_level": Setting(_level, "info", "LOG_LEVEL"),
    "drain_seconds": Setting(_seconds(0, 3600), 30),
    "gateway_processes": Setting(_processes, 1),
    "cluster": Setting(_flag, False),
    # Three of the pauses that a busy machine makes, and a store's failover; who dies is replaced after it.
    "lease_seconds": Setting(_seconds(2, 300), 30),
    "envelope_usd": Setting(_dollars, 1.0),
    "peer_host": Setting(_text, "127.0.0.1"),
    "peer_port": Setting(_whole(0, PEER_PORT_MAX), 0),
    "usage_alert_threshold_percent": Setting(_whole(1, 100), 90, "USAGE_ALERT_THRESHOLD_PERCENT"),
    "billing_export_interval": Setting(_choice("weekly", "monthly"), "weekly", "BILLING_EXPORT_INTERVAL"),
    "metrics_open": Setting(_flag, False),
    # A series for each, times models and classes of tokens: a few thousand, which Prometheus does not feel.
    "metrics_tenants_max": Setting(_whole(0, 10_000), 50),
    "log_format": Setting(_choice("text", "json"), "text"),
    "traces_endpoint": Setting(_collector, None),
    "invoice_schedule": Setting(_choice(OFF, PREVIEW, ISSUE), OFF),
    # Every month has one.
    "invoice_day": Setting(_whole(1, 28), 1),
    "invoice_hour": Setting(_whole(0, 23), 6),
    "invoice_formats": Setting(_formats, ("html",)),
    "invoice_folder": Setting(_path, None),
    "summary_schedule": Setting(_choice(OFF, WEEKLY), OFF),
    "summary_weekday": Setting(_choice(*WEEKDAYS), WEEKDAYS[0]),
    "summary_hour": Setting(_whole(0, 23), 7),
    "summary_folder": Setting(_path, None),
}


# The upstream that `upstream_base_url` and `upstream_ca_file` set, and the simulation, which sets itself.
MAIN_UPSTREAM = "anthropic"
SANDBOX_UPSTREAM = "sandbox"

# The certificate of `tls_cert_file`, by which it is told of.
MAIN_CERTIFICATE = "main"
_CERTIFICATE_FILES = ("cert_file", "key_file")

UPSTREAM_SETTINGS: dict[str, Setting] = {
    "base_url": Setting(_url, None),
    "ca_file": Setting(_path, None),
    # What the SDKs allow (reference 3.3); the API itself ends a request after ten minutes.
    "connect_seconds": Setting(_seconds(0.1, 60), 5.0),
    "answer_seconds": Setting(_seconds(1, 3600), 600.0),
    "shares_capacity": Setting(_flag, False),
}


def load_settings(toml_file: Path | None, environ: Mapping[str, str], also: Check | None = None) -> Settings:
    """Settings from the file, overridden by classic names, overridden by `TENANTRY_*`.

    `toml_file` None means `tenantry.toml` if it is there. `also`: what else is to be looked at, and told with the rest.

    Raises:
        SettingsError: something is wrong; it lists everything that is.
    """
    problems: list[str] = []
    path, document = _read_file(toml_file, problems)
    declared, certificates = document.pop("upstreams", {}), document.pop("certificates", {})
    for name in sorted(document.keys() - SETTINGS.keys()):
        near = near_name(name, [*SETTINGS, "upstreams", "certificates"])
        problems.append(f"{path}: there is no setting {name!r}{near}")
    problems.extend(unknown_variables(environ, SETTINGS))
    found = {name: (str(path), value) for name, value in document.items() if name in SETTINGS}
    for name, setting in SETTINGS.items():
        for variable in (setting.classic, f"TENANTRY_{name.upper()}"):
            if variable is not None and environ.get(variable):
                found[name] = (variable, environ[variable])
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        source, raw = found.get(name, ("the default", setting.default))
        try:
            values[name] = setting.read(raw) if raw is not None else None
        except ValueError as error:
            problems.append(f"{source}: {name} {error}, not {raw!r}")
    values["upstreams"] = _read_upstreams(path, declared, values, problems)
    values["more_certificates"] = _read_certificates(path, certificates, values, problems)
    problems.extend(_secrets_in(path, document))
    addresses = ((f"upstream {one.name}", one.base_url) for one in values["upstreams"])
    problems.extend(contradictions(values, addresses))
    problems.extend(half_a_store(values))
    problems.extend(unusable_files(values))
    if also is not None:
        problems.extend(also(values))
    if problems:
        raise SettingsError(problems)
    return _settled(values)


def _secrets_in(path: Path, document: Mapping[str, Any]) -> Iterable[str]:
    """Files of settings are shown, copied and committed: what is secret stands in a file of its own."""
    for name in ("oidc_client_secret", "store_password"):
        if name in document:
            yield f"{path}: {name}: put it into a file of mode 0600 that {name}_file names"
    store_url = document.get("store_url")
    if isinstance(store_url, str) and without_password(store_url)[1] is not None:
        yield f"{path}: store_url: put its password into a file of mode 0600 that store_password_file names"


def _read_file(toml_file: Path | None, problems: list[str]) -> tuple[Path, dict[str, Any]]:
    path = toml_file or Path("tenantry.toml")
    try:
        data = read_regular(path, _FILE_BYTES_MAX)
        if len(data) > _FILE_BYTES_MAX:
            raise ValueError(f"larger than {_FILE_BYTES_MAX >> 20} MiB, which is no file of settings")
        return path, parse_toml(data.decode("utf-8-sig"))
    except FileNotFoundError:
        if toml_file is not None:
            problems.append(f"{path}: there is no such file")
    except UnicodeDecodeError as error:
        problems.append(f"{path}: not UTF-8, from byte {error.start} on: save it as UTF-8")
    except (OSError, ValueError) as error:  # what is no TOML, too
        problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
    return path, {}


def _read_upstreams(
    path: Path, declared: object, values: Mapping[str, Any], problems: list[str]
) -> tuple[UpstreamSettings, ...]:
    if not isinstance(declared, dict):
        problems.append(f"{path}: upstreams must be tables, such as [upstreams.second]")
        return ()
    tables = cast("dict[str, object]", declared)
    found = [_read_upstream(path, name, table, values, problems) for name, table in tables.items()]
    if MAIN_UPSTREAM not in tables:
        found.insert(0, _read_upstream(path, MAIN_UPSTREAM, {}, values, problems))
    return tuple(one for one in found if one is not None)


def _read_upstream(
    path: Path, name: str, table: object, settings: Mapping[str, Any], problems: list[str]
) -> UpstreamSettings | None:
    where = f"{path}: [upstreams.{name}]"
    before = len(problems)
    if not is_slug(name):
        problems.append(f"{where}: an upstream's name has a-z, 0-9 and inner hyphens")
    if name == SANDBOX_UPSTREAM:
        problems.append(f"{where}: that name is the simulation's own; choose another")
    if not isinstance(table, dict):
        problems.append(f"{where} must be a table with base_url")
        return None
    raw = dict(cast("dict[str, Any]", table))
    capacity = _read_capacity(where, raw.pop("capacity", {}), problems)
    if name == MAIN_UPSTREAM:
        for mine, its in (("base_url", "upstream_base_url"), ("ca_file", "upstream_ca_file")):
            if raw.pop(mine, None) is not None:
                problems.append(f"{where}: {mine} of this one is the setting {its}")
        raw |= {"base_url": settings.get("upstream_base_url"), "ca_file": _as_text(settings.get("upstream_ca_file"))}
    for unknown in sorted(raw.keys() - UPSTREAM_SETTINGS.keys()):
        problems.append(f"{where}: there is no {unknown!r}{near_name(unknown, [*UPSTREAM_SETTINGS, 'capacity'])}")
    values: dict[str, Any] = {}
    for member, setting in UPSTREAM_SETTINGS.items():
        try:
            values[member] = setting.read(raw[member]) if raw.get(member) is not None else setting.default
        except ValueError as error:
            problems.append(f"{where}: {member} {error}, not {raw[member]!r}")
    _check_upstream(where, name, raw, values, problems)
    return UpstreamSettings(name=name, capacity=capacity, **values) if len(problems) == before else None


def _read_certificates(
    path: Path, declared: object, settings: Mapping[str, Any], problems: list[str]
) -> tuple[CertificateFiles, ...]:
    if not isinstance(declared, dict):
        problems.append(f"{path}: certificates must be tables, such as [certificates.client]")
        return ()
    tables = cast("dict[str, object]", declared)
    if tables and settings.get("tls_cert_file", "") is None:
        problems.append(f"{path}: certificates: set tls_cert_file and tls_key_file too, for every other name")
    found: list[CertificateFiles] = []
    for name, table in tables.items():
        where, before = f"{path}: [certificates.{name}]", len(problems)
        raw = cast("dict[str, object]", table) if isinstance(table, dict) else {}
        if not is_slug(name) or name == MAIN_CERTIFICATE:
            problems.append(f"{where}: a name has a-z, 0-9 and inner hyphens, and is not {MAIN_CERTIFICATE!r}")
        for unknown in sorted(raw.keys() - {*_CERTIFICATE_FILES}):
            problems.append(f"{where}: there is no {unknown!r}{near_name(unknown, _CERTIFICATE_FILES)}")
        files: list[Path] = []
        for member in _CERTIFICATE_FILES:
            try:
                files.append(_path(raw.get(member)))
            except ValueError:
                problems.append(f"{where}: {member} must name a file")
                continue
            if not files[-1].is_file():
                problems.append(f"{where}: {member}: there is no file {files[-1]}")
        if len(problems) == before:
            found.append(CertificateFiles(name, *files))
    return tuple(found)


def _as_text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _check_upstream(
    where: str, name: str, raw: Mapping[str, Any], values: Mapping[str, Any], problems: list[str]
) -> None:
    if name == MAIN_UPSTREAM:
        return  # its settings have been checked already
    if raw.get("base_url") is None:
        problems.append(f"{where}: base_url is missing, such as https://api.anthropic.com")
    ca_file = values.get("ca_file")
    if ca_file is not None and not ca_file.is_file():
        problems.append(f"{where}: ca_file: there is no file {ca_file}")


def _read_capacity(where: str, raw: object, problems: list[str]) -> dict[str, Any]:
    if not isinstance(raw, dict):
        problems.append(f"{where}: capacity must be a table, [upstreams.NAME.capacity]")
        return {}
    read: dict[str, Any] = {}
    for name, value in cast("dict[str, object]", raw).items():
        if name not in CAPACITY_LIMITS:
            problems.append(f"{where}: there is no capacity {name!r}{near_name(name, CAPACITY_LIMITS)}")
            continue
        try:
            read[name] = read_limit(name, value)
        except BadLimit as error:
            problems.append(f"{where}: {error}")
    if read.get("requests_per_minute") is not None:
        # A whole minute at once, which is how a limit that the upstream tells is taken too.
        read.setdefault("request_burst", min(read["requests_per_minute"], LIMITS["request_burst"].high))
    return read


def default_store(data_dir: Path) -> str:
    return f"sqlite:///{data_dir / 'tenantry.db'}"


def _settled(values: dict[str, Any]) -> Settings:
    """Defaults that follow from other settings."""
    values["data_dir"] = values["data_dir"].absolute()
    values["public_domain"] = values["public_domain"] or ""
    values["invoice_folder"] = values["invoice_folder"] or values["data_dir"] / "invoices"
    values["store_url"], password = without_password(values["store_url"] or default_store(values["data_dir"]))
    values["store_password"] = values["store_password"] or password
    if values["store_password_file"] is not None:
        values["store_password"] = read_secret(values["store_password_file"])
    if values["public_url"] is None:
        host = reached_at(values["gateway_host"])
        if ":" in host:
            host = f"[{host}]"
        scheme = "https" if values["tls_cert_file"] else "http"
        values["public_url"] = f"{scheme}://{host}:{values['gateway_port']}"
    if values["control_url"] is None:
        scheme = "https" if values["control_tls_certificate"] else "http"
        host = f"[{values['control_host']}]" if ":" in values["control_host"] else values["control_host"]
        values["control_url"] = f"{scheme}://{host}:{values['control_port']}"
    values["portal_url"] = values["portal_url"] or values["control_url"]
    return Settings(**values)
