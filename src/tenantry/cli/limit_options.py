"""Options for limits, made from the table in `domain/limits.py`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, cast

import typer

from tenantry.cli.context import USAGE, fail
from tenantry.cli.output import say
from tenantry.domain.limits import LIMITS, NO_LIMIT, BadLimit, Limit, find_limit, read_limits

# The pattern that says what no patterns mean.
EVERYTHING = "*"


def limit_options(names: Iterable[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each of these limits; it gets those that were given, checked, as `limits`."""
    options = {name: _parameter(name, LIMITS[name]) for name in names}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [one for name, one in signature.parameters.items() if name != "limits"]

        @functools.wraps(command)
        def with_limits(**given: Any) -> None:
            raw = {name: given.pop(name) for name in options}
            command(**given, limits=_read({name: value for name, value in raw.items() if value is not None}))

        # The form in which `inspect` takes a signature that the code does not have.
        with_limits.__dict__["__signature__"] = signature.replace(parameters=[*own, *options.values()])
        with_limits.__annotations__ = {one.name: one.annotation for one in (*own, *options.values())}
        return with_limits

    return decorate


def _parameter(name: str, limit: Limit) -> inspect.Parameter:
    explained = f"{limit.help}; {NO_LIMIT}: no limit" if limit.optional else limit.help
    if limit.patterns:
        kind = list[str] | None
        names = [f"--{limit.option}", f"--{limit.option.removesuffix('s')}"]
        explained = f"{limit.help}; {NO_LIMIT}: every one"
    else:
        kind = str | None
        names = [f"--{limit.option}"]
    option = typer.Option(*names, help=explained, metavar=_metavar(limit), rich_help_panel="Limits")
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _metavar(limit: Limit) -> str:
    if limit.choices:
        return "|".join(limit.choices)
    return "PATTERN,..." if limit.patterns else "N"


def _read(raw: Mapping[str, str | list[str]]) -> dict[str, Any]:
    """The limits, or exit 2 with every problem."""
    joined = {name: value if isinstance(value, str) else ",".join(value) for name, value in raw.items() if value != []}
    try:
        return read_limits(joined)
    except BadLimit as error:
        raise bad_value(error) from None


def read_inherited(words: Iterable[str], set_too: Mapping[str, Any]) -> list[str]:
    """Limits that are to be inherited, by name; or exit 2."""
    try:
        names = [find_limit(word) for word in words]
    except BadLimit as error:
        raise bad_value(error) from None
    both = [LIMITS[name].option for name in names if name in set_too]
    if both:
        raise fail(f"--{both[0]} is set and inherited at once: choose one", USAGE)
    return names


def bad_value(error: ValueError) -> typer.Exit:
    """A value of an option that cannot be: nothing was changed. Raise what this returns."""
    *most, last = str(error).splitlines()
    for line in most:
        say(f"tenantry: {line}", err=True)
    return fail(last, USAGE)


def shown(value: object) -> str:
    """A limit's value as a person reads it, and as the option takes it."""
    if value is None:
        return NO_LIMIT
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in cast("Sequence[object]", value)) or EVERYTHING
    return str(value)
