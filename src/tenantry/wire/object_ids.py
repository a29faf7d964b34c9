"""Ids in a body that name something upstream: files, containers, messages, skills, profiles (reference 1.4).

Whoever holds a credential can use everything in its workspace. Where tenants share one, an id in a request may be
another tenant's, and the upstream would not mind. Until the gateway knows whose an id is, such a request is refused.

A body is searched for names first, as bytes: nearly all have none but those of `_HARMLESS`. Only what holds another is
taken apart, and of that only what may hold it. Bytes that are no text could hide one from this search, and be passed
over by an upstream that reads less strictly: JSON is UTF-8 (RFC 8259 8.1), and such a body is refused whole.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

import msgspec

from tenantry.wire.members import RepeatedName, TooManyMembers, refuse_repeats
from tenantry.wire.shapes import Members

# Names that end in `_id` and name nothing upstream: what the conversation itself has made (reference 1.1, 4.3), and who
# the end user is, which upstream only keeps.
_HARMLESS: Final = frozenset({b"tool_use_id", b"tool_id", b"tab_id", b"download_id", b"user_id"})
# Names without that end (reference 1.4). At the top of a body only, like the next.
_CREDIT: Final = "fallback_credit_token"
_CONTAINER: Final = "container"
_THREAD: Final = "thread"
# What stands under these is the client's own: a call's arguments, a schema of such arguments or of an answer. Upstream
# resolves nothing in it.
_FREE: Final = frozenset({"input", "input_schema", "input_examples", "schema"})
# Published shapes nest a dozen deep: a tool's result in it a document, its source, its content, its text.
_DEPTH_MAX: Final = 40
# A list whose entries are shorter than this in the mean, and larger than so much, is not one of objects: each entry is
# made an object of Python's to look at it.
_ENTRY_BYTES_MIN: Final = 16
_LIST_BYTES_MAX: Final = 1_000_000
# What is told of a body that is not UTF-8, before the byte.
NO_TEXT: Final = "not UTF-8 at byte "
# No published name is longer than 40 characters.
_NAME_BYTES_MAX: Final = 64
# A text takes four bytes a character in memory where it has one emoji: so much of a body is one at a time.
_DECODED_BYTES: Final = 64 * 1024

_END: Final = b'_id"'
# An escape that stands for a letter, a digit or `_`: it may hide a name. No encoder writes these.
_HIDING: Final = re.compile(rb"\\u00[3-7][0-9a-fA-F]")
_NOT_HIDING: Final = (b"\\u003c", b"\\u003e", b"\\u003C", b"\\u003E", b"\\u007f", b"\\u007F")  # `<`, `>` and DEL
_SPACES: Final = b" \t\r\n"

_ENTRIES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def find_object_id(body: bytes, members: Members | None = None) -> str | None:
    """Where a body that has been inspected names something upstream, such as `messages[0].content[1].source.file_id`.

    None: nowhere. `thread` is told before all others, whatever is in it: a thread's beginning is only good for going on
    with it. Of a body that is no text that is told: `NO_TEXT` and the byte, counted from 0. `members` are those of the
    body, where they are known. Pure; takes 1 to 2 ms a MB for a body without such names.
    """
    broken_at = _find_no_text(body)
    if broken_at is not None:
        return f"{NO_TEXT}{broken_at}"
    for name in (_THREAD, _CONTAINER, _CREDIT):
        raw: object = getattr(members, name) if members is not None else b""
        if isinstance(raw, msgspec.Raw) and raw and bytes(raw) != b"null":
            found = name if name != _CONTAINER or bytes(raw)[:1] != b"{" else _in_container(raw)
            if found is not None:
                return found
    if not _may_name(body):
        return None
    return _find(msgspec.Raw(body), "", 0)


def _find_no_text(body: bytes) -> int | None:
    """Where a body stops to be UTF-8 (RFC 3629), a character at its end that is not whole included."""
    if body.isascii():
        return None
    size, at = len(body), 0
    while at < size:
        end = at + _DECODED_BYTES
        try:
            at += codecs.utf_8_decode(body[at:end], "strict", end >= size)[1]
        except UnicodeDecodeError as error:
            return at + error.start
    return None


def _in_container(raw: msgspec.Raw) -> str | None:
    """What is used of a container: it, or skills of the workspace's."""
    try:
        refuse_repeats(raw)
        found = _MEMBERS.decode(raw)
    except (RepeatedName, TooManyMembers, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _CONTAINER
    for name in ("id", "skills"):
        if bytes(found.get(name, b"null")) not in (b"null", b"[]"):
            return f"{_CONTAINER}.{name}"
    return None


def _may_name(text: bytes) -> bool:
    """Whether a member in this text may have a name that is looked for. True for some that have none."""
    at = text.find(_END)
    while at >= 0:
        end = at + len(_END)
        start = text.rfind(b'"', max(0, at - _NAME_BYTES_MAX), at) + 1
        if text[start : end - 1] not in _HARMLESS and text[end : end + _NAME_BYTES_MAX].lstrip(_SPACES)[:1] in (
            b":",
            b"",
        ):
            return True
        at = text.find(_END, end)
    return any(one[0] not in _NOT_HIDING for one in _HIDING.finditer(text))


def _find(raw: msgspec.Raw, where: str, depth: int) -> str | None:
    """Where it is named in this value; where it cannot be told, there."""
    text = bytes(raw).lstrip(_SPACES)  # a body may begin with them
    first = text[:1]
    if first not in (b"{", b"["):
        return None
    if depth > _DEPTH_MAX:
        return where
    try:
        if first == b"[":
            if len(text) > _LIST_BYTES_MAX and text.count(b",") > len(text) // _ENTRY_BYTES_MIN:
                return where
            for index, entry in enumerate(_ENTRIES.decode(text)):
                found = _find(entry, f"{where}[{index}]", depth + 1) if _may_name(bytes(entry)) else None
                if found is not None:
                    return found
            return None
        refuse_repeats(raw)
        return _find_in_members(_MEMBERS.decode(text), where, depth)
    except (RepeatedName, TooManyMembers, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return where


def _find_in_members(members: dict[str, msgspec.Raw], where: str, depth: int) -> str | None:
    for name, value in members.items():
        place = f"{where}.{name[:_NAME_BYTES_MAX]}" if where else name[:_NAME_BYTES_MAX]
        if name.endswith("_id") and name.encode("utf-8", "replace") not in _HARMLESS:
            if bytes(value) != b"null":
                return place
        elif name not in _FREE and _may_name(bytes(value)):
            found = _find(value, place, depth + 1)
            if found is not None:
                return found
    return None
