"""YAML as values, with the line of each: bounded in size and depth, without aliases, tags or repeated names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import yaml

from tenantry.control.importing.report import Report
from tenantry.control.toml_out import Key

# Far above any configuration; a bomb has more.
EVENTS_MAX = 50_000
DEPTH_MAX = 20


# The library's stubs leave the types of `parse` and `compose` open.
_untyped: Any = yaml


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that holds no others, or an empty list or mapping."""

    path: Key
    line: int
    value: Any


def read_yaml(source: str, text: str, report: Report) -> tuple[dict[str, Any], list[Leaf]]:
    """The document and its leaves; what is wrong goes into the report, and then both are empty."""
    try:
        if not _is_bounded(source, text, report):
            return {}, []
        node: yaml.Node | None = _untyped.compose(text, yaml.SafeLoader)
        document: Any = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        # Of the rest of the message a line of the file is a part, and that may hold a secret.
        report.problem(source, line, f"is not valid YAML: {error.problem or 'it cannot be read'}")
        return {}, []
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        report.problem(source, 0, f"is not valid YAML ({type(error).__name__})")
        return {}, []
    if not isinstance(document, dict) or not isinstance(node, yaml.MappingNode):
        report.problem(source, 0, "must hold a mapping with model_list, litellm_settings, general_settings")
        return {}, []
    before = len(report.problems)
    lines = dict(_lines((), node, source, report))
    if len(report.problems) > before:
        return {}, []
    plain = cast("dict[str, Any]", _with_text_names(document))
    return plain, [Leaf(path, lines.get(path, 0), value) for path, value in _leaves((), plain)]


def _is_bounded(source: str, text: str, report: Report) -> bool:
    """Whether the document is small and flat enough to be built; looked at event by event."""
    depth = 0
    events: Iterator[Any] = _untyped.parse(text, yaml.SafeLoader)
    for count, event in enumerate(events):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            report.problem(source, event.start_mark.line + 1, "has a YAML alias (*name): write the value out")
            return False
        if depth > DEPTH_MAX or count > EVENTS_MAX:
            bound = f"{DEPTH_MAX} levels" if depth > DEPTH_MAX else f"{EVENTS_MAX:,} parts"
            report.problem(source, event.start_mark.line + 1, f"has more than {bound}: is it the right file?")
            return False
    return True


def _lines(path: Key, node: yaml.Node, source: str, report: Report) -> Iterator[tuple[Key, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            text = str(name.value)
            if text in seen:
                report.problem(source, name.start_mark.line + 1, f"{'.'.join((*path, text))} is there twice")
            seen.add(text)
            yield from _lines((*path, text), value, source, report)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _lines((*path, str(number)), value, source, report)


def _with_text_names(value: Any) -> Any:
    """Names that are numbers or dates as text: in a configuration they are names all the same."""
    if isinstance(value, dict):
        return {str(name): _with_text_names(inner) for name, inner in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_with_text_names(inner) for inner in cast("list[Any]", value)]
    return value


def _leaves(path: Key, value: Any) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in cast("dict[str, Any]", value).items():
            yield from _leaves((*path, name), inner)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(cast("list[Any]", value)):
            yield from _leaves((*path, str(number)), inner)
    else:
        yield path, value
