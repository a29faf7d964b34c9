"""What stands in the content of a request: cache breakpoints, images, documents, tools that run upstream.

Decoded by shape and not searched for: a search for six bytes in 200 KB takes twice as long as a decode that skips them
(measured: 90 us against 45), and escapes hide a word from a search. What does not have the published shape is told as
`BadShape`, for the caller to assume the worst.

What makes an object of Python's is bounded in number (`wire/prompt.py`), what is looked at by name too (`LOOKS_MAX`),
and depth, each named by the 400 that refuses it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.wire.members import BadBody, RepeatedName, TooManyMembers, refuse_repeats
from tenantry.wire.prompt import ITEMS_MAX, BadShape, read_blocks
from tenantry.wire.shapes import ABSENT, Block, CacheControl, ListedTool, Message, Source, Tool, ToolChange

# Blocks within blocks. Published shapes need four: a tool's result, its search result or document, its text.
DEPTH_MAX: Final = 5
# Objects whose names are looked at one by one (some 3 us each): typed tools, tools that messages add, breakpoints.
LOOKS_MAX: Final = 1_000
# No published model id or tool type is longer than 40 characters.
NAME_CHARS_MAX: Final = 256
# `{"type":"ephemeral","ttl":"5m"}` has 31 bytes; room for what may come.
CACHE_BYTES_MAX: Final = 1_024

# Typed tools that the client runs itself; any other type runs upstream, those of tomorrow included.
_CLIENT_TOOLS: Final = ("bash_", "text_editor_", "computer_", "memory_")
# How nearly every breakpoint is written, and whether it is one of an hour: nothing else has to be read of these.
_KNOWN_CACHES: Final = {
    b'{"type":"ephemeral"}': False,
    b'{"type":"ephemeral","ttl":"5m"}': False,
    b'{"type":"ephemeral","ttl":"1h"}': True,
}
_KNOWN_BYTES_MAX: Final = 32
_NO_CONTENT: Final = "content is neither text nor a list of blocks"
_TOO_MANY_LOOKS: Final = f"at most {LOOKS_MAX} typed tools and cache breakpoints are allowed"


_TOOL: Final = msgspec.json.Decoder(Tool | None)
_TOOL_CHANGE: Final = msgspec.json.Decoder(ToolChange | None)
_CACHE: Final = msgspec.json.Decoder(CacheControl | None)
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
# What JSON values begin with.
_LIST: Final = ord("[")
_TEXT: Final = ord('"')
_NULL: Final = ord("n")
_OBJECT: Final = ord("{")


# What a long text is once it has been left out (`bytework.without_texts`); it may as well be an empty one.
GAP: Final = b'""'


class Reading:
    """One reading of a body: the fields that it fills, and how much of its bounds is left.

    `has_gaps`: long texts have been left out of it.
    """

    __slots__ = ("_has_gaps", "_items_left", "_looks_left", "_tools", "fields")

    def __init__(self, fields: MessageFields, has_gaps: bool = False) -> None:
        self.fields = fields
        self._has_gaps = has_gaps
        self._items_left = ITEMS_MAX
        self._looks_left = LOOKS_MAX
        self._tools: list[ServerTool] = []

    def end(self) -> None:
        """Everything has been read: the tools found are in the fields."""
        if self._tools:
            self.fields.server_tools = (*self.fields.server_tools, *self._tools)

    def note_prompt(self, messages: list[Message], system: msgspec.Raw) -> None:
        """Note what the messages and the system prompt hold.

        Raises:
            BadShape: something within is not as published.
            BadBody: there are too many blocks, or breakpoints, or blocks are nested too deeply, or a name that matters
                is repeated.
        """
        self._items_left -= len(messages)
        lists: list[msgspec.Raw] = []
        last = -1
        for message in messages:
            first = memoryview(message.content)[0]
            if first == _LIST:
                lists.append(message.content)
            elif first not in (_TEXT, _NULL):
                raise BadShape(_NO_CONTENT)
            if message.role == "user":
                last = len(lists) - 1 if first == _LIST else -1
        if system:
            _add_list(system, lists)
        if lists:
            contents = self._note_lists(lists)
            if last >= 0:
                for block in contents[last]:
                    if block.type == "tool_result":
                        self.fields.ends_in_tool_result = True
                        break

    def note_tools(self, tools: list[ListedTool], raw: msgspec.Raw) -> None:
        """Note the tools. Raises: BadShape, BadBody."""
        self.fields.has_tools = True
        raws: list[msgspec.Raw] = []
        for index, tool in enumerate(tools):
            # What matters for money or policy, null included: the value that counts upstream may be another.
            if (
                tool.type is not UNSET
                or tool.cache_control is not ABSENT
                or tool.caching is not ABSENT
                or tool.max_uses is not UNSET
                or tool.model is not UNSET
                or tool.max_tokens is not UNSET
                or tool.max_content_tokens is not UNSET
            ):
                if not raws:
                    raws = _decode(_RAWS, raw)
                self._note_tool(tool, raws[index])

    def note_cache(self, raw: msgspec.Raw, where: str = "cache_control") -> None:
        """Note a `cache_control`. Raises: BadShape, BadBody."""
        known = _KNOWN_CACHES.get(bytes(raw)) if len(raw) < _KNOWN_BYTES_MAX else None
        if known is not None:
            self.fields.has_cache_control = True
            self.fields.wants_1h = self.fields.wants_1h or known
            return
        if len(raw) > CACHE_BYTES_MAX or (self._has_gaps and GAP in bytes(raw)):
            raise BadBody(f"{where}: at most {CACHE_BYTES_MAX} bytes are allowed")
        self._look(raw, where)
        cache: CacheControl | None = _decode(_CACHE, raw)
        if cache is not None:
            self.fields.has_cache_control = True
            if cache.ttl == "1h":
                self.fields.wants_1h = True

    def _look(self, raw: msgspec.Raw, where: str) -> None:
        self._looks_left -= 1
        if self._looks_left < 0:
            raise BadBody(f"{where}: {_TOO_MANY_LOOKS}")
        try:
            refuse_repeats(raw)
        except RepeatedName as error:
            raise BadBody(f"{where}: {error}: Field appears more than once") from None
        except TooManyMembers:
            raise BadBody(f"{where}: An object has too many fields") from None
        except UnicodeDecodeError:
            raise BadBody(f"{where}: A name is not valid UTF-8") from None

    def _note_lists(self, lists: list[msgspec.Raw]) -> list[list[Block]]:
        """Note lists of blocks, then those within their blocks, and so on; what is in `lists` themselves."""
        outermost: list[list[Block]] = []
        depth = 0
        while lists:
            depth += 1
            contents = read_blocks(lists, self._items_left)
            if depth == 1:
                outermost = contents
            within: list[msgspec.Raw] = []
            for raw, blocks in zip(lists, contents, strict=True):
                if blocks:
                    if depth > DEPTH_MAX:
                        raise BadBody(f"messages: blocks may be nested {DEPTH_MAX} deep at most")
                    self._items_left -= len(blocks)
                    self._note_blocks(raw, blocks, within)
            lists = within
        return outermost

    def _note_blocks(self, raw: msgspec.Raw, blocks: list[Block], within: list[msgspec.Raw]) -> None:
        """Every block costs this loop once, so it asks for what most have not before it calls anything.

        Blocks that are in these ones are added to `within`.
        """
        fields = self.fields
        raws: list[msgspec.Raw] = []
        for index, block in enumerate(blocks):
            if block.cache_control is not ABSENT or block.tool is not ABSENT:
                if not raws:
                    raws = _decode(_RAWS, raw)
                self._note_marked(block, raws[index])
            content = block.content
            if content is not ABSENT:
                first = memoryview(content)[0]
                if first == _LIST:
                    within.append(content)
                elif first not in (_TEXT, _NULL, _OBJECT):
                    raise BadShape(_NO_CONTENT)
            if block.type == "web_fetch_tool_result" and not _has_entries(content):
                fields.has_sources = True  # what was fetched earlier may be a PDF
            source = block.source
            if source is not None:
                if type(source) is Source:  # text says where a search result is from
                    self._note_source(block, source, within)
            elif block.file_id is not ABSENT:
                if block.type == "image":
                    fields.images += 1
                else:
                    fields.has_sources = True
            if block.tool_changes is not ABSENT:
                _add_list(block.tool_changes, within)

    def _note_source(self, block: Block, source: Source, within: list[msgspec.Raw]) -> None:
        """An image has a largest size; the text of a document is bounded only where it stands in the body as text."""
        fields, kind = self.fields, source.type
        if block.type == "image":
            fields.images += 1
            if kind == "base64":
                fields.image_bytes += len(source.data)
        elif kind == "content":
            _add_list(source.content, within)
        elif kind != "text":
            fields.has_sources = True

    def _note_marked(self, block: Block, raw: msgspec.Raw) -> None:
        """A block with a breakpoint, or with a tool that it adds."""
        self._look(raw, "messages")
        if block.cache_control:
            self.note_cache(block.cache_control)
        if block.tool:
            self._look(block.tool, "tool_addition")
            change: ToolChange | None = _decode(_TOOL_CHANGE, block.tool)
            if change is not None and change.definition:
                tool: Tool | None = _decode(_TOOL, change.definition)
                if tool is not None:
                    self.fields.has_tools = True
                    self._note_tool(tool, change.definition)

    def _note_tool(self, tool: Tool, raw: msgspec.Raw) -> None:
        """A tool that may run upstream, or has a breakpoint: no name of it may stand twice."""
        self._look(raw, "tools")
        if tool.cache_control:
            self.note_cache(tool.cache_control, "tools")
        if tool.caching:
            self.note_cache(tool.caching, "tools")
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


def _decode(decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadShape(str(error)) from None


def _add_list(raw: msgspec.Raw, lists: list[msgspec.Raw]) -> None:
    """Add content that is a list of blocks; what is text, or absent, has none.

    Raises:
        BadShape: it is something else.
    """
    first = memoryview(raw)[0] if raw else _NULL
    if first == _LIST:
        lists.append(raw)
    elif first not in (_TEXT, _NULL):
        raise BadShape(_NO_CONTENT)


def _has_entries(content: msgspec.Raw) -> bool:
    """Whether it is a list with something in it."""
    text = bytes(content)
    return text.startswith(b"[") and bool(text[1:-1].strip())


def _text(value: str | UnsetType | None) -> str | None:
    return None if value is UNSET else value


def _count(number: int | UnsetType | None) -> int | None:
    """Below 0 is 0: the upstream refuses it, and money must not be counted down by it."""
    return None if number is None or number is UNSET else max(0, number)
