"""Units for systemd: the gateway as a service that restarts and upgrades without dropping a call, and a daily backup.

What a unit may do is as little as it needs (systemd.exec(5)); `systemd-analyze security` scores it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tenantry.domain.values import value
from tenantry.settings import Settings

SYSTEM_DIR = Path("/etc/systemd/system")
USER_DIR = Path(".config/systemd/user")  # below the home
SERVICE_USER = "tenantry"
# What a stop may take beyond the drain: control's last round, and the journal's last row.
STOP_SLACK_SECONDS = 35
BACKUPS_KEPT = 14

# Nothing but the network, its own files and ordinary system calls. These hold for a user's systemd too.
_FILTERS = """\
NoNewPrivileges=yes
UMask=0077
LimitCORE=0
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
"""
# These take the machine's own systemd.
_WALLS = """\
CapabilityBoundingSet=
AmbientCapabilities=
DevicePolicy=closed
KeyringMode=private
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
"""


class UnitsImpossible(Exception):
    """No unit can be written for this; the message says why and what to do."""


@value
class Unit:
    """One file of systemd's."""

    name: str
    text: str


def units(settings: Settings, folder: Path, config: Path | None, *, of_system: bool) -> list[Unit]:
    """The units of this site. `folder` is where commands run and where `tenantry.toml` is looked for.

    Raises:
        UnitsImpossible: a path cannot stand in a unit.
    """
    program = Path(sys.executable).with_name("tenantry")
    folder, data_dir = folder.absolute(), settings.data_dir.absolute()
    for path in (program, folder, data_dir, *([config] if config is not None else [])):
        _require_plain(path)
    lines = [f"WorkingDirectory={folder}", f"Environment=TENANTRY_DATA_DIR={data_dir}"]
    if config is not None:
        lines.append(f"Environment=TENANTRY_CONFIG={config.absolute()}")
    rest = _FILTERS
    if of_system:
        lines += [f"User={SERVICE_USER}", f"Group={SERVICE_USER}"]
        writable = " ".join(map(str, dict.fromkeys((data_dir, folder))))
        rest += f"{_WALLS}{_homes(program, folder, data_dir)}ReadWritePaths={writable}\n"
    rest = "\n".join(lines) + "\n" + rest
    stop_seconds = round(settings.drain_seconds) + STOP_SLACK_SECONDS
    return [
        Unit("tenantry.service", _service(program, stop_seconds, rest, "multi-user" if of_system else "default")),
        Unit("tenantry.socket", _socket(settings.gateway_host, settings.gateway_port)),
        Unit("tenantry-backup.service", _backup(program, data_dir, rest)),
        Unit("tenantry-backup.timer", _TIMER),
    ]


def _service(program: Path, stop_seconds: int, rest: str, target: str) -> str:
    return f"""\
[Unit]
Description=Tenantry, a gateway for the Claude API
Wants=network-online.target
After=network-online.target tenantry.socket
Requires=tenantry.socket
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={program} serve
# Another gateway takes the place of the one that runs; no call is dropped.
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
TimeoutStopSec={stop_seconds}
Restart=always
RestartSec=1
LimitNOFILE=65536
{rest}
[Install]
WantedBy={target}.target
Also=tenantry.socket
"""


def _socket(host: str, port: int) -> str:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"""\
[Unit]
Description=The address of Tenantry: it outlives the service, so that calls wait while that is restarted

[Socket]
ListenStream={address}
Backlog=4096
NoDelay=yes

[Install]
WantedBy=sockets.target
"""


def _backup(program: Path, data_dir: Path, rest: str) -> str:
    return f"""\
[Unit]
Description=A backup of Tenantry, checked as a restore would check it

[Service]
Type=oneshot
ExecStart={program} backup {data_dir}/backups --keep {BACKUPS_KEPT} --check
Nice=10
{rest}"""


_TIMER = """\
[Unit]
Description=A backup of Tenantry every day

[Timer]
OnCalendar=daily
RandomizedDelaySec=30min
Persistent=yes

[Install]
WantedBy=timers.target
"""


def install(found: list[Unit], target: Path) -> None:
    """Write the units, each whole or not at all. Raises: OSError."""
    target.mkdir(parents=True, exist_ok=True)
    for unit in found:
        part = target / f".{unit.name}.part"
        part.write_text(unit.text)
        part.chmod(0o644)
        part.replace(target / unit.name)


def _homes(*paths: Path) -> str:
    """Homes are closed, unless something of the site lies in one."""
    homes = (Path("/home"), Path("/root"), Path("/run/user"))
    in_home = any(home in path.parents for path in paths for home in homes)
    return f"ProtectHome={'read-only' if in_home else 'yes'}\n"


def _require_plain(path: Path) -> None:
    """Quoting differs between the settings of a unit; a path that needs none is the same in all."""
    text = str(path)
    if not text.isascii() or not text.isprintable() or any(one in " \t\"'\\%$;" for one in text):
        raise UnitsImpossible(f"{text!r} cannot stand in a unit: use a path of letters, digits, `/`, `.`, `-` and `_`")
