"""The few fields of a request body that the gateway acts on. Everything else passes as the bytes that came.

`inspect_message` is a pure function of the body: it may run in another thread. It decodes a body once; what policies,
edits and counts need afterwards is in the fields (`MessageFields.members`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.wire.blocks import GAP, Reading
from tenantry.wire.bytework import IS_COMPILED, without_texts
from tenantry.wire.members import (
    ECHO_CHARS_MAX,
    MEMBERS_MAX,
    REPEAT_BYTES_MIN,
    WALKED_BYTES_MIN,
    BadBody,
    RepeatedName,
    TooManyMembers,
    find_values,
    members_of,
    read_members,
    refuse_repeats,
    written,
)
from tenantry.wire.plain import plain_request
from tenantry.wire.prompt import ASKED, BadShape, decode_bounded, read_messages, read_tools
from tenantry.wire.shapes import (
    MAX_TOKENS_MAX,
    MODEL_CHARS_MAX,
    Asked,
    ContextEdit,
    ContextManagement,
    Fallback,
    Members,
    RawMembers,
    Trigger,
)

__all__ = ["BadBody", "MessageFields", "inspect_message"]

# A larger one is mostly not plain, and would be read twice.
PLAIN_BYTES_MAX: Final = 64 * 1024
# Entries of `fallbacks`, servers, edits of the context: each is a few, and each is looked at by itself.
ENTRIES_MAX: Final = 100
# A list of so many bytes cannot have so many entries that counting them is work.
ENTRIES_BYTES_MAX: Final = 10_000
# A body that is written with spaces shows it by its first member.
SPACES_BYTES: Final = 64
# Texts of so many bytes or more are left out before a body is decoded, and smaller bodies are decoded as they are: to
# skip text takes msgspec 0.45 us a KB, to leave it out 0.14.
TEXT_BYTES_MIN: Final = 64
SHORTENED_BYTES_MIN: Final = 4_096
# What upstream takes where a compaction does not say at how many tokens (the SDK's beta_compact_20260112_edit_param).
COMPACT_AT_TOKENS: Final = 150_000


_STRING: Final = msgspec.json.Decoder(str)
_INT: Final = msgspec.json.Decoder(int)
_BOOL: Final = msgspec.json.Decoder(bool | None)
_WORD: Final = msgspec.json.Decoder(str | None)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw] | None)
_FALLBACK: Final = msgspec.json.Decoder(Fallback)
_CONTEXT: Final = msgspec.json.Decoder(ContextManagement | None)
_NOT_JSON: Final = "The request body is not valid JSON."


_NOT_AS_PUBLISHED: Final = (BadBody, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def inspect_message(body: bytes, *, count_only: bool = False) -> MessageFields:
    """Read the fields of a Messages request, or of a count_tokens request when `count_only`.

    Raises:
        BadBody: not a JSON object, a field is missing or has the wrong type, a name stands twice, or there is more of
            something than is read (members, messages and blocks, tools, depth).
    """
    if not count_only and len(body) <= PLAIN_BYTES_MAX:
        plain = plain_request(body)
        if plain is not None:
            model, max_tokens, stream = plain
            return MessageFields(model, max_tokens, stream, False, is_simple=True, members=body)
    if IS_COMPILED and len(body) >= SHORTENED_BYTES_MIN:
        fields = inspect_shortened(body, count_only)
        if fields is not None:
            return fields
    return inspect_whole(body, count_only)


def inspect_shortened(body: bytes, count_only: bool) -> MessageFields | None:
    """The same without reading long texts, or None: where the whole body is refused, or might be read differently."""
    short = without_texts(body, TEXT_BYTES_MIN)
    if short is None:
        return None
    try:
        fields = inspect_whole(short, count_only, has_gaps=True)
    except BadBody:
        return None  # the words are those for the whole body
    members = members_of(fields)
    for raw in (members.context_management, members.fallbacks, members.mcp_servers):
        if GAP in bytes(raw):
            return None  # how many bytes it has decides how it is read
    fields.members = body
    return fields


def inspect_whole(body: bytes, count_only: bool, has_gaps: bool = False) -> MessageFields:
    """`inspect_message` of a body as it is; with gaps where long texts were.

    Raises:
        BadBody: as `inspect_message`, and where a text that was left out might matter.
    """
    if count_only or len(body) >= WALKED_BYTES_MIN or body.find(b": ", 0, SPACES_BYTES) >= 0:
        return _read_by_parts(_read_members(body), count_only, has_gaps)
    try:
        members: Asked = decode_bounded(ASKED, body)
        # Written without spaces it has as many bytes as came: no name stands twice.
        is_as_published = len(written(members)) == len(body)
    except _NOT_AS_PUBLISHED:
        return _read_by_parts(_read_members(body), False, has_gaps)
    model, max_tokens = members.model, members.max_tokens
    if (
        not is_as_published
        or not 0 <= max_tokens <= MAX_TOKENS_MAX
        or not 0 < len(model) <= MODEL_CHARS_MAX
        or not model.isprintable()
    ):
        return _read_by_parts(_read_members(body), False, has_gaps)
    fields = MessageFields(model, max_tokens, members.stream is True, False, members=members)
    # Most prompts are plain texts and ask for nothing else.
    is_plain = not members.system and not members.tools and not members.cache_control
    if is_plain and members.messages is not None:
        for message in members.messages:
            if memoryview(message.content)[0] != _QUOTE:
                is_plain = False
                break
    if not is_plain:
        _read_content(fields, members, has_gaps)
    if (
        members.speed
        or members.inference_geo
        or members.service_tier
        or members.thread
        or members.mcp_servers
        or members.compaction
        or members.context_management
        or members.fallbacks
    ):
        _read_extras(fields, members)
    else:
        fields.is_simple = is_plain
    return fields


def _read_by_parts(members: RawMembers, count_only: bool, has_gaps: bool) -> MessageFields:
    """One member after the other, each with its own words for what is wrong with it."""
    stream = members.stream
    fields = MessageFields(
        _model(members),
        _max_tokens(members, count_only),
        bool(stream) and _read(_BOOL, stream, "stream") is True,
        False,
        members=members,
    )
    if not count_only:
        _read_content(fields, members, has_gaps)
    _read_extras(fields, members)
    return fields


def _read_members(body: bytes) -> RawMembers:
    try:
        if len(body) < WALKED_BYTES_MIN:
            members = read_members(body)
            if len(body) - len(written(members)) >= REPEAT_BYTES_MIN:
                find_values(body, members)
        else:
            find_values(body, None)
            members = read_members(body)
    except msgspec.ValidationError as error:
        raise BadBody(f"The request body must be a JSON object: {error}") from None
    except RecursionError:
        raise BadBody("The request body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadBody(_NOT_JSON) from None
    except RepeatedName as repeated:
        raise BadBody(f"{repeated}: Field appears more than once") from None
    except TooManyMembers:
        raise BadBody(f"The request body may have {MEMBERS_MAX} fields at most.") from None
    return members


def _read_content(fields: MessageFields, members: RawMembers | Asked, has_gaps: bool) -> None:
    """The prompt: messages, system, tools."""
    reading = Reading(fields, has_gaps)
    try:
        messages = members.messages
        if isinstance(messages, msgspec.Raw):
            messages = read_messages(messages) if messages else None
        reading.note_prompt(messages or [], members.system)
    except BadShape:
        _assume_the_worst(fields)
    if members.cache_control:
        try:
            reading.note_cache(members.cache_control)
        except BadShape as error:
            raise BadBody(_named("cache_control", str(error))) from None
    if members.tools:
        try:
            tools = read_tools(members.tools)
            if tools:
                reading.note_tools(tools, members.tools)
        except BadShape as error:
            raise BadBody(_named("tools", str(error))) from None
    reading.end()


def _assume_the_worst(fields: MessageFields) -> None:
    """The upstream decides on content of an unknown shape; here it may cost what the dearest could."""
    fields.has_sources = True
    fields.has_cache_control = fields.wants_1h = True
    fields.server_tools = (*fields.server_tools, ServerTool("unreadable"))


def _model(members: Members) -> str:
    if not members.model:
        raise BadBody("model: Field required")
    return _checked_model(_read(_STRING, members.model, "model"), "model")


def _checked_model(model: str, name: str) -> str:
    if not model or len(model) > MODEL_CHARS_MAX or not model.isprintable():
        raise BadBody(f"{name}: String should be the id of a model")
    return model


def _max_tokens(members: Members, count_only: bool) -> int | None:
    if not members.max_tokens:
        if not count_only:
            raise BadBody("max_tokens: Field required")
        return None
    max_tokens = _read(_INT, members.max_tokens, "max_tokens")
    if max_tokens < 0:
        raise BadBody("max_tokens: Input should be greater than or equal to 0")
    if max_tokens > MAX_TOKENS_MAX:
        raise BadBody(f"max_tokens: Input should be less than or equal to {MAX_TOKENS_MAX}")
    return max_tokens


def _read(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw, name: str) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise BadBody(_named(name, str(error))) from None
    except RecursionError:
        raise BadBody("The request body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadBody(_NOT_JSON) from None  # text that is not UTF-8 shows only here


def _named(name: str, problem: str) -> str:
    """`Expected `int`, got `str` - at `$[0].max_uses`` -> `tools[0].max_uses: Expected `int`, got `str``."""
    what, _, where = problem.partition(" - at `$")
    return f"{name}{where[:ECHO_CHARS_MAX].strip('`')}: {what[:ECHO_CHARS_MAX]}"


def _read_extras(fields: MessageFields, members: Members) -> None:
    """What asks for more than the plain generation of text."""
    if members.speed:
        fields.speed = _read(_WORD, members.speed, "speed")
    if members.inference_geo:
        fields.inference_geo = _read(_WORD, members.inference_geo, "inference_geo")
    if members.service_tier:
        fields.service_tier = _read(_WORD, members.service_tier, "service_tier")
    if members.thread:
        fields.has_thread = _is_set(members.thread)
    if members.mcp_servers:
        _read_servers(fields, members.mcp_servers)
    if members.compaction:
        fields.is_compaction = _is_set(members.compaction)
    if members.context_management:
        _read_context_management(fields, members.context_management)
    if members.fallbacks:
        _read_fallbacks(fields, members.fallbacks)


def _is_set(raw: msgspec.Raw) -> bool:
    """Whether the member is there, with something in it."""
    return bool(raw) and (len(raw) > len(b"null") or bytes(raw) not in (b"null", b"[]"))


def _entries(raw: msgspec.Raw, name: str) -> list[msgspec.Raw]:
    """The entries of a short list. A long one with few commas is long texts."""
    if len(raw) > ENTRIES_BYTES_MAX and bytes(raw).count(b",") > ENTRIES_BYTES_MAX:
        raise BadBody(f"{name}: at most {ENTRIES_MAX} are allowed")
    found: list[msgspec.Raw] = _read(_LIST, raw, name) or []
    if len(found) > ENTRIES_MAX:
        raise BadBody(f"{name}: at most {ENTRIES_MAX} are allowed")
    return found


def _read_servers(fields: MessageFields, raw: msgspec.Raw) -> None:
    """Each server brings its tools into the prompt, and they run upstream."""
    fields.mcp_servers = len(_entries(raw, "mcp_servers"))
    if fields.mcp_servers:
        fields.server_tools = (*fields.server_tools, ServerTool("mcp_servers"))
        fields.has_tools = True


def _read_context_management(fields: MessageFields, raw: msgspec.Raw) -> None:
    """At how many tokens the conversation is to be summarized; an unknown shape may ask for it at any."""
    try:
        found: ContextManagement | None = _CONTEXT.decode(raw) if len(raw) <= ENTRIES_BYTES_MAX else _UNKNOWN
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _UNKNOWN
    for edit in (found.edits if found is not None else None) or ():
        if edit.type is None or not edit.type.startswith("clear_"):
            value = edit.trigger.value if edit.trigger is not None else None
            at = COMPACT_AT_TOKENS if value is None else max(0, value)
            known = fields.compact_at_tokens
            fields.compact_at_tokens = at if known is None else min(known, at)


_UNKNOWN: Final = ContextManagement([ContextEdit(None, Trigger(0))])


def _read_fallbacks(fields: MessageFields, raw: msgspec.Raw) -> None:
    if memoryview(raw)[0] == _QUOTE:
        fields.fallbacks_default = True
        return
    entries: list[Fallback] = []
    for index, entry in enumerate(_entries(raw, "fallbacks")):
        where = f"fallbacks[{index}]"
        try:
            refuse_repeats(entry)
        except (RepeatedName, TooManyMembers):
            raise BadBody(f"{where}: A field appears more than once, or there are too many") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadBody(_NOT_JSON) from None
        found: Fallback = _read(_FALLBACK, entry, where)
        _checked_model(found.model, f"{where}.model")
        entries.append(found)
    if entries:
        fields.fallbacks = tuple(entry.model for entry in entries)
        fields.fallback_speeds = tuple(entry.speed for entry in entries if entry.speed is not None)
        fields.fallback_max_tokens = min(MAX_TOKENS_MAX, max(entry.max_tokens or 0 for entry in entries))


_QUOTE: Final = b'"'[0]
