"""The only reader of the environment and of `tenantry.toml`. Every problem is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from tenantry.domain.hosts import HostRule
from tenantry.domain.portal import DEFAULT_COLOUR
from tenantry.regular_files import read_regular
from tenantry.setting_checks import contradictions, near_name, reached_at, unknown_variables, unusable_files
from tenantry.setting_tables import (
    MAIN_CERTIFICATE,
    CertificateFiles,
    UpstreamSettings,
    read_certificates,
    read_upstreams,
)
from tenantry.setting_values import (
    ISSUE,
    OFF,
    PEER_PORT_MAX,
    PREVIEW,
    WEEKDAYS,
    WEEKLY,
    Setting,
    one_of,
    read_any_text,
    read_collector,
    read_colour,
    read_dollars,
    read_domain,
    read_flag,
    read_formats,
    read_hosts,
    read_level,
    read_origin,
    read_path,
    read_processes,
    read_public_url,
    read_text,
    read_url,
    read_url_of_issuer,
    read_zone,
    seconds_between,
    whole_number,
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
    rebalances: bool
    peer_host: str
    peer_port: int


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
    rebalance: bool
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
            rebalances=self.rebalance,
            peer_host=self.peer_host,
            peer_port=self.peer_port,
        )


_PORT = whole_number(0, 65535)

# Looks at the values that could be read, by name; a sentence for each problem.
Check = Callable[[Mapping[str, Any]], Iterable[str]]

SETTINGS: dict[str, Setting] = {
    "data_dir": Setting(read_path, ".tenantry"),
    "gateway_host": Setting(read_text, "127.0.0.1"),
    "gateway_port": Setting(_PORT, 3000, "PROXY_PORT"),
    "public_url": Setting(read_public_url, None),
    "public_domain": Setting(read_domain, None),
    "control_host": Setting(read_text, "127.0.0.1"),
    "control_port": Setting(_PORT, 3001),
    "control_hosts": Setting(read_hosts, ()),
    "control_url": Setting(read_origin, None),
    "portal_url": Setting(read_origin, None),
    "portal_name": Setting(read_any_text, ""),
    "portal_colour": Setting(read_colour, DEFAULT_COLOUR),
    "status_page": Setting(read_flag, False),
    "control_tls_certificate": Setting(read_path, None),
    "control_tls_key": Setting(read_path, None),
    "control_tls_proxy": Setting(read_networks, ()),
    "oidc_issuer": Setting(read_url_of_issuer, None),
    "oidc_client_id": Setting(read_text, None),
    "oidc_client_secret": Setting(read_text, None),
    "oidc_client_secret_file": Setting(read_path, None),
    "oidc_roles": Setting(read_role_claims, ()),
    "sandbox_port": Setting(_PORT, 3002),
    "store_url": Setting(read_text, None),
    "store_password": Setting(read_text, None),
    "store_password_file": Setting(read_path, None),
    "upstream_base_url": Setting(read_url, "https://api.anthropic.com", "ANTHROPIC_BASE"),
    "upstream_ca_file": Setting(read_path, None),
    "anthropic_version": Setting(read_text, "2023-06-01", "ANTHROPIC_VERSION"),
    "tls_cert_file": Setting(read_path, None),
    "tls_key_file": Setting(read_path, None),
    "require_tenant_id": Setting(read_flag, False),
    "connections_max": Setting(whole_number(1, 1_000_000), 16_384),
    "connections_per_peer_max": Setting(whole_number(1, 1_000_000), 4_096),
    "connections_per_tenant_max": Setting(whole_number(1, 1_000_000), 4_096),
    # Some 50 KB each over TLS. Go's default transport keeps a hundred, for one user.
    "idle_upstream_connections_max": Setting(whole_number(0, 1_000_000), 1_000),
    "time_zone": Setting(read_zone, "UTC"),
    "contact": Setting(read_any_text, ""),
    "log_level": Setting(read_level, "info", "LOG_LEVEL"),
    "drain_seconds": Setting(seconds_between(0, 3600), 30),
    "gateway_processes": Setting(read_processes, 1),
    "cluster": Setting(read_flag, False),
    # Three of the pauses that a busy machine makes, and a store's failover; who dies is replaced after it.
    "lease_seconds": Setting(seconds_between(2, 300), 30),
    "envelope_usd": Setting(read_dollars, 1.0),
    "rebalance": Setting(read_flag, True),
    "peer_host": Setting(read_text, "127.0.0.1"),
    "peer_port": Setting(whole_number(0, PEER_PORT_MAX), 0),
    "usage_alert_threshold_percent": Setting(whole_number(1, 100), 90, "USAGE_ALERT_THRESHOLD_PERCENT"),
    "billing_export_interval": Setting(one_of("weekly", "monthly"), "weekly", "BILLING_EXPORT_INTERVAL"),
    "metrics_open": Setting(read_flag, False),
    # A series for each, times models and classes of tokens: a few thousand, which Prometheus does not feel.
    "metrics_tenants_max": Setting(whole_number(0, 10_000), 50),
    "log_format": Setting(one_of("text", "json"), "text"),
    "traces_endpoint": Setting(read_collector, None),
    "invoice_schedule": Setting(one_of(OFF, PREVIEW, ISSUE), OFF),
    # Every month has one.
    "invoice_day": Setting(whole_number(1, 28), 1),
    "invoice_hour": Setting(whole_number(0, 23), 6),
    "invoice_formats": Setting(read_formats, ("html",)),
    "invoice_folder": Setting(read_path, None),
    "summary_schedule": Setting(one_of(OFF, WEEKLY), OFF),
    "summary_weekday": Setting(one_of(*WEEKDAYS), WEEKDAYS[0]),
    "summary_hour": Setting(whole_number(0, 23), 7),
    "summary_folder": Setting(read_path, None),
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
    values["upstreams"] = read_upstreams(path, declared, values, problems)
    values["more_certificates"] = read_certificates(path, certificates, values, problems)
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
