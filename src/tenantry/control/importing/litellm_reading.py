"""A LiteLLM configuration while it is read: what was told of it, and which variables hold its secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any, cast

from tenantry.control.importing.report import Fate, Report
from tenantry.control.importing.secrets import classify
from tenantry.control.importing.yaml_lines import Leaf
from tenantry.control.toml_out import Key

REFERENCE = "os.environ/"
# It is printed as a part of a command.
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Reading:
    """One import under way.

    `models` maps LiteLLM's names to ours; None is another provider's. `credentials` are variables, `fallbacks` the
    places that name the second of them.
    """

    source: str
    report: Report
    until: date | None
    document: dict[str, Any]
    leaves: list[Leaf]
    told: set[Key] = field(default_factory=set[Key])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    models: dict[str, str | None] = field(default_factory=dict[str, str | None])
    credentials: list[str] = field(default_factory=list[str])
    fallbacks: list[Key] = field(default_factory=list[Key])
    variables: dict[str, str] = field(default_factory=dict[str, str])

    def find(self, path: Key) -> Any:
        """The value at a path of names; None when it is not there."""
        value: Any = self.document
        for name in path:
            value = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
        return value

    def line(self, path: Key) -> int:
        return next((leaf.line for leaf in self.leaves if leaf.path[: len(path)] == path), 0)

    def tell(self, path: Key, fate: Fate, becomes: str) -> None:
        """One line of the report about a value, or about all below `path` that was not told yet."""
        below = [leaf for leaf in self.leaves if leaf.path[: len(path)] == path and leaf.path not in self.told]
        if not below:
            return
        self.told.update(leaf.path for leaf in below)
        add = {Fate.TAKEN: self.report.taken, Fate.BUILT_IN: self.report.built_in, Fate.NOT_HERE: self.report.not_here}
        add[fate](self.source, below[0].line, named(path), becomes)

    def problem(self, path: Key, text: str) -> None:
        self.report.problem(self.source, self.line(path), f"{named(path)} {text}")

    def secret(self, path: Key, value: Any, proposed: str, what: str) -> str | None:
        """The environment variable that holds the secret at `path`; None, and a problem, when it cannot be used."""
        if not isinstance(value, str) or not value.strip():
            self.problem(path, "is no key")
            return None
        if value.startswith(REFERENCE):
            variable = value.removeprefix(REFERENCE)
            if not _VARIABLE.fullmatch(variable):
                self.problem(path, "names no environment variable behind os.environ/")
                return None
            self.variables.setdefault(variable, what)
            return variable
        found = classify(value)
        if found.is_refused:
            self.problem(path, found.value)
            return None
        self.variables[proposed] = f"{what}: it stands in {self.source}, line {self.line(path)}"
        self.report.warn(
            f"{self.source}:{self.line(path)}: {named(path)} is a secret in a file; it was not copied. "
            f"Put it into the environment variable {proposed}"
        )
        return proposed


def named(path: Key) -> str:
    """`model_list[0].litellm_params.model`"""
    parts = [f"[{name}]" if name.isdigit() and number else f".{name}" for number, name in enumerate(path)]
    return "".join(parts).removeprefix(".")


def rows(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list, with {} in the place of anything else, so that numbers stay those of the file."""
    if not isinstance(value, list):
        return []
    parts = cast("list[Any]", value)
    return [cast("dict[str, Any]", part) if isinstance(part, dict) else {} for part in parts]
