"""The top-level members of a JSON object: their undecoded values, where each stands, and whether a name is repeated.

JSON parsers disagree on which of two equal names counts (RFC 8259, section 4), so a repeated name could show the
gateway one value and the upstream another. It is refused.
"""

from __future__ import annotations

import json

import msgspec

Members = dict[str, msgspec.Raw]

_DECODER = msgspec.json.Decoder(Members)
_WHITESPACE = b" \t\r\n"
# The shortest member that repeats a name which the gateway reads, `,"model":0`: a body that has fewer bytes than this
# to spare repeats none of them.
_REPEAT_BYTES_MIN = len(b',"model":0')


class RepeatedName(Exception):
    """A name stands twice in one object; the message is the name."""


def read_members(body: bytes) -> Members:
    """The members of a JSON object; the last of a repeated name. msgspec's errors pass through."""
    return _DECODER.decode(body)


def may_repeat(body: bytes, members: Members) -> bool:
    """Whether the body has room for a repeated name: bytes that its members do not explain, whitespace included.

    Never False when a name of five characters or more is repeated: every member was counted once, at no more than
    the bytes it takes.
    """
    explained = 1 + 4 * len(members)
    for name, raw in members.items():
        explained += len(name) + len(raw)
    return len(body) - explained >= _REPEAT_BYTES_MIN


def find_values(body: bytes, members: Members) -> dict[str, tuple[int, int]]:
    """Where the value of each member starts and ends in the body that `members` were read from.

    Raises:
        RepeatedName: a name stands twice.
    """
    found: dict[str, tuple[int, int]] = {}
    at = _skip(body, body.index(b"{") + 1)
    while body[at : at + 1] == b'"':
        end = _string_end(body, at)
        name = json.loads(body[at:end])
        start = _skip(body, _skip(body, end) + 1)  # over the colon
        value = bytes(members[name])
        end = _skip(body, start + len(value))
        # What was decoded is the last value of its name: unless it stands here, and ends here, there is another.
        if name in found or not body.startswith(value, start) or body[end : end + 1] not in (b",", b"}"):
            raise RepeatedName(name)
        found[name] = (start, start + len(value))
        at = _skip(body, end + 1)
    return found


def _skip(body: bytes, at: int) -> int:
    while body[at : at + 1] and body[at] in _WHITESPACE:
        at += 1
    return at


def _string_end(body: bytes, at: int) -> int:
    """The end of the string that opens at `at`."""
    end = body.index(b'"', at + 1)
    while _backslashes_before(body, end) % 2:
        end = body.index(b'"', end + 1)
    return end + 1


def _backslashes_before(body: bytes, at: int) -> int:
    count = 0
    while body[at - 1 - count] == 0x5C:
        count += 1
    return count
