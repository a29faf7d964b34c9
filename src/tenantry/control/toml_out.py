"""TOML as text: what `tomllib` reads, written.

Any document that `tomllib` can give comes back from it equal after `write_toml`. Order is kept; only that a table's own
values stand before the tables below it, because TOML has no other way to say it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, cast

# TOML 1.0: "64-bit signed integers should be accepted and handled losslessly"; more need not be.
INTEGER_MIN, INTEGER_MAX = -(1 << 63), (1 << 63) - 1
# An array that makes its line longer than this gets a line for each element.
LINE_CHARS_MAX = 100

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# Basic strings may hold everything but the quotation mark, the backslash and control characters (TOML 1.0, String).
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT_ESCAPES = {
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
    '"': '\\"',
    "\\": "\\\\",
}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Key = tuple[str, ...]


class NotToml(ValueError):
    """The value has no form in TOML; the message says where it is and what it is."""


def write_toml(document: Mapping[str, Any], comments: Mapping[Key, str] | None = None) -> str:
    """The document as TOML.

    `comments` are written above the table or value with that path, those of the empty path at the top of the file.

    Raises:
        NotToml: a value or a key that TOML cannot say, such as None.
    """
    notes = comments or {}
    head = _comment(notes.get((), ""))
    lines = [*head, ""] if head else []
    _add_table(lines, (), document, notes)
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines) + "\n" if lines else ""


def _add_table(lines: list[str], path: Key, table: Mapping[str, Any], notes: Mapping[Key, str]) -> None:
    """Add the lines of a table and of the tables below it."""
    own = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
    below = {name: cast("Mapping[str, Any]", value) for name, value in table.items() if isinstance(value, Mapping)}
    note = _comment(notes.get(path, "")) if path else []
    # A table that holds nothing but tables needs no header of its own.
    if path and (own or not below or note):
        lines += note
        lines.append(f"[{'.'.join(_key(name, path) for name in path)}]")
    for name, value in own.items():
        lines += _comment(notes.get((*path, name), ""))
        lines.append(_line(_key(name, path), value, (*path, name)))
    if own or (path and not below) or note:
        lines.append("")
    for name, value in below.items():
        _add_table(lines, (*path, name), value, notes)


def _line(key: str, value: Any, path: Key) -> str:
    line = f"{key} = {_value(value, path)}"
    if len(line) <= LINE_CHARS_MAX or not isinstance(value, list | tuple):
        return line
    parts = (f"  {_value(part, path)}," for part in cast("Sequence[Any]", value))
    return "\n".join((f"{key} = [", *parts, "]"))


def _value(value: Any, path: Key) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value, path)
        case int():
            if not INTEGER_MIN <= value <= INTEGER_MAX:
                raise NotToml(f"{_named(path)}: {value} does not fit into 64 bits")
            return str(value)
        case float():
            return repr(value)
        case datetime() | date() | time():
            return value.isoformat()
        case list() | tuple():
            parts = cast("Iterable[Any]", value)
            return f"[{', '.join(_value(part, path) for part in parts)}]"
        case Mapping():
            pairs = cast("Mapping[str, Any]", value).items()
            inner = ", ".join(f"{_key(name, path)} = {_value(part, (*path, name))}" for name, part in pairs)
            return f"{{ {inner} }}" if inner else "{}"
        case _:
            raise NotToml(f"{_named(path)}: TOML has no {type(value).__name__}")


def _key(name: object, path: Key) -> str:
    if not isinstance(name, str):
        raise NotToml(f"{_named(path)}: a key must be a text, not {name!r}")
    return name if _BARE_KEY.fullmatch(name) else _text(name, path)


def _text(text: str, path: Key) -> str:
    if _SURROGATE.search(text):
        raise NotToml(f"{_named(path)}: the text holds half a surrogate pair, which is not Unicode")
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04x}"


def _comment(text: str) -> list[str]:
    """Comment lines; what a comment may not hold becomes a space, so that a comment cannot end early."""
    return [f"# {_CONTROL.sub(' ', line)}".rstrip() for line in text.split("\n")] if text else []


def _named(path: Key) -> str:
    return ".".join(path) or "the document"
