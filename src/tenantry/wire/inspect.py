"""The few fields of a request body that the gateway acts on. Everything else passes as the bytes that came."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.wire import blocks
from tenantry.wire.members import Members, RepeatedName, find_values, may_repeat, read_members

__all__ = ["BadBody", "MessageFields", "inspect_message"]

# RFC 8259 has no limit; no published model id is longer than 40 characters.
MODEL_CHARS_MAX = 256
# No model writes this much; a larger number would only swell what is computed from it.
MAX_TOKENS_MAX = 1_000_000_000


class BadBody(Exception):
    """The body is not a Messages request; the message names the field, in the API's own style."""


class _Fallback(msgspec.Struct):
    model: str
    speed: str | None = None
    max_tokens: int | None = None


_STRING = msgspec.json.Decoder(str)
_INT = msgspec.json.Decoder(int)
_BOOL = msgspec.json.Decoder(bool | None)
_WORD = msgspec.json.Decoder(str | None)
_FALLBACKS = msgspec.json.Decoder(list[_Fallback] | str | None)
# What asks for more than the plain generation of text.
_EXTRAS = frozenset({"cache_control", "fallbacks", "inference_geo", "mcp_servers", "service_tier", "speed", "thread"})
_ABSENT = (b"null", b"[]")


def inspect_message(body: bytes, *, count_only: bool = False) -> MessageFields:
    """Read the fields of a Messages request, or of a count_tokens request when `count_only`.

    Raises:
        BadBody: not a JSON object, a field is missing or has the wrong type, or a name stands twice.
    """
    try:
        members = read_members(body)
        if may_repeat(body, members):
            find_values(body, members)
    except msgspec.ValidationError as error:
        raise BadBody(f"The request body must be a JSON object: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadBody("The request body is not valid JSON.") from None
    except RepeatedName as error:
        raise BadBody(f"{error}: Field appears more than once") from None
    stream = members.get("stream")
    fields = MessageFields(
        _model(members),
        _max_tokens(members, count_only),
        stream is not None and _read(_BOOL, stream, "stream") is True,
        False,
    )
    if not count_only:
        _read_content(fields, members, body)
    if not _EXTRAS.isdisjoint(members):
        _read_extras(fields, members)
    return fields


def _read_content(fields: MessageFields, members: Members, body: bytes) -> None:
    """The prompt: messages, system, tools."""
    try:
        messages = members.get("messages")
        if messages is not None:
            blocks.read_messages(fields, messages)
        system = members.get("system")
        if system is not None:
            blocks.read_system(fields, system)
    except blocks.BadShape:
        _assume_the_worst(fields, body)
    tools = members.get("tools")
    if tools is not None:
        try:
            blocks.read_tools(fields, tools)
        except blocks.BadShape as error:
            raise BadBody(_named("tools", str(error))) from None
        if fields.server_tools:
            _refuse_repeats(tools, "tools")


def _assume_the_worst(fields: MessageFields, body: bytes) -> None:
    """The upstream decides on content of an unknown shape; here it may cost what the dearest could."""
    fields.has_sources = fields.has_remote_sources = True
    fields.has_cache_control = fields.wants_1h = True
    if b"tool_addition" in body:
        fields.server_tools = (*fields.server_tools, ServerTool("unreadable"))


def _model(members: Members) -> str:
    raw = members.get("model")
    if raw is None:
        raise BadBody("model: Field required")
    model = _read(_STRING, raw, "model")
    if not model or len(model) > MODEL_CHARS_MAX or not model.isprintable():
        raise BadBody("model: String should be the id of a model")
    return model


def _max_tokens(members: Members, count_only: bool) -> int | None:
    raw = members.get("max_tokens")
    if raw is None:
        if not count_only:
            raise BadBody("max_tokens: Field required")
        return None
    max_tokens = _read(_INT, raw, "max_tokens")
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
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadBody("The request body is not valid JSON.") from None  # text that is not UTF-8 shows only here


def _named(name: str, problem: str) -> str:
    """`Expected `int`, got `str` - at `$[0].max_uses`` -> `tools[0].max_uses: Expected `int`, got `str``."""
    what, _, where = problem.partition(" - at `$")
    return f"{name}{where.strip('`')}: {what}"


def _read_extras(fields: MessageFields, members: Members) -> None:
    for name in ("speed", "inference_geo", "service_tier"):
        raw = members.get(name)
        if raw is not None:
            setattr(fields, name, _read(_WORD, raw, name))
    fields.has_thread = _has(members, "thread")
    if _has(members, "mcp_servers"):
        fields.server_tools = (*fields.server_tools, ServerTool("mcp_servers"))
        fields.has_tools = True
    if "cache_control" in members:
        try:
            blocks.read_cache(fields, members["cache_control"])
        except blocks.BadShape as error:
            raise BadBody(_named("cache_control", str(error))) from None
    if "fallbacks" in members:
        _read_fallbacks(fields, members["fallbacks"])


def _has(members: Members, name: str) -> bool:
    """Whether the member is there, with something in it."""
    return name in members and bytes(members[name]) not in _ABSENT


def _read_fallbacks(fields: MessageFields, raw: msgspec.Raw) -> None:
    entries: list[_Fallback] | str | None = _read(_FALLBACKS, raw, "fallbacks")
    if isinstance(entries, str):
        fields.fallbacks_default = True
    elif entries:
        _refuse_repeats(raw, "fallbacks")
        fields.fallbacks = tuple(entry.model for entry in entries)
        fields.fallback_speeds = tuple(entry.speed for entry in entries if entry.speed is not None)
        fields.fallback_max_tokens = max(entry.max_tokens or 0 for entry in entries)


def _refuse_repeats(raw: msgspec.Raw, where: str) -> None:
    """Refuse a name that stands twice in one object, at any depth, where a policy or a price depends on it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            raise RepeatedName
        return names

    try:
        json.loads(bytes(raw), object_pairs_hook=unique)
    except RepeatedName:
        raise BadBody(f"{where}: A field appears more than once") from None
    except (ValueError, RecursionError):
        raise BadBody("The request body is not valid JSON.") from None
