"""Byte work that `_bytes.c` does too: this is the reference, and what runs where nothing is compiled.

For arguments as they are described both give the same values, and for others both raise the same error.
`bytework` says which of them runs. Only bytes themselves are taken: a subclass may answer as it likes, and
anything else may change while it is read.
"""

from __future__ import annotations

import hmac
import re
import sys
from collections.abc import Callable, Collection
from operator import index, itemgetter
from zlib import crc32

# Longer than any name of a field that is dropped.
NAME_BYTES_MAX = 64
NAMES_MAX = 64
PREFIXES_MAX = 16
LINES_MAX = 256
VALUES_MAX = 32

# What a plain head tells: its status; the length of its body, or CHUNKED; the lines that are kept, each with its end;
# the values of `request-id` and of `content-type`, empty without one; whether it tells rate limits.
HeadTold = tuple[int, int, bytes, bytes, bytes, bool]
CHUNKED = -1

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
# What a head may hold beside the CR LF at the end of each line (RFC 9110 5.5: VCHAR, obs-text, SP, HTAB).
_TEXT = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
_CRLF_BYTES = 2
# RFC 9110 8.6, 15: an answer without a body says so by its status, whatever its fields say.
_NO_BODY = frozenset({204, 304})
_OK_LINE = b"HTTP/1.1 200 OK"
# RFC 9110 5.6.2
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Python refuses to read a number of more than 4,300 digits.
_LENGTH = re.compile(rb"[0-9]{1,18}")

_DELTA_END = b'"}}\n\n'
_DELTA_END_BYTES = len(_DELTA_END)
_DELTA_CHUNK_END = _DELTA_END + b"\r\n"
# Most chunks of a stream are this small.
_SIZES = {b"%x" % size: size for size in range(1, 1025)}
_LF, _CR = b"\n\r"
# The size of a chunk that is nothing but that (RFC 9112 7.1): extensions and the last chunk are left to the parser.
_CHUNK_SIZE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")

# Strings that may be long, and that nobody reads: they pass as they came.
TEXT_NAMES = frozenset({b"text", b"content", b"thinking", b"signature", b"system", b"description"})
TEXT_NAME_BYTES_MAX = max(map(len, TEXT_NAMES))
GAPS_MAX = 2048
STRINGS_MAX = 65_536
# What stands behind the quote that begins a string, with the one that ends it (RFC 8259 7). Surrogates come in pairs.
_TEXT_OF_STRING = re.compile(
    rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?:[0-9A-Ca-cE-Fe-f][0-9A-Fa-f]{3}|[Dd][0-7][0-9A-Fa-f]{2}'
    rb'|[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2})))*+"'
)


def head_reader(
    dropped: frozenset[bytes], prefixes: tuple[bytes, ...], lines_max: int, bytes_max: int
) -> Callable[[bytes], HeadTold | None]:
    """What reads the head of a final answer that has a body, without its blank line; None where it is not plain.

    Plain (RFC 9112): one line of status, fields as RFC 9110 5 has them, exactly one `Content-Length` or
    `Transfer-Encoding: chunked`, a connection that is kept, no more than `lines_max` lines and `bytes_max` bytes.
    Fields whose names, in lower case, are `dropped` or begin with one of `prefixes` are not kept. Of a name that comes
    twice the last value counts.

    Raises:
        TypeError: what is to be read, or a name, is not bytes.
        ValueError: a name is no token in lower case, or a bound of this module is passed.
    """
    _check_names(dropped, NAMES_MAX)
    _check_names(prefixes, PREFIXES_MAX)
    if not (1 <= lines_max <= LINES_MAX and 0 <= bytes_max <= sys.maxsize - 2):
        raise ValueError("a number is out of bounds")
    return _HeadReader(dropped, prefixes, lines_max, bytes_max).read


class _Shape:
    """What heads whose fields have the same names in the same order have in common.

    An upstream's answers have the same fields in the same order, so what the names alone decide is decided once.
    `prefixes` are the beginnings of all lines. Places of fields are line numbers, 0 where there is none; of a name that
    comes twice it is the last, but for those of framing, which make a head that is not plain. `has_limits`: it tells
    rate limits. `kept` picks the lines that are kept.
    """

    __slots__ = (
        "connection_at",
        "has_limits",
        "id_at",
        "is_plain",
        "kept",
        "length_at",
        "prefixes",
        "transfer_at",
        "type_at",
    )

    def __init__(self, names: list[bytes], prefixes: list[bytes], kept: list[int]) -> None:
        """`names` in lower case; `prefixes` begins with that of the status line; `kept` are line numbers."""
        self.prefixes = prefixes
        places = {name: at for at, name in enumerate(names, 1)}
        self.length_at = places.get(b"content-length", 0)
        self.transfer_at = places.get(b"transfer-encoding", 0)
        self.connection_at = places.get(b"connection", 0)
        self.type_at = places.get(b"content-type", 0)
        self.id_at = places.get(b"request-id", 0)
        self.has_limits = b"anthropic-ratelimit-requests-limit" in places
        framing = [name for name in names if name in (b"content-length", b"transfer-encoding", b"connection")]
        self.is_plain = len(framing) == len(set(framing)) and bool(self.length_at) != bool(self.transfer_at)
        self.kept = (
            itemgetter(*kept) if len(kept) > 1 else None if not kept else itemgetter(slice(kept[0], kept[0] + 1))
        )

    def value_at(self, lines: list[bytes], place: int) -> bytes:
        """The value of the field in that line; empty for place 0."""
        return lines[place][len(self.prefixes[place]) :].strip(b" \t") if place else b""


class _HeadReader:
    __slots__ = ("_bytes_max", "_dropped", "_lines_max", "_prefixes", "_shapes")

    def __init__(self, dropped: frozenset[bytes], prefixes: tuple[bytes, ...], lines_max: int, bytes_max: int) -> None:
        self._dropped = dropped
        self._prefixes = prefixes
        self._lines_max = lines_max
        self._bytes_max = bytes_max
        # By the number of lines: what an upstream answers has few shapes. Bounded by `lines_max`.
        self._shapes: dict[int, _Shape] = {}

    def read(self, raw: bytes) -> HeadTold | None:
        if type(raw) is not bytes:
            raise TypeError("bytes are expected")
        lines = raw.split(b"\r\n")
        size = len(lines)
        # As many control bytes as there are line ends: no bare CR, no bare LF, no NUL, none of the others.
        if (
            size > self._lines_max
            or len(raw) > self._bytes_max
            or len(raw.translate(None, _TEXT)) != _CRLF_BYTES * (size - 1)
        ):
            return None
        if lines[0] == _OK_LINE:
            status = 200
        else:
            told = _STATUS_LINE.fullmatch(lines[0])
            if told is None or (status := int(told[1])) in _NO_BODY:
                return None
        shape = self._shapes.get(size)
        if shape is None or not all(map(bytes.startswith, lines, shape.prefixes)):
            shape = self._shape_of(lines)
            if shape is None:
                return None
            self._shapes[size] = shape
        length = _length(lines, shape)
        if length is None:
            return None
        kept = b"\r\n".join(shape.kept(lines)) + b"\r\n" if shape.kept is not None else b""
        return (
            status,
            length,
            kept,
            shape.value_at(lines, shape.id_at),
            shape.value_at(lines, shape.type_at),
            shape.has_limits,
        )

    def _shape_of(self, lines: list[bytes]) -> _Shape | None:
        """None where a line is no field (RFC 9112 5: no blank before the colon, none in front)."""
        prefixes = [b"HTTP/1.1 "]
        names: list[bytes] = []
        for line in lines[1:]:
            name, colon, _ = line.partition(b":")
            if not colon or TOKEN.fullmatch(name) is None:
                return None
            prefixes.append(name + b":")
            names.append(name.lower())
        kept = [at for at, name in enumerate(names, 1) if is_kept(name, self._dropped, self._prefixes)]
        return _Shape(names, prefixes, kept)


def is_kept(name: bytes, dropped: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bool:
    """Whether a field of that name, in lower case, is kept."""
    return name not in dropped and not name.startswith(prefixes)


def _length(lines: list[bytes], shape: _Shape) -> int | None:
    """Of the body, or CHUNKED; None where that is not plain."""
    if not shape.is_plain:
        return None
    if shape.connection_at and shape.value_at(lines, shape.connection_at).lower() != b"keep-alive":
        return None
    if shape.length_at:
        value = shape.value_at(lines, shape.length_at)
        return int(value) if _LENGTH.fullmatch(value) is not None else None
    return CHUNKED if shape.value_at(lines, shape.transfer_at).lower() == b"chunked" else None


def count_deltas(data: bytes, start: int, stop: int, delta: bytes) -> int:
    """The characters of the texts in `data[start:stop]`, one or more whole events; -1 where they are not all alike.

    Alike: each begins with `delta`, which is everything from the event's name to the quote that opens its text, ends
    with the quote that closes the text, two braces and a blank line, and has no other line ends. An event that starts a
    block is none of them, nor is anything for an empty `delta`. A character is what `decode("utf-8", "replace")` makes
    one.

    Raises:
        ValueError: `start` and `stop` are not within `data`, in this order.
    """
    if type(data) is not bytes or type(delta) is not bytes:
        raise TypeError("bytes are expected")
    whole = len(data)
    if not 0 <= start <= stop <= whole:
        raise ValueError("a number is out of bounds")
    size, opened = stop - start, len(delta)
    events = data if size == whole else data[start:stop]
    # CPython 3.11 formats an error, and drops it, whenever bytes are to be found; not for a number, nor in `partition`.
    if (
        not delta
        or events[:opened] != delta
        or events[-_DELTA_END_BYTES:] != _DELTA_END
        or _CR in events
        or events.partition(b"k_start")[1]
    ):
        return -1
    # There are three line ends to an event. So where each end of an event but the last has the beginning of the next
    # behind it, there are no others.
    number, more = divmod(events.count(_LF), 3)
    if more:
        return -1
    if number == 1:
        if size < opened + _DELTA_END_BYTES:
            return -1  # a quote that begins the text and ends it
    elif events.count(_DELTA_END + delta) != number - 1 or events.partition(delta + _DELTA_END[1:])[1]:
        return -1
    chars = size if events.isascii() else len(events.decode("utf-8", "replace"))
    return chars - number * (opened + _DELTA_END_BYTES)


def chunk_counter(delta: bytes) -> Callable[[bytes], int]:
    """`count_deltas` of what is in some data, where that is exactly one whole chunk without extensions; else -1.

    Nearly every chunk is one event like the one before, and its text is all that is new. To look for one byte by its
    number takes CPython 3.11 a tenth of what it takes to look for bytes.
    """
    if type(delta) is not bytes:
        raise TypeError("bytes are expected")
    opened, around = len(delta), len(delta) + len(_DELTA_CHUNK_END)

    def count(data: bytes) -> int:
        if type(data) is not bytes:
            raise TypeError("bytes are expected")
        size, _, rest = data.partition(b"\r\n")
        if rest.startswith(delta) and rest.endswith(_DELTA_CHUNK_END) and _SIZES.get(size) == len(rest) - _CRLF_BYTES:
            text = rest[opened : -len(_DELTA_CHUNK_END)]
            if (
                opened
                and len(rest) >= around
                and _LF not in text
                and _CR not in text
                and not text.partition(b"k_start")[1]
            ):
                return len(text) if text.isascii() else len(text.decode("utf-8", "replace"))
        start = plain_chunk(data)
        return count_deltas(data, start, len(data) - _CRLF_BYTES, delta) if start else -1

    return count


def plain_chunk(data: bytes) -> int:
    """Where the data of a chunk begins, when `data` is exactly one whole chunk without extensions; else 0.

    It ends two bytes before the end of `data`.
    """
    if type(data) is not bytes:
        raise TypeError("bytes are expected")
    found = _CHUNK_SIZE.match(data)
    if found is None:
        return 0
    start = found.end()
    is_whole = len(data) == start + int(found[1], 16) + _CRLF_BYTES and data.endswith(b"\r\n")
    return start if is_whole else 0


def known_head(data: bytes, before: bytes, after: bytes) -> tuple[int, int] | None:
    """A number, and where what follows begins, when `data` begins with `before`, the number's digits and `after`.

    At most 18 digits. Without an `after` there is no number, and -1 is told. Compared in constant time.
    """
    if type(data) is not bytes or type(before) is not bytes or type(after) is not bytes:
        raise TypeError("bytes are expected")
    at = len(before)
    if not hmac.compare_digest(data[:at], before):
        return None
    if not after:
        return -1, at
    digits = _LENGTH.match(data, at)
    if digits is None:
        return None
    end = digits.end() + len(after)
    if not hmac.compare_digest(data[digits.end() : end], after):
        return None
    return int(digits[0]), end


def fill_line(template: bytes, *values: bytes | int) -> bytes:
    """A line of the journal: `<crc32 as 8 hex digits> <document>` and LF.

    The document is `template` with a value in each place of its: bytes for `%b`, a whole number from 0 to below 2^63
    for `%d`. At most `VALUES_MAX` of them. Here they are not looked at; in C any others are refused.

    Raises:
        TypeError: there are more or fewer values than places.
    """
    document = template % values
    return b"%08x %b\n" % (crc32(document), document)


def without_texts(body: bytes, bytes_min: int) -> bytes | None:
    """JSON without the insides of its texts of so many bytes or more: those strings whose names are `TEXT_NAMES`.

    What is left is valid JSON where `body` is, and nowhere else. None: nothing was left out, or `body` is not JSON, or
    has more than `STRINGS_MAX` strings. Of more than `GAPS_MAX` texts the first are left out.
    """
    if type(body) is not bytes:
        raise TypeError("bytes are expected")
    if not 1 <= index(bytes_min) <= sys.maxsize:
        raise ValueError("a number is out of bounds")
    kept: list[bytes] = []
    at = taken = 0
    name_start, name = 0, b""
    for _ in range(STRINGS_MAX):
        start = body.find(b'"', at) + 1
        if start == 0 or len(kept) == GAPS_MAX:
            return b"".join((*kept, body[taken:])) if kept else None
        found = _TEXT_OF_STRING.match(body, start)
        if found is None:
            return None
        at, text_bytes = found.end(), found.end() - 1 - start
        between = body[name_start + len(name) : start]
        if text_bytes >= bytes_min and name in TEXT_NAMES and between in (b'":"', b'": "'):
            kept.append(body[taken:start])
            taken = at - 1
        # Longer ones are no names that matter.
        name_start, name = start, body[start : at - 1] if text_bytes <= TEXT_NAME_BYTES_MAX else b""
    return None


def _check_names(names: Collection[bytes], most: int) -> None:
    for name in names:
        if type(name) is not bytes:
            raise TypeError("bytes are expected")
        if len(name) > NAME_BYTES_MAX or TOKEN.fullmatch(name) is None or name != name.lower():
            raise ValueError("no name of a field in lower case, or one that is too long")
    if len(names) > most:
        raise ValueError("too many names")
