"""What works through `--server`, and why the rest does not: that is refused, and not done on this machine instead.

A test walks all commands and holds that each stands in one of the two tables.
"""

from __future__ import annotations

from typing import Any, Final

from tenantry.cli.remote.server import NAMED

CARRIED: Final[frozenset[str]] = frozenset(
    {
        *("tenants list", "tenants show", "tenants set", "tenants disable", "tenants enable", "tenants delete"),
        *("tenants export", "tenants schema", "tenants guide", "tenants fair-use"),
        *("tenants portal link", "tenants portal list", "tenants portal revoke", "tenants portal set"),
        *("keys issue", "keys rotate", "keys list", "keys revoke"),
        *("keys admin create", "keys admin list", "keys admin rotate", "keys admin revoke"),
        *("keys people link", "keys people invite", "keys people list", "keys people change", "keys people disable"),
        *("keys people enable", "keys people reset-totp", "keys people delete"),
        *("slots add", "slots list", "slots set", "slots remove"),
        *("usage", "provision", "doctor", "audit", "export", "backup", "margin", "verify isolation"),
        *("plan", "apply", "drift"),
        *("tiers list", "tiers show", "tiers set", "upstreams list", "upstreams show"),
        *("budget show", "budget set", "budget raise"),
        *("credentials add", "credentials list", "credentials rotate", "credentials check", "credentials bind"),
        *("credentials unbind-fallback", "credentials move"),
        *("prices list", "prices show", "prices set", "prices import", "prices history", "prices rule"),
        *("plans list", "plans show", "plans set", "plans assign", "plans simulate", "plans remove", "plans examples"),
        *("invoice", "invoices list", "invoices show", "invoices credit", "invoices verify", "invoices details"),
        *("alerts list", "alerts test", "alerts thresholds"),
        *("alerts targets list", "alerts targets add", "alerts targets remove"),
        *("gateways list", "gateways forget", "cells list", "cells move", "controls list"),
        *("ledger verify", "ledger show", "ledger quarantine", "ledger recompute"),
    }
)

_STARTS: Final = "starts a process where it is typed"
_READS_FILES: Final = "reads files of this machine, writes others, and asks no control"
_SYSTEMD: Final = "is about systemd where it is typed"
# Why not.
HERE_ALONE: Final[dict[str, str]] = {
    "init": "makes a site where it is typed",
    "serve": _STARTS,
    "gateway": _STARTS,
    "control": _STARTS,
    "sandbox": _STARTS,
    "restart": "asks the `serve` of its own machine, and ends the control that would have to answer",
    "restore": "replaces a site that must not run, so there is no control to ask",
    "store copy": "copies the store of a site that must not run, so there is no control to ask",
    "import env-file": _READS_FILES,
    "import litellm": _READS_FILES,
    "keys master rotate": "makes a file of the new master key, and no key leaves or enters its machine",
    "simulate": "sends nothing, and reads and writes files of its own machine",
    "service show": _SYSTEMD,
    "service install": _SYSTEMD,
}


def guard(command: Any, path: str) -> None:
    """What carries over says so in its help; what does not refuses where a server is named."""
    below = getattr(command, "commands", None)
    if below is not None:
        for name, one in below.items():
            guard(one, f"{path} {name}")
    elif path in CARRIED:
        command.epilog = "\n".join([*(command.epilog or "").splitlines(), "Works through --server, too."])
    elif NAMED.get() is not None:
        command.invoke = _refusing(path)


def _refusing(path: str) -> Any:
    from tenantry.cli.context import USAGE, fail

    def refuse(_context: object) -> None:
        raise fail(here_alone(path), USAGE)

    return refuse


def here_alone(path: str) -> str:
    return f"`tenantry {path}` {HERE_ALONE[path]}: run it on the machine that it is for, without --server"
