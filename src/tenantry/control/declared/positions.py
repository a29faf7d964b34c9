"""On which line of a TOML file a value stands. `tomllib` reads values and forgets where they were.

The text has been read by `tomllib`, so this only has to find its way, not to judge.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_VALUE = re.compile(r"[^,\]}\n#]*")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_INLINE_BLANK = re.compile(r"[ \t]*")
# Long forms first: a `\"\"\"` is also a `\"`. A long string may end in one or two quotes of its own.
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)


def find_lines(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every table and value by its path. `text` is well-formed TOML."""
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = (0, 1)
        self.lines: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._peek() == "[":
                line = self._line()
                while self._peek() == "[":
                    self._at += 1
                table = self._key()
                while self._peek() == "]":
                    self._at += 1
                self._note((), table, line)
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _pair(self, table: Path) -> None:
        line = self._line()
        key = self._key()
        self._note(table, key, line)
        self._at += 1  # the equals sign
        self._skip(_INLINE_BLANK)
        self._value(table + key)

    def _note(self, table: Path, key: Path, line: int) -> None:
        for length in range(1, len(key) + 1):
            self.lines.setdefault(table + key[:length], line)

    def _value(self, path: Path) -> None:
        start = self._peek()
        if start == "[":
            self._series("]", path, pairs=False)
        elif start == "{":
            self._series("}", path, pairs=True)
        elif start in "\"'":
            self._string()
        else:
            self._skip(_PLAIN_VALUE)

    def _series(self, end: str, path: Path, *, pairs: bool) -> None:
        self._at += 1
        self._skip(_BLANK)
        while self._peek() != end:
            if pairs:
                self._pair(path)
            else:
                self._value(path)
            self._skip(_BLANK)
            if self._peek() == ",":
                self._at += 1
            self._skip(_BLANK)
        self._at += 1

    def _key(self) -> Path:
        parts: list[str] = []
        while True:
            self._skip(_INLINE_BLANK)
            if self._peek() in "\"'":
                parts.append(str(tomllib.loads(f"key = {self._string()}")["key"]))
            else:
                parts.append(self._skip(_BARE))
            self._skip(_INLINE_BLANK)
            if self._peek() != ".":
                return tuple(parts)
            self._at += 1

    def _string(self) -> str:
        for pattern in _STRINGS:
            found = pattern.match(self._text, self._at)
            if found is not None:
                self._at = found.end()
                return found.group()
        raise AssertionError("tomllib has read this string")

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found is not None else self._at + 1
        return found.group() if found is not None else ""

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1] or "\n"

    def _line(self) -> int:
        at, line = self._counted
        line += self._text.count("\n", at, self._at)
        self._counted = (self._at, line)
        return line
