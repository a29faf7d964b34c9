"""Where in a JSON text each value begins, and which names are there twice."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from tenantry.control.toml_out import Key

# Deeper than any configuration; the parser of the standard library would go on to the end of its stack.
DEPTH_MAX = 20

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\],:]|[^\s{}\[\],:"]+|\s+')


@dataclass(slots=True)
class Places:
    """Lines of values by path (list items by their number), and the (line, name) of repeated names."""

    lines: dict[Key, int] = field(default_factory=dict[Key, int])
    repeated: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    too_deep: bool = False


@dataclass(slots=True)
class _Frame:
    path: Key
    is_list: bool
    seen: set[str] = field(default_factory=set[str])
    name: str = ""
    at_name: bool = True
    count: int = 0


def find_places(text: str) -> Places:
    """Places in `text`, which need not be valid JSON."""
    places = Places()
    frames: list[_Frame] = []
    line = 1
    for found in _TOKEN.finditer(text):
        word = found.group()
        if len(frames) > DEPTH_MAX:
            places.too_deep = True
            return places
        _step(word, line, frames, places)
        line += word.count("\n")
    return places


def _step(word: str, line: int, frames: list[_Frame], places: Places) -> None:
    top = frames[-1] if frames else None
    if word.isspace():
        return
    if word in "}]":
        if frames:
            frames.pop()
    elif word == ",":
        if top is not None:
            top.at_name, top.count = True, top.count + 1
    elif word == ":":
        if top is not None:
            top.at_name = False
    elif top is not None and not top.is_list and top.at_name and word.startswith('"'):
        _name(word, line, top, places)
    else:
        path = _path(top)
        if path:
            places.lines[path] = line
        if word in "{[":
            frames.append(_Frame(path, word == "["))


def _name(word: str, line: int, frame: _Frame, places: Places) -> None:
    try:
        frame.name = str(json.loads(word))
    except ValueError:
        frame.name = word
    if frame.name in frame.seen:
        places.repeated.append((line, frame.name))
    frame.seen.add(frame.name)


def _path(frame: _Frame | None) -> Key:
    if frame is None:
        return ()
    return (*frame.path, str(frame.count) if frame.is_list else frame.name)
