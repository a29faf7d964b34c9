"""Commands whose modules are loaded when they are called: most of what a start costs is what other commands need."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from tenantry.cli.examples import add_examples
from tenantry.cli.plain import take_plain_values, with_plain_values
from tenantry.cli.remote.carried import guard


class Later(TyperCommand):
    """Stands for a command, or a group of them, in lists and help; hands over to it as soon as it is called."""

    def __init__(self, name: str, module: str, words: str) -> None:
        super().__init__(name, help=words)
        self.module = module

    def load(self) -> TyperCommand | TyperGroup:
        """The real one: a group is the module's `app`, commands of their own are those that it registers."""
        module: Any = importlib.import_module(f"tenantry.cli.{self.module}")
        whole = typer.Typer()
        if hasattr(module, "register"):
            module.register(whole)
        else:
            whole.add_typer(module.app, name=self.name)
        found: Any = get_group(whole).commands[str(self.name)]
        add_examples(found, str(self.name))
        take_plain_values(found)
        guard(found, str(self.name))
        return found

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self.load().make_context(info_name, args, parent=parent, **extra)


class LaterGroup(TyperGroup):
    """The commands of `table`: by name, the module and the help of each."""

    table: dict[str, tuple[str, str]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: Later(name, *one) for name, one in self.table.items()}

    def get_params(self, ctx: Any) -> list[Any]:
        return with_plain_values(super().get_params(ctx))
