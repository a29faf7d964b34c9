"""Whatever the body, reading it is linear and bounded, and what refuses it is short.

Work is counted as calls (`sys.setprofile` sees those of Python and of C), never as time: what one call of C does with
the bytes it is given is linear, and so few calls cannot give it the same bytes often.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tenantry.wire.inspect import BadBody, inspect_message
from tenantry.wire.members import WALKED_BYTES_MIN, RepeatedName, find_values
from tenantry.wire.prompt import ITEMS_MAX

PLAIN = b'"model":"a","max_tokens":1'
# No body makes more calls than this, however large it is (a call is some 50 ns), and none more than this for its size:
# what is looked at name by name is bounded in number, and of what is not, no entry has a call of its own unless it
# holds a list.
CALLS_MAX = 60_000
CALLS_OF_LOOKS_MAX = 15_000
CALLS_PER_KB_MAX = 80


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
    "short texts": content(b'{"type":"text","text":""}'),
    "short files": content(b'{"type":"text","file_id":0}'),
    "short images": content(b'{"type":"image","source":{}}'),
    "short results": content(b'{"type":"tool_result","content":[{"type":"text","text":""}]}'),
    "short documents": content(
        b'{"type":"document","source":{"type":"content","content":[{"type":"text","text":""}]}}'
    ),
    "deep breakpoints": content(b'{"type":"tool_result","content":[{"type":"text","cache_control":{"ttl":"1h" }}]}'),
    "bad UTF-8": content(b'{"type":"text","text":"\xff"}'),
    "empty blocks": content(b"{}"),
    "numbers": content(b"0"),
    "messages": lambda size: b'"messages":[%b]' % spread(b'{"role":"user","content":[{"type":""}]}', size),
    "short messages": lambda size: (
        b'"messages":[%b]' % spread(b'{"role":"user","content":[{"type":"text","text":""}]}', size)
    ),
    "short tools": lambda size: b'"tools":[%b]' % spread(b'{"name":"","input_schema":{}}', size),
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
    for size in (20_000, 200_000, 460_000, 1_500_000):
        calls, told = calls_of(b"{" + PLAIN + b"," + SHAPES[name](size) + b"}")
        assert calls <= min(CALLS_MAX, CALLS_OF_LOOKS_MAX + CALLS_PER_KB_MAX * size // 1000), size
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
@pytest.mark.parametrize("size", [500_000, 1_500_000])
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


def test_entries_that_are_shorter_than_any_as_published_are_bounded_by_their_size() -> None:
    shortest = b'{"type":"text","text":""}'
    inspect_message(b"{" + PLAIN + b"," + content(shortest)(200_000) + b"}")
    with pytest.raises(BadBody, match="at most 8534 messages and blocks"):
        inspect_message(b"{" + PLAIN + b"," + content(b'{"type":"text"}')(200_000) + b"}")
    inspect_message(b"{" + PLAIN + b"," + content(b'{"type":""}')(2_000) + b"}")


def test_the_most_entries_are_read() -> None:
    message = b'{"role":"user","content":"a"}'
    for number, is_read in ((ITEMS_MAX, True), (ITEMS_MAX + 1, False)):
        body = b'{%b,"messages":[%b]}' % (PLAIN, b",".join([message] * number))
        for size in (0, WALKED_BYTES_MIN):  # straight through, and by parts
            with contextlib.nullcontext() if is_read else pytest.raises(BadBody, match="at most 20000"):
                inspect_message(body[:-1] + b" " * size + b"}")


def test_bodies_that_are_read_in_threads_do_not_take_each_others_room() -> None:
    message = b'{"role":"user","content":"a"}'
    body = b'{%b,"messages":[%b]}' % (PLAIN, b",".join([message] * ITEMS_MAX))
    with ThreadPoolExecutor(4) as pool:
        for found in [pool.submit(inspect_message, body) for _ in range(40)]:
            assert found.result().max_tokens == 1
