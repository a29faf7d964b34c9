"""What stands in the content of a request: cache breakpoints, images, documents, tools that run upstream.

Decoded by shape and not searched for: a search for six bytes in 200 KB takes twice as long as a decode that skips them
(measured: 90 us against 45), and escapes hide a word from a search. What does not have the published shape is told as
`BadShape`, for the caller to assume the worst.

What makes an object of Python's is bounded in number (`wire/prompt.py`), what is looked at by name too (`LOOKS_MAX`),
and depth, each named by the 400 that refuses it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.wire.members import ABSENT, BadBody, RepeatedName, TooManyMembers, refuse_repeats
from tenantry.wire.prompt import BadShape, Block, ListedTool, Message, Source, Tool

# Blocks within blocks. Published shapes need four: a tool's result, its search result or document, its text.
DEPTH_MAX = 5
# Objects whose names are looked at one by one (some 3 us each): typed tools, tools that messages add, breakpoints.
LOOKS_MAX = 1_000
# No published model id or tool type is longer than 40 characters.
NAME_CHARS_MAX = 256
# `{"type":"ephemeral","ttl":"5m"}` has 31 bytes; room for what may come.
CACHE_BYTES_MAX = 1_024

# Typed tools that the client runs itself; any other type runs upstream, those of tomorrow included.
_CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "memory_")
# How nearly every breakpoint is written, and whether it is one of an hour: nothing else has to be read of these.
_KNOWN_CACHES = {
    b'{"type":"ephemeral"}': False,
    b'{"type":"ephemeral","ttl":"5m"}': False,
    b'{"type":"ephemeral","ttl":"1h"}': True,
}
_KNOWN_BYTES_MAX = 32
_TOO_MANY_LOOKS = f"at most {LOOKS_MAX} typed tools and cache breakpoints are allowed"


class _ToolChange(msgspec.Struct, gc=False):
    """A tool by reference, or defined within the conversation."""

    definition: msgspec.Raw = ABSENT


class _Cache(msgspec.Struct, gc=False):
    ttl: Any = None


class _Parts(msgspec.Struct, gc=False):
    """Where blocks stand within a message, a block, a source; as they came."""

    content: msgspec.Raw = ABSENT
    source: msgspec.Raw = ABSENT
    tool_changes: msgspec.Raw = ABSENT


_TOOL = msgspec.json.Decoder(Tool | None)
_TOOL_CHANGE = msgspec.json.Decoder(_ToolChange | None)
_CACHE = msgspec.json.Decoder(_Cache | None)
_PARTS = msgspec.json.Decoder(_Parts)
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])


class Reading:
    """One reading of a body: the fields that it fills, and how much of its bounds is left."""

    __slots__ = ("_looks_left", "_marks", "_tools", "fields")

    def __init__(self, fields: MessageFields) -> None:
        self.fields = fields
        self._looks_left = LOOKS_MAX
        self._tools: list[ServerTool] = []
        # Blocks with a breakpoint or a tool, each with where it stands: from within, an index and the name of its list.
        self._marks: list[tuple[Block, list[int | str]]] = []

    def end(self) -> None:
        """Everything has been read: the tools found are in the fields."""
        if self._tools:
            self.fields.server_tools = (*self.fields.server_tools, *self._tools)

    def note_messages(self, messages: list[Message], raw: msgspec.Raw) -> None:
        """Note what the messages hold; `raw` is what they were decoded from.

        Raises:
            BadShape: a breakpoint, or a tool that is added, is not as published.
            BadBody: blocks are nested too deeply, there are too many breakpoints, a name that matters is repeated.
        """
        marks = self._marks
        last: list[Block] | str | None = None
        for index, message in enumerate(messages):
            content = message.content
            if type(content) is list:
                before = len(marks)
                self._note_blocks(content, 1)
                if len(marks) > before:
                    _place(marks, before, "content", index)
            if message.role == "user":
                last = content
        if last is not None and type(last) is list:
            for block in last:
                if block.type == "tool_result":
                    self.fields.ends_in_tool_result = True
                    break
        if marks:
            self._note_marked(raw)

    def note_system(self, system: list[Block] | str | None, raw: msgspec.Raw) -> None:
        """Note what the system prompt holds. Raises: BadShape, BadBody."""
        if type(system) is list:
            self._note_blocks(system, 1)
            if self._marks:
                self._note_marked(raw)

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
        if len(raw) > CACHE_BYTES_MAX:
            raise BadBody(f"{where}: at most {CACHE_BYTES_MAX} bytes are allowed")
        self._look(raw, where)
        cache: _Cache | None = _decode(_CACHE, raw)
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

    def _note_blocks(self, blocks: list[Block], depth: int) -> None:
        """Every block costs this loop once, so it asks for what most have not before it calls anything."""
        fields, marks = self.fields, self._marks
        for index, block in enumerate(blocks):
            if block.cache_control is not ABSENT or block.tool is not ABSENT:
                marks.append((block, [index]))
                if len(marks) > LOOKS_MAX:
                    raise BadBody(f"messages: {_TOO_MANY_LOOKS}")
            content = block.content
            if content is not None and type(content) is list and content:
                self._note_within(content, depth, index, "content")
            elif block.type == "web_fetch_tool_result":
                fields.has_sources = True  # what was fetched earlier may be a PDF
            source = block.source
            if source is not None:
                if type(source) is Source:  # text says where a search result is from
                    self._note_source(block, source, depth, index)
            elif block.file_id is not ABSENT:
                fields.has_remote_sources = True
                if block.type == "image":
                    fields.images += 1
                else:
                    fields.has_sources = True
            changes = block.tool_changes
            if changes is not None and type(changes) is list and changes:
                self._note_within(changes, depth, index, "tool_changes")

    def _note_within(self, blocks: list[Block], depth: int, index: int, name: str) -> None:
        """Blocks that stand within another one, which is at `index` of its list."""
        if depth == DEPTH_MAX:
            raise BadBody(f"messages: blocks may be nested {DEPTH_MAX} deep at most")
        before = len(self._marks)
        self._note_blocks(blocks, depth + 1)
        if len(self._marks) > before:
            _place(self._marks, before, name, index)

    def _note_source(self, block: Block, source: Source, depth: int, index: int) -> None:
        """An image has a largest size; the text of a document is bounded only where it stands in the body as text."""
        fields, kind = self.fields, source.type
        if kind in ("url", "file"):
            fields.has_remote_sources = True
        if block.type == "image":
            fields.images += 1
            if kind == "base64":
                fields.image_bytes += len(source.data)
        elif kind == "content":
            content = source.content
            if type(content) is list:
                if content:
                    self._note_within(content, depth, index, "source")
            elif content is not None and type(content) is not str:
                raise BadShape("content is neither text nor a list of blocks")
        elif kind != "text":
            fields.has_sources = True

    def _note_marked(self, raw: msgspec.Raw) -> None:
        """The blocks within `raw` that have a breakpoint or add a tool: no name of theirs may stand twice."""
        marks, self._marks = self._marks, []
        lists: dict[tuple[int | str, ...], list[msgspec.Raw]] = {}
        for block, place in marks:
            self._look(_find(raw, tuple(reversed(place)), lists), "messages")
            if block.cache_control:
                self.note_cache(block.cache_control)
            if block.tool:
                self._look(block.tool, "tool_addition")
                change: _ToolChange | None = _decode(_TOOL_CHANGE, block.tool)
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


def _place(marks: list[tuple[Block, list[int | str]]], since: int, name: str, index: int) -> None:
    """The marks found `since` stand in the list called `name` of the entry at `index`."""
    for _, place in marks[since:]:
        place += (name, index)


def _find(
    root: msgspec.Raw, place: tuple[int | str, ...], lists: dict[tuple[int | str, ...], list[msgspec.Raw]]
) -> msgspec.Raw:
    """The entry at `place`, from without, of the list `root`. `lists` are those that have been taken apart already."""
    around, index = place[:-1], place[-1]
    entries = lists.get(around)
    if entries is None:
        raw = root
        if around:
            parts: _Parts = _decode(_PARTS, _find(root, around[:-1], lists))
            if around[-1] == "source":
                parts = _decode(_PARTS, parts.source)
            raw = parts.tool_changes if around[-1] == "tool_changes" else parts.content
        entries = lists[around] = _decode(_RAWS, raw)
    return entries[int(index)]


def _text(value: str | UnsetType | None) -> str | None:
    return None if value is UNSET else value


def _count(number: int | UnsetType | None) -> int | None:
    """Below 0 is 0: the upstream refuses it, and money must not be counted down by it."""
    return None if number is None or number is UNSET else max(0, number)
