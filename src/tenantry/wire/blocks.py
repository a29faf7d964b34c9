"""What stands in the content of a request: cache breakpoints, images, documents, tools that run upstream.

Decoded by shape and not searched for: a search for six bytes in 200 KB takes twice as long as a decode that skips them
(measured: 90 us against 45), and escapes hide a word from a search. Text itself is skipped: what its bytes say is the
upstream's business. What does not have the published shape is told as `BadShape`, for the caller to assume the worst.

What makes an object of Python's is bounded in number (`ITEMS_MAX`, `TOOLS_MAX`, `LOOKS_MAX`) and in depth, each named
by the 400 that refuses it: a megabyte of the smallest blocks would else take 15 ms, and of nested ones a second.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.wire.members import BadBody, RepeatedName, TooManyMembers, refuse_repeats

# Messages and blocks together. The largest prompt, a million tokens (reference 5.6), has 50 tokens for each.
ITEMS_MAX = 20_000
# Blocks within blocks. Published shapes need four: a tool's result, its search result or document, its text.
DEPTH_MAX = 5
# Tool search has catalogues of some thousands; the API's own code for too many is available_tools_limit_exceeded.
TOOLS_MAX = 10_000
# Objects whose names are looked at one by one (some 3 us each): typed tools, tools that messages add, breakpoints.
LOOKS_MAX = 1_000
# No published model id or tool type is longer than 40 characters.
NAME_CHARS_MAX = 256
# `{"type":"ephemeral","ttl":"5m"}` has 31 bytes; room for what may come.
CACHE_BYTES_MAX = 1_024
# The fewest bytes of a message, a block, a tool: a list that is shorter than so many of them need not be counted.
_MESSAGE_BYTES_MIN = len(b'{"role":"","content":0},')
_BLOCK_BYTES_MIN = len(b'{"type":""},')
_TOOL_BYTES_MIN = len(b"{},")

# Typed tools that the client runs itself; any other type runs upstream, those of tomorrow included.
_CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "memory_")
_NONE = msgspec.Raw()
# How nearly every breakpoint is written, and whether it is one of an hour: nothing else has to be read of these.
_KNOWN_CACHES = {
    b'{"type":"ephemeral"}': False,
    b'{"type":"ephemeral","ttl":"5m"}': False,
    b'{"type":"ephemeral","ttl":"1h"}': True,
}
_KNOWN_BYTES_MAX = 32


class BadShape(Exception):
    """The content is not as published."""


class _Tool(msgspec.Struct, gc=False):
    """One entry of `tools`, or a tool that a message adds. Null is told from absent: a name may hide behind it."""

    type: str | UnsetType | None = UNSET
    max_uses: int | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    max_tokens: int | UnsetType | None = UNSET
    max_content_tokens: int | UnsetType | None = UNSET
    cache_control: msgspec.Raw = _NONE
    caching: msgspec.Raw = _NONE


class _ToolChange(msgspec.Struct, gc=False):
    """A tool by reference, or defined within the conversation."""

    definition: msgspec.Raw = _NONE


class _Cache(msgspec.Struct, gc=False):
    ttl: Any = None


class _Source(msgspec.Struct, gc=False):
    type: str | None = None
    data: msgspec.Raw = _NONE
    content: msgspec.Raw = _NONE


class _Block(msgspec.Struct, gc=False):
    type: str
    content: msgspec.Raw = _NONE
    source: _Source | str | None = None
    cache_control: msgspec.Raw = _NONE
    file_id: msgspec.Raw = _NONE
    tool: msgspec.Raw = _NONE
    tool_changes: msgspec.Raw = _NONE


class _Message(msgspec.Struct, gc=False):
    role: str
    content: msgspec.Raw


class _TooManyEntries(Exception):
    """A list has more entries than are allowed."""


class _Counter(threading.local):
    """How many entries the list that this thread is counting may still have."""

    left = 0


_COUNTER = _Counter()


class _Entry(msgspec.Struct, gc=False):
    """An entry that is only counted."""

    def __post_init__(self) -> None:
        _COUNTER.left -= 1
        if _COUNTER.left < 0:
            raise _TooManyEntries


_ENTRIES = msgspec.json.Decoder(list[_Entry])
_MESSAGES = msgspec.json.Decoder(list[_Message] | None)
_BLOCKS = msgspec.json.Decoder(list[_Block])
_TOOLS = msgspec.json.Decoder(list[_Tool] | None)
_TOOL = msgspec.json.Decoder(_Tool | None)
_TOOL_CHANGE = msgspec.json.Decoder(_ToolChange | None)
_CACHE = msgspec.json.Decoder(_Cache | None)
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_TOO_MANY_ITEMS = f"messages: at most {ITEMS_MAX} messages and blocks of content are allowed"
_LIST, _TEXT, _NULL, _OBJECT = b'["n{'


class Reading:
    """One reading of a body: the fields that it fills, and how much of its bounds is left."""

    __slots__ = ("_items_left", "_looks_left", "_tools", "fields")

    def __init__(self, fields: MessageFields) -> None:
        self.fields = fields
        self._items_left = ITEMS_MAX
        self._looks_left = LOOKS_MAX
        self._tools: list[ServerTool] = []

    def end(self) -> None:
        """Everything has been read: the tools found are in the fields."""
        if self._tools:
            self.fields.server_tools = (*self.fields.server_tools, *self._tools)

    def read_messages(self, raw: msgspec.Raw) -> None:
        """Note what the messages hold.

        Raises:
            BadShape: they are not a list of messages with blocks.
            BadBody: there are too many of them, or blocks are nested too deeply, or a name that matters is repeated.
        """
        self._count_first(raw, _MESSAGE_BYTES_MIN)
        messages: list[_Message] | None = _decode(_MESSAGES, raw)
        if not messages:
            return
        self._took(len(messages))
        last: list[_Block] | None = None
        for message in messages:
            content = self._block_list(message.content)
            if content:
                self._note_blocks(message.content, content, 1)
            if message.role == "user":
                last = content
        if last:
            self.fields.ends_in_tool_result = any(block.type == "tool_result" for block in last)

    def read_system(self, raw: msgspec.Raw) -> None:
        """Note what the system prompt holds. Raises: BadShape, BadBody."""
        content = self._block_list(raw)
        if content:
            self._note_blocks(raw, content, 1)

    def read_cache(self, raw: msgspec.Raw, where: str = "cache_control") -> None:
        """Note a `cache_control`. Raises: BadShape, BadBody."""
        known = _KNOWN_CACHES.get(bytes(raw)) if len(raw) < _KNOWN_BYTES_MAX else None
        if known is not None:
            self.fields.has_cache_control = True
            self.fields.wants_1h = self.fields.wants_1h or known
            return
        if len(raw) > CACHE_BYTES_MAX:
            raise BadBody(f"{where}: at most {CACHE_BYTES_MAX} bytes are allowed")
        self._look(raw, where)
        cache: _Cache | None = _decode(_CACHE, raw)
        if cache is not None:
            self.fields.has_cache_control = True
            if cache.ttl == "1h":
                self.fields.wants_1h = True

    def read_tools(self, raw: msgspec.Raw) -> None:
        """Note the tools. Raises: BadShape, BadBody."""
        if len(raw) > TOOLS_MAX * _TOOL_BYTES_MIN:
            _refuse_more(raw, TOOLS_MAX, f"tools: at most {TOOLS_MAX} are allowed")
        tools: list[_Tool] | None = _decode(_TOOLS, raw)
        if not tools:
            return
        if len(tools) > TOOLS_MAX:
            raise BadBody(f"tools: at most {TOOLS_MAX} are allowed")
        self.fields.has_tools = True
        raws: list[msgspec.Raw] = []
        for index, tool in enumerate(tools):
            if _is_marked(tool):
                if not raws:
                    raws = _decode(_RAWS, raw)
                self._note_tool(tool, raws[index])

    def _took(self, items: int) -> None:
        self._items_left -= items
        if self._items_left < 0:
            raise BadBody(_TOO_MANY_ITEMS)

    def _count_first(self, raw: msgspec.Raw, bytes_min: int) -> None:
        """Before a long list is decoded: stop at the first entry too many."""
        left = self._items_left
        if len(raw) > left * bytes_min:
            _refuse_more(raw, left, _TOO_MANY_ITEMS)

    def _look(self, raw: msgspec.Raw, where: str) -> None:
        self._looks_left -= 1
        if self._looks_left < 0:
            raise BadBody(f"{where}: at most {LOOKS_MAX} typed tools and cache breakpoints are allowed")
        try:
            refuse_repeats(raw)
        except RepeatedName as error:
            raise BadBody(f"{where}: {error}: Field appears more than once") from None
        except TooManyMembers:
            raise BadBody(f"{where}: An object has too many fields") from None

    def _block_list(self, raw: msgspec.Raw, also: int = 0) -> list[_Block] | None:
        """Content that is a list of blocks; None where it is text, absent, or begins with the byte `also`.

        Raises:
            BadShape: it is something else.
        """
        first = memoryview(raw)[0] if raw else _NULL
        if first == _LIST:
            self._count_first(raw, _BLOCK_BYTES_MIN)
            found: list[_Block] = _decode(_BLOCKS, raw)
            self._took(len(found))
            return found
        if first in (_TEXT, _NULL) or first == also:
            return None
        raise BadShape("content is neither text nor a list of blocks")

    def _note_blocks(self, raw: msgspec.Raw, blocks: list[_Block], depth: int) -> None:
        if depth > DEPTH_MAX:
            raise BadBody(f"messages: blocks may be nested {DEPTH_MAX} deep at most")
        raws: list[msgspec.Raw] = []
        for index, block in enumerate(blocks):
            if block.cache_control or block.tool:
                if not raws:
                    raws = _decode(_RAWS, raw)
                self._note_marked(block, raws[index])
            if block.content:
                self._note_within(block, depth)
            elif block.type == "web_fetch_tool_result":
                self.fields.has_sources = True
            if block.source is not None or block.file_id:
                self._note_source(block, depth)
            if block.tool_changes:
                content = self._block_list(block.tool_changes)
                if content:
                    self._note_blocks(block.tool_changes, content, depth + 1)

    def _note_within(self, block: _Block, depth: int) -> None:
        content = self._block_list(block.content, _OBJECT)
        if content:
            self._note_blocks(block.content, content, depth + 1)
        elif block.type == "web_fetch_tool_result":
            self.fields.has_sources = True  # what was fetched earlier may be a PDF

    def _note_marked(self, block: _Block, raw: msgspec.Raw) -> None:
        """A block with a breakpoint, or with a tool that it adds."""
        self._look(raw, "messages")
        if block.cache_control:
            self.read_cache(block.cache_control)
        if block.tool:
            self._look(block.tool, "tool_addition")
            change: _ToolChange | None = _decode(_TOOL_CHANGE, block.tool)
            if change is not None and change.definition:
                tool: _Tool | None = _decode(_TOOL, change.definition)
                if tool is not None:
                    self.fields.has_tools = True
                    self._note_tool(tool, change.definition)

    def _note_tool(self, tool: _Tool, raw: msgspec.Raw) -> None:
        """A tool that may run upstream, or has a breakpoint: no name of it may stand twice."""
        self._look(raw, "tools")
        if tool.cache_control:
            self.read_cache(tool.cache_control, "tools")
        if tool.caching:
            self.read_cache(tool.caching, "tools")
        kind, model = _text(tool.type), _text(tool.model)
        if kind is None or kind == "custom":
            return
        if kind.startswith(_CLIENT_TOOLS):
            self.fields.typed_tools += 1
            return
        if len(kind) > NAME_CHARS_MAX or (model is not None and len(model) > NAME_CHARS_MAX):
            raise BadBody(f"tools: A type or model has at most {NAME_CHARS_MAX} characters")
        uses, tokens, content = _count(tool.max_uses), _count(tool.max_tokens), _count(tool.max_content_tokens)
        self._tools.append(ServerTool(kind, uses, model, tokens, content))

    def _note_source(self, block: _Block, depth: int) -> None:
        """An image has a largest size; the text of a document is bounded only where it stands in the body as text."""
        fields, source = self.fields, block.source
        if isinstance(source, str):
            return  # where a search result is from
        kind = source.type if source is not None else "file"
        if kind in ("url", "file"):
            fields.has_remote_sources = True
        if block.type == "image":
            fields.images += 1
            if source is not None and kind == "base64":
                fields.image_bytes += len(source.data)
        elif source is not None and kind == "content":
            content = self._block_list(source.content)
            if content:
                self._note_blocks(source.content, content, depth + 1)
        elif kind != "text":
            fields.has_sources = True


def _is_marked(tool: _Tool) -> bool:
    """Whether it has what matters for money or policy, null included: the value that counts upstream may be another."""
    return (
        tool.type is not UNSET
        or bool(tool.cache_control)
        or bool(tool.caching)
        or tool.max_uses is not UNSET
        or tool.model is not UNSET
        or tool.max_tokens is not UNSET
        or tool.max_content_tokens is not UNSET
    )


def _decode(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadShape(str(error)) from None


def _refuse_more(raw: msgspec.Raw, most: int, told: str) -> None:
    """Refuse a list of more than `most` entries at the first too many: a decode of all would take its memory at once.

    A megabyte of `{}` makes 25 MB of entries. Texts hold few objects: where there are few braces there is no doubt.

    Raises:
        BadBody: with what is `told`.
        BadShape: it is not a list of objects.
    """
    if bytes(raw).count(b"{") <= most:
        return
    _COUNTER.left = most
    try:
        _decode(_ENTRIES, raw)
    except _TooManyEntries:
        raise BadBody(told) from None


def _text(value: str | UnsetType | None) -> str | None:
    return None if value is UNSET else value


def _count(number: int | UnsetType | None) -> int | None:
    """Below 0 is 0: the upstream refuses it, and money must not be counted down by it."""
    return None if number is None or number is UNSET else max(0, number)
