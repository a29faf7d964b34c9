"""The messages and tools of a request as values, bounded in number while they are decoded.

Lists of blocks are decoded together, those within blocks after those that hold them: a call of Python for each list
costs more than to decode it (0.7 us against 0.1). Text stays as it came: to make a string of it takes up to three times
as long as to skip it.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import msgspec
from msgspec import UNSET

from tenantry.wire.members import BadBody
from tenantry.wire.shapes import Asked, Block, ListedTool, Message, room

# Messages and their blocks, or those of a system prompt. The largest prompt, a million tokens (reference 5.6), has 50
# tokens for each.
ITEMS_MAX: Final = 20_000
# Tool search has catalogues of some thousands; the API's own code for too many is available_tools_limit_exceeded.
TOOLS_MAX: Final = 10_000
# No message, block or tool as published is shorter: `{"type":"text","text":""},` has 26. What is made of shorter ones
# alone costs twice as much a byte to read as anything that a client has to say.
ENTRY_BYTES_MIN: Final = 24
# So many are read however short they are.
SHORT_ENTRIES_MAX: Final = 200


class BadShape(Exception):
    """The content is not as published."""


_room_lock = threading.Lock()  # a large body is read in a thread

ASKED: Final = msgspec.json.Decoder(Asked)
_MESSAGES: Final = msgspec.json.Decoder(list[Message] | None)
_LISTS: Final = msgspec.json.Decoder(list[list[Block]])
_TOOLS: Final = msgspec.json.Decoder(list[ListedTool] | None)


_ITEMS_TOLD: Final = "messages: at most %d messages and blocks of content are allowed"
_TOOLS_TOLD: Final = "tools: at most %d are allowed"


def decode_bounded(
    decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw, left: int = ITEMS_MAX, told: str = _ITEMS_TOLD
) -> Any:
    """Decode something with at most `left` messages, blocks or tools in it. msgspec's errors pass through.

    Raises:
        BadBody: there are too many of them, or too many for their size; in the words of `told`.
    """
    with _room_lock:
        room.extend([UNSET] * (ITEMS_MAX - len(room)))
        try:
            found = decoder.decode(raw)
            taken = ITEMS_MAX - len(room)
        except IndexError:
            found, taken = None, ITEMS_MAX + 1
    short = SHORT_ENTRIES_MAX + len(raw) // ENTRY_BYTES_MIN
    if taken > left or taken > short:
        raise BadBody(told % min(short, TOOLS_MAX if told is _TOOLS_TOLD else ITEMS_MAX))
    return found


def read_messages(raw: msgspec.Raw) -> list[Message]:
    """The messages. Raises: BadShape, BadBody."""
    return _decode(_MESSAGES, raw) or []


def read_blocks(lists: list[msgspec.Raw], left: int) -> list[list[Block]]:
    """Lists of blocks, of `left` blocks in all at most. Raises: BadShape, BadBody."""
    return _decode(_LISTS, b"[%b]" % b",".join(lists), left)


def read_tools(raw: msgspec.Raw) -> list[ListedTool]:
    """The tools. Raises: BadShape, BadBody."""
    return _decode(_TOOLS, raw, TOOLS_MAX, _TOOLS_TOLD) or []


def _decode(
    decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw, left: int = ITEMS_MAX, told: str = _ITEMS_TOLD
) -> Any:
    try:
        return decode_bounded(decoder, raw, left, told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadShape(str(error)) from None
