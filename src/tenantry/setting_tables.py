"""The tables of `tenantry.toml` that are declared by name: upstreams, and certificates for further names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tenantry.domain.keys import is_slug
from tenantry.domain.limits import CAPACITY_LIMITS, LIMITS, BadLimit, read_limit
from tenantry.setting_checks import near_name
from tenantry.setting_values import Setting, read_flag, read_path, read_url, seconds_between

# The upstream that `upstream_base_url` and `upstream_ca_file` set, and the simulation, which sets itself.
MAIN_UPSTREAM = "anthropic"
SANDBOX_UPSTREAM = "sandbox"

# The certificate of `tls_cert_file`, by which it is told of.
MAIN_CERTIFICATE = "main"
_CERTIFICATE_FILES = ("cert_file", "key_file")

UPSTREAM_SETTINGS: dict[str, Setting] = {
    "base_url": Setting(read_url, None),
    "ca_file": Setting(read_path, None),
    # What the SDKs allow (reference 3.3); the API itself ends a request after ten minutes.
    "connect_seconds": Setting(seconds_between(0.1, 60), 5.0),
    "answer_seconds": Setting(seconds_between(1, 3600), 600.0),
    "shares_capacity": Setting(read_flag, False),
}


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A chain and its private key, as `[certificates.NAME]` declares them."""

    name: str
    cert_file: Path
    key_file: Path


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


def read_upstreams(
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


def read_certificates(
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
                files.append(read_path(raw.get(member)))
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
