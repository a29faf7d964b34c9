"""The shapes of JSON that msgspec decodes: requests, answers, usage.

They stand apart because this module is never compiled: msgspec fills no class that mypyc has made (decision 0008).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from tenantry.domain.usage import COUNT_MAX, TOOL_REQUESTS_MAX, WORD_CHARS_MAX

# RFC 8259 has no limit; no published model id is longer than 40 characters.
MODEL_CHARS_MAX = 256
# No model writes this much; a larger number would only swell what is computed from it.
MAX_TOKENS_MAX = 1_000_000_000
# So many messages are read however short they are (`prompt.SHORT_ENTRIES_MAX`).
PLAIN_MESSAGES_MAX = 200
# What a member has that is absent.
ABSENT = msgspec.Raw()


# Requests


class Members(msgspec.Struct, gc=False, omit_defaults=True):
    """The members of a Messages request that are known, without its messages. An absent one has no bytes.

    Those that the gateway does not read are named so that their bytes are explained (`written`).
    """

    model: msgspec.Raw = ABSENT
    max_tokens: msgspec.Raw = ABSENT
    stream: msgspec.Raw = ABSENT
    system: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT
    cache_control: msgspec.Raw = ABSENT
    fallbacks: msgspec.Raw = ABSENT
    inference_geo: msgspec.Raw = ABSENT
    mcp_servers: msgspec.Raw = ABSENT
    service_tier: msgspec.Raw = ABSENT
    speed: msgspec.Raw = ABSENT
    thread: msgspec.Raw = ABSENT
    compaction: msgspec.Raw = ABSENT
    context_management: msgspec.Raw = ABSENT
    metadata: msgspec.Raw = ABSENT
    tool_choice: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    output_config: msgspec.Raw = ABSENT
    container: msgspec.Raw = ABSENT
    diagnostics: msgspec.Raw = ABSENT
    stop_sequences: msgspec.Raw = ABSENT
    billing_policy: msgspec.Raw = ABSENT
    fallback_credit_token: msgspec.Raw = ABSENT
    temperature: msgspec.Raw = ABSENT
    top_p: msgspec.Raw = ABSENT
    top_k: msgspec.Raw = ABSENT
    output_format: msgspec.Raw = ABSENT
    safeguards: msgspec.Raw = ABSENT
    tags: msgspec.Raw = ABSENT


class RawMembers(Members, gc=False, omit_defaults=True):
    """With the messages undecoded."""

    messages: msgspec.Raw = ABSENT


# msgspec takes something from `room` for each entry that it makes, as the default of a member that no entry can have.
# An empty room ends the decode: a list is never larger in memory than its bound. Measured: 5 ns an entry; a bound that
# `Meta(max_length=...)` sets is looked at when the list has been made.
room: list[UnsetType] = []
_Never = Annotated[int, msgspec.Meta(ge=1, lt=1)] | UnsetType
TAKEN = "\x7f"


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
    taken: _Never = msgspec.field(default_factory=room.pop, name=TAKEN)


class Source(msgspec.Struct, gc=False):
    """Where an image or a document comes from."""

    type: str | None = None
    data: msgspec.Raw = ABSENT
    content: msgspec.Raw = ABSENT


class Block(msgspec.Struct, gc=False):
    """A block of content. Blocks may be in its `content`, in that of its source, in its `tool_changes`."""

    type: str
    content: msgspec.Raw = ABSENT
    source: Source | str | None = None
    cache_control: msgspec.Raw = ABSENT
    file_id: msgspec.Raw = ABSENT
    tool: msgspec.Raw = ABSENT
    tool_changes: msgspec.Raw = ABSENT
    taken: _Never = msgspec.field(default_factory=room.pop, name=TAKEN)


class Message(msgspec.Struct, gc=False):
    role: str
    content: msgspec.Raw
    taken: _Never = msgspec.field(default_factory=room.pop, name=TAKEN)


class Asked(Members, gc=False, omit_defaults=True):
    """A whole request in one decode, its messages taken apart, where its words are of the types that are published.

    `decode_bounded` only.
    """

    # The same members, read further. What is absent is no model and no bound.
    model: str = ""  # pyright: ignore[reportIncompatibleVariableOverride] -- as above
    max_tokens: int = -1  # pyright: ignore[reportIncompatibleVariableOverride] -- as above
    stream: bool | UnsetType | None = UNSET  # pyright: ignore[reportIncompatibleVariableOverride] -- as above
    messages: list[Message] | None = None


class PlainTurn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A message that is one text: whether it is one shows the first byte of its content."""

    role: str
    content: msgspec.Raw


class PlainRequest(msgspec.Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """A whole request of texts, a model, a bound, and what says how it is to be answered."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=MODEL_CHARS_MAX)]
    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS_MAX)]
    messages: Annotated[list[PlainTurn], msgspec.Meta(max_length=PLAIN_MESSAGES_MAX)]
    stream: bool | UnsetType | None = UNSET
    system: msgspec.Raw = ABSENT
    temperature: msgspec.Raw = ABSENT
    metadata: msgspec.Raw = ABSENT
    stop_sequences: msgspec.Raw = ABSENT
    top_p: msgspec.Raw = ABSENT
    top_k: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT


class Fallback(msgspec.Struct, gc=False):
    model: str
    speed: str | None = None
    max_tokens: int | None = None


class Trigger(msgspec.Struct, gc=False):
    value: int | None = None


class ContextEdit(msgspec.Struct, gc=False):
    type: str | None = None
    trigger: Trigger | None = None


class ContextManagement(msgspec.Struct, gc=False):
    edits: list[ContextEdit] | None = None


class ToolChange(msgspec.Struct, gc=False):
    """A tool by reference, or defined within the conversation."""

    definition: msgspec.Raw = ABSENT


class CacheControl(msgspec.Struct, gc=False):
    ttl: Any = None


class TextBlock(msgspec.Struct, gc=False):
    type: str
    text: str = ""
    cache_control: msgspec.Raw = msgspec.Raw()


class Metadata(msgspec.Struct, gc=False):
    user_id: str | None = None


class UserId(msgspec.Struct, gc=False):
    session_id: str | None = None


# Answers


class Event(msgspec.Struct):
    """The members of an event's data that matter here."""

    type: Any = None
    message: msgspec.Raw = msgspec.Raw()
    delta: Any = None
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None


class Answer(msgspec.Struct):
    """The members of a message that matter here; the content stays undecoded."""

    model: Any = None
    stop_reason: Any = None
    usage: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()


Word = Annotated[str, msgspec.Meta(min_length=1, max_length=WORD_CHARS_MAX)]


class PlainMessage(msgspec.Struct, gc=False):
    """A message whose words are words."""

    model: Word
    usage: msgspec.Raw
    stop_reason: Word | None = None


Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
Requests = Annotated[int, msgspec.Meta(ge=0, le=TOOL_REQUESTS_MAX)]


class CacheSplit(msgspec.Struct):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class ToolUse(msgspec.Struct):
    web_search_requests: Requests | None = None
    web_fetch_requests: Requests | None = None


class OutputDetails(msgspec.Struct):
    thinking_tokens: Count | None = None


class ToldUsage(msgspec.Struct):
    """The members of reference 4.4; the words are those of 5.1."""

    input_tokens: Count
    output_tokens: Count
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: CacheSplit | None = None
    server_tool_use: ToolUse | None = None
    output_tokens_details: OutputDetails | None = None
    speed: Literal["standard", "fast"] | None = None
    inference_geo: Literal["global", "us"] | None = None
    service_tier: Literal["standard", "priority", "batch"] | None = None
    iterations: None = None


class Counted(msgspec.Struct):
    """The answer to a count of tokens."""

    input_tokens: int
