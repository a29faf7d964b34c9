"""Values of a command line that are what they seem: they are taken without Pydantic.

Typer builds a Pydantic validator for each option and argument, one that was not given too. To load Pydantic and build
them takes some 0.07 s of CPU at each start (measured, 2026-11-29). What is not plain goes to Typer's own validator, so
that every refusal is Typer's, in its words.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any

# A number that an option takes as it stands: no sign, no space, no `_`, nothing that Pydantic reads in its own way.
DIGITS_MAX = 9


def take_plain_values(command: Any) -> None:
    """Let the parameters of a command, or of all commands of a group, take plain values as they are."""
    for one in getattr(command, "commands", {}).values():
        take_plain_values(one)
    command.get_params = _taking_plain_values(command.get_params)


def _taking_plain_values(get_params: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    return lambda ctx: with_plain_values(get_params(ctx))


def with_plain_values(parameters: list[Any]) -> list[Any]:
    """The parameters of a command, each of which takes plain values as they are."""
    for one in parameters:
        # An older Typer has no descriptor, and validates without Pydantic.
        if hasattr(one, "type_descriptor") and not isinstance(one.get_runtime_param, _PlainFirst):
            one.get_runtime_param = _PlainFirst(one)
    return parameters


class NotPlain(Exception):
    """A value that has to be validated."""


class _PlainFirst:
    """What a parameter calls for its validator: itself, with Typer's behind it."""

    def __init__(self, parameter: Any) -> None:
        self._of_typer = parameter.get_runtime_param
        self._descriptor = parameter.type_descriptor

    def __call__(self) -> _PlainFirst:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:  # as Typer has it
            return () if param.multiple or param.nargs == -1 else None
        try:
            return plain_value(value, self._descriptor)
        except NotPlain:
            return self._of_typer().coerce(value, param=param, ctx=ctx)


def plain_value(value: Any, descriptor: Any) -> Any:
    """The value of a parameter that needs no validation.

    Raises:
        NotPlain: it may need some.
    """
    annotation, rules = descriptor.annotation, descriptor.parameter_info
    if rules.parser is not None:
        raise NotPlain
    if annotation is str:
        return _text(value)
    if annotation == list[str] and isinstance(value, list | tuple):
        return [_text(one) for one in value]  # pyright: ignore[reportUnknownVariableType] -- looked at one by one
    if annotation == list[Path] and isinstance(value, list | tuple):
        return [_path(one, rules) for one in value]  # pyright: ignore[reportUnknownVariableType] -- as above
    if annotation is int:
        return _number(value, rules)
    if annotation is Path:
        return _path(value, rules)
    if descriptor.is_choice and descriptor.case_sensitive and not descriptor.is_list:
        return _choice(value, descriptor.choices)
    raise NotPlain


def _choice(value: Any, choices: Iterable[Any]) -> Any:
    for one in choices:
        if value is one or value == (one.value if isinstance(one, Enum) else one):
            return one
    raise NotPlain


def _text(value: Any) -> str:
    if isinstance(value, str) and value.isascii():
        return value
    raise NotPlain


def _number(value: Any, rules: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= DIGITS_MAX:
        value = int(value)
    elif type(value) is not int:
        raise NotPlain
    if rules.clamp or (rules.min is not None and value < rules.min) or (rules.max is not None and value > rules.max):
        raise NotPlain
    return value


def _path(value: Any, rules: Any) -> Path:
    """A file that need not be there, and can be read where it is."""
    if rules.exists or rules.resolve_path or rules.writable or rules.path_type is not None:
        raise NotPlain
    if not (rules.file_okay and rules.dir_okay):
        raise NotPlain
    path = value if isinstance(value, Path) else Path(_text(value))
    if "\x00" in str(path) or (path.exists() and not os.access(path, os.R_OK)):
        raise NotPlain
    return path
