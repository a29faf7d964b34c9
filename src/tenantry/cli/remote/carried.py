"""What works through `--server`. Everything else is this machine's, and says so instead of doing it here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tenantry.cli.remote.server import NAMED

CARRIED: Final[frozenset[str]] = frozenset(
    {
        *("tenants list", "tenants show", "tenants set", "tenants disable", "tenants enable", "tenants delete"),
        *("tenants export", "tenants schema", "tenants guide", "tenants fair-use"),
        *("keys issue", "keys rotate", "keys list", "keys revoke"),
        *("slots add", "slots list", "slots set", "slots remove"),
        "usage",
        *("plan", "apply", "drift"),
        *("tiers list", "tiers show", "tiers set", "upstreams list", "upstreams show"),
        *("budget show", "budget set", "budget raise"),
        *("credentials add", "credentials list", "credentials rotate", "credentials check", "credentials bind"),
        *("credentials unbind-fallback", "credentials move"),
    }
)


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
    return f"`tenantry {path}` works on the store of its own machine: run it there, without --server"


def by_group() -> Iterator[tuple[str, list[str]]]:
    """Groups and their commands that carry over, for the documentation; a command of its own has none below it."""
    groups: dict[str, list[str]] = {}
    for path in sorted(CARRIED):
        group, _, name = path.partition(" ")
        groups.setdefault(group, [])
        if name:
            groups[group].append(name)
    yield from groups.items()
