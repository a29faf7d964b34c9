"""The messages, system prompt and tools of a request as values, bounded in number while they are decoded.

Messages and their blocks, however deep, are one decode: a call of Python for each message costs more than to decode it
(0.7 us against 0.1). What text says is the upstream's business.
"""

from __future__ import annotations

import threading
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from tenantry.wire.members import ABSENT, BadBody

# Messages and their blocks, or those of a system prompt. The largest prompt, a million tokens (reference 5.6), has 50
# tokens for each.
ITEMS_MAX = 20_000
# Tool search has catalogues of some thousands; the API's own code for too many is available_tools_limit_exceeded.
TOOLS_MAX = 10_000
# No message, block or tool as published is shorter: `{"type":"text","text":""},` has 26. What is made of shorter ones
# alone costs twice as much a byte to read as anything that a client has to say.
ENTRY_BYTES_MIN = 24
# So many are read however short they are.
SHORT_ENTRIES_MAX = 200

# JSON is UTF-8 (RFC 8259, 8.1). Where text is not, its structure is read with `?` for what is beyond ASCII.
_TO_ASCII = bytes(byte if byte < 0x80 else ord("?") for byte in range(256))


class BadShape(Exception):
    """The content is not as published."""


# msgspec takes one byte from a room for each entry that it makes, as the default of a member that no entry can have. An
# empty room ends the decode: a list is never larger in memory than its bound. Measured: 5 ns an entry; a bound that
# `Meta(max_length=...)` sets is looked at when the list has been made.
_item_room = bytearray()
_tool_room = bytearray()
_rooms = threading.Lock()  # a large body is read in a thread
_Never = Annotated[int, msgspec.Meta(ge=1, lt=1)]
_TAKEN = "\x7f"


class Tool(msgspec.Struct, gc=False):
    """One entry of `tools`, or a tool that a message adds. Null is told from absent: a name may hide behind it."""

    type: str | UnsetType | None = UNSET
    max_uses: int | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    max_tokens: int | UnsetType | None = UNSET
    max_content_tokens: int | UnsetType | None = UNSET
    cache_control: msgspec.Raw = ABSENT
    caching: msgspec.Raw = ABSENT


class ListedTool(Tool, gc=False):
    taken: _Never = msgspec.field(default_factory=_tool_room.pop, name=_TAKEN)


class _Unread(msgspec.Struct, gc=False):
    """An object of which nothing matters."""


class Source(msgspec.Struct, gc=False):
    type: str | None = None
    data: msgspec.Raw = ABSENT
    content: list[Block] | str | int | float | bool | _Unread | None = None


class Block(msgspec.Struct, gc=False):
    """A block of content, with those within it."""

    type: str
    content: list[Block] | str | _Unread | None = None
    source: Source | str | None = None
    cache_control: msgspec.Raw = ABSENT
    file_id: msgspec.Raw = ABSENT
    tool: msgspec.Raw = ABSENT
    tool_changes: list[Block] | str | None = None
    taken: _Never = msgspec.field(default_factory=_item_room.pop, name=_TAKEN)


class Message(msgspec.Struct, gc=False):
    """A message with its blocks."""

    role: str
    content: list[Block] | str | None
    taken: _Never = msgspec.field(default_factory=_item_room.pop, name=_TAKEN)


class Prompt(msgspec.Struct, gc=False):
    """What of a request has a bound of its own. Decode it with `decode_bounded` only."""

    messages: list[Message] | None = None
    system: list[Block] | str | None = None
    tools: list[ListedTool] | None = None


_MESSAGES = msgspec.json.Decoder(list[Message] | None)
_BLOCKS = msgspec.json.Decoder(list[Block] | str | None)
_TOOLS = msgspec.json.Decoder(list[ListedTool] | None)


def decode_bounded(decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw) -> Any:
    """Decode something with messages, blocks or tools in it. msgspec's errors pass through.

    Raises:
        BadBody: there are too many of them, or too many for their size.
    """
    most = SHORT_ENTRIES_MAX + len(raw) // ENTRY_BYTES_MIN
    items_max, tools_max = min(most, ITEMS_MAX), min(most, TOOLS_MAX)
    with _rooms:
        if len(_item_room) != items_max or len(_tool_room) != tools_max:
            _item_room[:] = bytes(items_max)
            _tool_room[:] = bytes(tools_max)
        try:
            return decoder.decode(raw)
        except IndexError:
            if _item_room:
                raise BadBody(f"tools: at most {tools_max} are allowed") from None
            raise BadBody(f"messages: at most {items_max} messages and blocks of content are allowed") from None


def read_messages(raw: msgspec.Raw) -> list[Message]:
    """The messages by themselves. Raises: BadShape, BadBody."""
    return _decode_texts(_MESSAGES, raw) or []


def read_system(raw: msgspec.Raw) -> list[Block] | str | None:
    """The system prompt by itself. Raises: BadShape, BadBody."""
    return _decode_texts(_BLOCKS, raw)


def read_tools(raw: msgspec.Raw) -> list[ListedTool]:
    """The tools by themselves. Raises: BadShape, BadBody."""
    return _decode_bounded(_TOOLS, raw) or []


def _decode_texts(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> Any:
    try:
        return decode_bounded(decoder, raw)
    except UnicodeDecodeError:
        return _decode_bounded(decoder, bytes(raw).translate(_TO_ASCII))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadShape(str(error)) from None


def _decode_bounded(decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw) -> Any:
    try:
        return decode_bounded(decoder, raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadShape(str(error)) from None
