"""Members of a JSON object whose other members may be anything: what a strict decoder refuses as a whole.

An answer that was given must be billed though a lone surrogate, a byte order mark, a raw control byte, bad UTF-8 or ten
thousand brackets stand somewhere in its content. So only the tokens that matter are looked at: strings and brackets.
Linear in the input, and bounded by a number of tokens, for it runs on the loop.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

# At some 150 ns each, 30 ms. An answer of 128k tokens of prose has some hundred; what has more, and is broken besides,
# counts as unreadable.
TOKENS_MAX: Final = 200_000

_BOM: Final = b"\xef\xbb\xbf"
# Escapes are gone when this is used, so a string ends at the next quote. A colon behind it makes it a name.
_TOKEN: Final = re.compile(rb'"([^"]*)"(?:[ \t\r\n]*+(:))?|([\[{])|([\]}])')
_SPACE: Final = b" \t\r\n"
# Bytes that JSON text cannot have: controls, and what is beyond ASCII, whether or not it is UTF-8.
_TO_PLAIN: Final = bytes(byte if 0x20 <= byte < 0x7F or byte in _SPACE else ord("_") for byte in range(256))


def find_members(data: bytes, names: frozenset[bytes]) -> dict[bytes, bytes] | None:
    """The raw values of the members `names` of the object that `data` is; of repeated ones the last, as decoders do.

    None: `data` is no whole object, or has more than `TOKENS_MAX` tokens. Escapes in names are not understood.
    """
    data = data.removeprefix(_BOM)
    found: dict[bytes, bytes] = {}
    depth = 0
    name: bytes | None = None
    begins = 0
    for seen, token in enumerate(_TOKEN.finditer(_without_escapes(data))):
        if seen >= TOKENS_MAX:
            return None
        kind = token.lastindex
        if kind == 3:
            depth += 1
        elif kind == 4:
            depth -= 1
            if depth <= 0:
                if name is not None:
                    found[name] = data[begins : token.start()].strip(_SPACE)
                return found if depth == 0 and not data[token.end() :].strip(_SPACE) else None
        elif kind == 2 and depth == 1:
            if name is not None:
                found[name] = data[begins : token.start()].rstrip(_SPACE).removesuffix(b",").strip(_SPACE)
            name = token.group(1) if token.group(1) in names else None
            begins = token.end()
        elif depth == 0:
            return None
    return None


def decode_loosely(raw: bytes) -> Any:
    """The value of one JSON text; where a strict decoder refuses it, of the text with `_` for each bad byte and escape.

    None where that is not JSON either.
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return msgspec.json.decode(_without_escapes(raw.removeprefix(_BOM)).translate(_TO_PLAIN))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _without_escapes(data: bytes) -> bytes:
    """The same bytes at the same places, with `_` for every backslash and for a backslash or quote behind one."""
    if b"\\" not in data:
        return data
    return data.replace(b"\\\\", b"__").replace(b'\\"', b"__").replace(b"\\", b"_")
