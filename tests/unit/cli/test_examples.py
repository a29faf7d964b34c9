"""Every command shows in its help how it is typed, and what is shown can be typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from tenantry.app import Processes
from tenantry.cli.examples import EXAMPLES, examples_of
from tenantry.cli.later import Later
from tenantry.cli.main import Commands, build_cli


def commands() -> Iterator[tuple[str, Any]]:
    """Every command and group with its words, as it is loaded when it is called."""
    root: Any = get_command(build_cli(Processes()))
    waiting = [(name, root.commands[name].load()) for name in Commands.table]
    for path, command in waiting:
        yield path, command
        waiting += [(f"{path} {name}", below) for name, below in getattr(command, "commands", {}).items()]


KNOWN = dict(commands())


def test_every_command_and_only_commands_have_examples() -> None:
    assert sorted(EXAMPLES) == sorted(path for path, one in KNOWN.items() if not hasattr(one, "commands"))
    assert [path for path, one in KNOWN.items() if "Example" not in (one.epilog or "")] == []
    assert not any(isinstance(one, Later) for one in KNOWN.values())


@pytest.mark.parametrize("path", EXAMPLES)
def test_what_is_shown_can_be_typed(path: str) -> None:
    for example in examples_of(path):
        assert len(example) < 80  # a line of a terminal, with the blank that Rich puts before it
        words = [word for word in shlex.split(example) if not word.startswith("TENANTRY_")]
        assert words[: 1 + len(path.split())] == ["tenantry", *path.split()]
        KNOWN[path].make_context(path, words[1 + len(path.split()) :])
