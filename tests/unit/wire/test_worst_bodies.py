"""Whatever the body, reading it is linear and bounded, and what refuses it is short.

Work is counted as calls (`sys.setprofile` sees those of Python and of C), never as time: what one call of C does with
the bytes it is given is linear, and so few calls cannot give it the same bytes often.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tenantry.wire.inspect import BadBody, inspect_message
from tenantry.wire.members import RepeatedName, find_values

PLAIN = b'"model":"a","max_tokens":1'
# Of messages, blocks and looks together: no body makes more calls than this, however large it is.
CALLS_MAX = 400_000


def spread(piece: bytes, size: int) -> bytes:
    return b",".join([piece] * (size // (len(piece) + 1)))


def content(piece: bytes) -> Callable[[int], bytes]:
    return lambda size: b'"messages":[{"role":"user","content":[%b]}]' % spread(piece, size)


def deep(opening: bytes, closing: bytes, levels: int) -> Callable[[int], bytes]:
    return lambda size: (
        b'"messages":[{"role":"user","content":%b%b"x"%b}]'
        % (
            b" " * size,
            opening * levels,
            closing * levels,
        )
    )


SHAPES: dict[str, Callable[[int], bytes]] = {
    "spaces": lambda size: b'"a":1' + b" " * size,
    "server tools": lambda size: b'"tools":[%b]' % spread(b'{"type":"x"}', size),
    "empty tools": lambda size: b'"tools":[%b]' % spread(b"{}", size),
    "custom tools": lambda size: b'"tools":[%b]' % spread(b'{"type":"custom" }', size),
    "tool breakpoints": lambda size: b'"tools":[%b]' % spread(b'{"cache_control":{ }}', size),
    "additions": content(b'{"type":"t","tool":{"definition":{"type":"x"}}}'),
    "blocks": content(b'{"type":""}'),
    "breakpoints": content(b'{"type":"","cache_control":{ }}'),
    "nested blocks": content(b'{"type":"","content":[{"type":""}]}'),
    "empty blocks": content(b"{}"),
    "numbers": content(b"0"),
    "messages": lambda size: b'"messages":[%b]' % spread(b'{"role":"user","content":[{"type":""}]}', size),
    "texts": lambda size: b'"messages":[%b]' % spread(b'{"role":"","content":""}', size),
    "tiny members": lambda size: b",".join(b'"%x":1' % number for number in range(size // 8)),
    "repeated names": lambda size: spread(b'"a":1', size),
    "escaped names": lambda size: spread(b'"\\u0061":1', size),
    "tiny members of a tool": lambda size: (
        b'"tools":[{"type":"x",%b}]' % b",".join(b'"%x":1' % number for number in range(size // 8))
    ),
    "backslashes": lambda size: b'"a":"%b","b":1' % (b"\\\\" * (size // 2)),
    "quotes": lambda size: b'"a":"%b","b":1' % (b'\\"' * (size // 2)),
    "a long name": lambda size: b'"%b\\u0061":1' % (b"a" * size),
    "lists": lambda size: b'"a":[%b]' % spread(b"[]", size),
    "brackets": lambda size: b'"a":"%b"' % (b"{" * size),
    "deep blocks": deep(b'[{"type":"t","content":', b"}]", 300),
    "deep sources": deep(b'[{"type":"d","source":{"type":"content","content":', b"}}]", 150),
    "fallbacks": lambda size: b'"fallbacks":[%b]' % spread(b'{"model":"a"}', size),
    "edits": lambda size: b'"context_management":{"edits":[%b]}' % spread(b"{}", size),
    "servers": lambda size: b'"mcp_servers":[%b]' % spread(b"{}", size),
    "a long model": lambda size: b'"model":"%b"' % (b"x" * size),
    "a long speed": lambda size: b'"speed":["%b"]' % (b"x" * size),
}


def calls_of(body: bytes) -> tuple[int, str]:
    calls, told = [0], ""

    def count(_frame: object, event: str, _of: object) -> None:
        if event in ("call", "c_call"):
            calls[0] += 1

    sys.setprofile(count)
    try:
        inspect_message(body)
    except BadBody as error:
        told = str(error)
    finally:
        sys.setprofile(None)
    return calls[0], told


@pytest.mark.parametrize("name", SHAPES)
def test_the_worst_bodies_are_read_in_bounded_work(name: str) -> None:
    for size in (200_000, 1_500_000, 3_000_000):
        calls, told = calls_of(b"{" + PLAIN + b"," + SHAPES[name](size) + b"}")
        assert calls <= CALLS_MAX, size
        assert len(told) <= 250
        if told:
            assert "x" * 200 not in told


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("empty tools", "tools: at most 10000"),
        ("server tools", "(at most 1000 typed|tools: at most 10000)"),
        ("additions", "(at most 1000 typed|at most 20000)"),
        ("blocks", "at most 20000 messages and blocks"),
        ("messages", "at most 20000 messages and blocks"),
        ("deep blocks", "nested 5 deep"),
        ("deep sources", "nested 5 deep"),
        ("tiny members", "256 fields"),
        ("repeated names", "a: Field appears more than once"),
        ("tiny members of a tool", "too many fields"),
        ("fallbacks", "fallbacks: at most 100"),
        ("servers", "mcp_servers: at most 100"),
    ],
)
@pytest.mark.parametrize("size", [450_000, 1_500_000])
def test_a_refusal_names_the_bound(name: str, told: str, size: int) -> None:
    with pytest.raises(BadBody, match=told):
        inspect_message(b"{" + PLAIN + b"," + SHAPES[name](size) + b"}")


def test_a_long_repeated_name_is_not_echoed() -> None:
    name = b'"%b":1' % (b"n" * 5_000)
    with pytest.raises(RepeatedName) as caught:
        find_values(b"{" + name + b"," + name + b"}", None)
    assert len(str(caught.value)) <= 100


def test_where_a_value_ends_is_asked_of_the_decoder() -> None:
    """A release of msgspec that tells it in other words shows here."""
    assert find_values(b'{"a" : [1,{"b":"\\""}] , "\\u0063":{"d":[]}}', None) == {"a": (7, 21), "c": (33, 41)}


def test_texts_full_of_braces_are_only_text() -> None:
    text = b"{}" * 700_000
    fields = inspect_message(
        b'{%b,"messages":[{"role":"user","content":[{"type":"text","text":"%b"}]}]}' % (PLAIN, text)
    )
    assert not fields.has_sources
