"""The top-level members of a JSON object: their undecoded values, where each stands, and whether a name is repeated.

JSON parsers disagree on which of two equal names counts (RFC 8259, section 4), so a repeated name could show the
gateway one value and the upstream another. It is refused.

Whatever the bytes, reading costs a few milliseconds a megabyte (measured with msgspec 0.22): what the gateway does not
read is skipped in C and makes no object, and what makes objects is bounded in number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from tenantry.domain.asked import MessageFields
from tenantry.wire.shapes import Members, RawMembers

# No error repeats more of what a client sent than this.
ECHO_CHARS_MAX: Final = 100
# The API documents 35 members of a Messages request and a dozen of a tool (reference 1.1).
MEMBERS_MAX: Final = 256
# An object that is looked at alone (a tool, a breakpoint) is mostly small: below this it is decoded, above it walked.
SMALL_BYTES_MAX: Final = 4096
# Above this a body is walked member by member before it is decoded, so that its members are counted first and no one
# call of C takes long: a megabyte of tiny members takes 4 ms to decode.
WALKED_BYTES_MIN: Final = 1_000_000


class BadBody(Exception):
    """The body is not a Messages request; the message names the field, in the API's own style."""


class RepeatedName(Exception):
    """A name stands twice in one object; the message is the name, or its beginning."""


class TooManyMembers(Exception):
    """An object has more members than any request needs."""


_DECODER: Final = msgspec.json.Decoder(RawMembers)
_WRITER: Final = msgspec.json.Encoder()
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_WORD: Final = msgspec.json.Decoder(str)
_NAMES: Final = RawMembers.__struct_fields__
# The shortest member that repeats a name which the gateway reads, `,"model":0`: a body that has fewer bytes than this
# to spare repeats none of them. Of the smaller objects it is `,"ttl":0`.
REPEAT_BYTES_MIN: Final = len(b',"model":0')
_INNER_REPEAT_BYTES_MIN: Final = len(b',"ttl":0')

_SPACES: Final = b" \t\r\n"
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
# A name without escapes and its colon; a value that is no list, no object and has no escape, with what follows it.
_NAME: Final = re.compile(rb'[ \t\r\n]*+"([^"\\]*+)"[ \t\r\n]*+:[ \t\r\n]*+')
_SIMPLE: Final = re.compile(rb'("[^"\\]*+"|[-+.0-9A-Za-z]++)[ \t\r\n]*+([,}])')
_TRAILING: Final = re.compile(r"trailing characters \(byte (\d+)\)")


# The members of a JSON object; the last of a repeated name. msgspec's errors pass through.
read_members: Callable[[bytes], RawMembers] = _DECODER.decode
# Written once more: without spaces, each once, in no more bytes than it took. Only a body that is longer than this, by
# `REPEAT_BYTES_MIN` or more, may repeat a name that the gateway reads.
written: Callable[[object], bytes] = msgspec.json.Encoder().encode


def members_of(fields: MessageFields) -> Members:
    """What was read of the body that these fields are of; nothing where they were made otherwise.

    Of a plain or a long one nothing has been read so far: its body is kept instead.
    """
    members = fields.members
    if isinstance(members, bytes):
        members = fields.members = read_members(members)
    return members if isinstance(members, Members) else Members()


def refuse_repeats(raw: msgspec.Raw) -> None:
    """Refuse a name that stands twice in this object, whatever its values; what is no object passes.

    Raises:
        RepeatedName: a name stands twice.
        TooManyMembers: it has more than `MEMBERS_MAX`.
    """
    body = bytes(raw)
    if not body.startswith(b"{"):
        return
    if len(body) <= SMALL_BYTES_MAX:
        found: dict[str, msgspec.Raw] = _OBJECT.decode(body)
        if len(found) > MEMBERS_MAX:
            raise TooManyMembers
        if len(body) - len(_WRITER.encode(found)) < _INNER_REPEAT_BYTES_MIN:
            return
    find_values(body, None)


def find_values(body: bytes, members: Members | None) -> dict[str, tuple[int, int]]:
    """Where the value of each member starts and ends; of what is no object, nothing.

    `members` were read from this body, and save a second reading.

    Raises:
        RepeatedName: a name stands twice.
        TooManyMembers: there are more than `MEMBERS_MAX`.
        msgspec.DecodeError: it is not valid JSON.
    """
    found: dict[str, tuple[int, int]] = {}
    at = _skip(body, 0)
    if body[at : at + 1] != b"{":
        return found
    at = _skip(body, at + 1)
    while body[at : at + 1] == b'"':
        if len(found) == MEMBERS_MAX:
            raise TooManyMembers
        named = _NAME.match(body, at)
        if named is not None:
            name, start = named[1].decode("utf-8", "surrogatepass"), named.end()
        else:
            end = _value_end(body, at)
            name = _WORD.decode(body[at:end])
            start = _skip(body, _skip(body, end) + 1)  # over the colon
        if name in found:
            raise RepeatedName(name[:ECHO_CHARS_MAX])
        end = _known_end(body, start, name, members) if members is not None else 0
        if end == 0:
            simple = _SIMPLE.match(body, start)
            end = simple.end(1) if simple is not None else _value_end(body, start)
        found[name] = (start, end)
        at = _skip(body, end)
        if body[at : at + 1] != b",":
            if body[at : at + 1] != b"}":
                raise msgspec.DecodeError  # whatever was skipped, it was not a value
            break
        at = _skip(body, at + 1)
    return found


def _known_end(body: bytes, start: int, name: str, members: Members) -> int:
    """Where a value ends that has been read; 0 where it has not.

    Raises:
        RepeatedName: what was decoded is the last value of its name, and does not stand here.
    """
    raw: object = getattr(members, name, None) if name in _NAMES else None
    if not isinstance(raw, msgspec.Raw) or not raw:
        return 0
    value = bytes(raw)
    end = start + len(value)
    after = _skip(body, end)
    if not body.startswith(value, start) or body[after : after + 1] not in (b",", b"}"):
        raise RepeatedName(name)
    return end


def _skip(body: bytes, at: int) -> int:
    spaces = _SPACE.match(body, at)
    return at if spaces is None else spaces.end()


def _value_end(body: bytes, at: int) -> int:
    """The end of the value that begins at `at`.

    msgspec decodes whole texts only, and says where a text went on after its first value: that is what is asked for
    here, for nothing else skips a value in C. A release that says it in other words fails a test, and refuses here.
    """
    try:
        _VALUE.decode(memoryview(body)[at:])
    except msgspec.DecodeError as error:
        told = _TRAILING.search(str(error))
        if told is None:
            raise
        end = at + int(told[1]) - 1  # what it names is the byte behind, counted from 1
        return at + len(body[at:end].rstrip(_SPACES))
    return len(body)
