"""What is read of a request, and what a request cannot hide."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.domain.asked import MessageFields, ServerTool
from tenantry.wire.inspect import BadBody, inspect_message
from tenantry.wire.members import REPEAT_BYTES_MIN, RepeatedName, find_values, read_members, written

FIXTURES = Path(__file__).parents[2] / "fixtures" / "requests"


def body(**more: Any) -> bytes:
    plain = {"model": "claude-sonnet-5-5", "max_tokens": 1024, "messages": [{"role": "user", "content": "hello"}]}
    return json.dumps(plain | more, separators=(",", ":")).encode()


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def test_a_plain_request() -> None:
    assert inspect_message(body()) == MessageFields("claude-sonnet-5-5", 1024, False, False)


def test_claude_code() -> None:
    raw = (FIXTURES / "claude_code_2.1.330_messages_auth_token.http").read_bytes().replace(b"\r\n", b"\n")
    fields = inspect_message(raw.partition(b"\n\n")[2].strip())
    assert (fields.max_tokens, fields.stream, fields.has_cache_control, fields.wants_1h) == (128_000, True, True, False)
    assert (fields.has_tools, fields.server_tools, fields.has_sources) == (True, (), False)


EPHEMERAL = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize(("cache", "is_1h"), [(EPHEMERAL, False), (HOUR, True), (EPHEMERAL | {"ttl": "5m"}, False)])
@pytest.mark.parametrize("place", ["top", "system", "tools", "caching", "message", "result", "added"])
def test_breakpoints_are_seen_wherever_they_stand(place: str, cache: dict[str, str], is_1h: bool) -> None:
    text = {"type": "text", "text": "x", "cache_control": cache}
    definition = {"type": "tool_definition", "definition": {"cache_control": cache}}
    more: dict[str, Any] = {
        "top": {"cache_control": cache},
        "system": {"system": [{"type": "text", "text": "a"}, text]},
        "tools": {"tools": [{"name": "a", "input_schema": {}}, {"name": "b", "cache_control": cache}]},
        "caching": {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "m", "caching": cache}]},
        "message": user({"type": "text", "text": "a"}, text),
        "result": user({"type": "tool_result", "tool_use_id": "t", "content": [text]}),
        "added": user({"type": "tool_addition", "tool": definition}),
    }[place]  # fmt: skip
    for encoded in (body(**more), body(**more).replace(b'"ttl"', b'"t\\u0074l"').replace(b"cache_c", b"cache\\u005fc")):
        fields = inspect_message(encoded)
        assert (fields.has_cache_control, fields.wants_1h) == (True, is_1h)


def test_words_in_prompts_are_only_words() -> None:
    words = '"cache_control":{"ttl":"1h"} "source" "file_id" "model" "max_tokens"'
    tool = {"type": "tool_use", "id": "t", "name": "n", "input": {"cache_control": HOUR, "source": {"type": "url"}}}
    fields = inspect_message(
        body(messages=[{"role": "user", "content": words}, {"role": "assistant", "content": [tool]}])
    )
    assert fields == MessageFields("claude-sonnet-5-5", 1024, False, False)


def test_words_of_the_request() -> None:
    fields = inspect_message(body(speed="fast", inference_geo="us", service_tier="standard_only"))
    assert (fields.speed, fields.inference_geo, fields.service_tier) == ("fast", "us", "standard_only")
    assert inspect_message(body(speed=None)).speed is None


def test_server_tools() -> None:
    tools = [
        {"name": "Bash", "input_schema": {"type": "object", "properties": {"type": {"type": "web_search"}}}},
        {"type": "custom", "name": "c"},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "web_search_20260318", "name": "web_search", "max_uses": 3},
        {"type": "web_fetch_20260318", "name": "web_fetch", "max_uses": -7},
        {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5", "max_tokens": 500},
        {"type": "tomorrow_1", "name": "t"},
    ]
    fields = inspect_message(body(tools=tools, mcp_servers=[{"type": "url", "url": "https://x.example"}]))
    assert fields.server_tools == (
        ServerTool("web_search_20260318", 3),
        ServerTool("web_fetch_20260318", 0),
        ServerTool("advisor_20260301", None, "claude-opus-5-5", 500),
        ServerTool("tomorrow_1"),
        ServerTool("mcp_servers"),
    )
    assert fields.other_models == ("claude-opus-5-5",)
    for nothing in ({"tools": []}, {"tools": None}, {"mcp_servers": []}, {"mcp_servers": None}, {"thread": None}):
        assert inspect_message(body(**nothing)) == MessageFields("claude-sonnet-5-5", 1024, False, False)


def test_a_tool_that_a_message_adds_is_a_tool() -> None:
    added = {
        "type": "tool_addition",
        "tool": {"type": "tool_definition", "definition": {"type": "web_search_20260318"}},
    }
    assert inspect_message(body(**user(added))).server_tools == (ServerTool("web_search_20260318"),)
    reference = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "x"}}
    assert inspect_message(body(**user(reference))).server_tools == ()


def test_fallbacks() -> None:
    fields = inspect_message(body(fallbacks=[{"model": "a", "speed": "fast"}, {"model": "b", "max_tokens": 9000}]))
    assert (fields.fallbacks, fields.fallback_speeds, fields.fallback_max_tokens) == (("a", "b"), ("fast",), 9000)
    assert fields.output_tokens_max == 9000
    assert inspect_message(body(fallbacks="default")).fallbacks_default
    assert inspect_message(body(thread={"type": "new"})).has_thread


REMOTE = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}


@pytest.mark.parametrize(
    ("block", "images", "has_sources", "is_remote"),
    [
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}, 1, False, False),
        ({"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}, 1, False, True),
        ({"type": "image", "source": {"type": "file", "file_id": "file_1"}}, 1, False, True),
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}, 0, False, False),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A"}},
            0,
            True,
            False,
        ),
        ({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}, 0, True, True),
        ({"type": "document", "source": {"type": "content", "content": "plain"}}, 0, False, False),
        ({"type": "document", "source": {"type": "content", "content": [REMOTE]}}, 1, False, True),
        ({"type": "container_upload", "file_id": "file_1"}, 0, True, True),
        ({"type": "search_result", "source": "https://x.example", "content": []}, 0, False, False),
        ({"type": "web_fetch_tool_result", "content": {"type": "web_fetch_result"}}, 0, True, False),
    ],
)
@pytest.mark.parametrize("is_nested", [False, True])
def test_sources(block: dict[str, Any], images: int, has_sources: bool, is_remote: bool, is_nested: bool) -> None:
    outer = {"type": "tool_result", "tool_use_id": "t", "content": [block]} if is_nested else block
    fields = inspect_message(body(**user(outer)))
    assert (fields.images, fields.has_sources) == (images, has_sources)
    assert fields.image_bytes == (6 if images and not is_remote else 0)


def test_the_end_in_a_tool_result() -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}, {"type": "text", "text": "r"}]}
    said = {"role": "user", "content": "now this"}
    system = {"role": "system", "content": "reminder"}
    for messages, ends in (([said, result], True), ([result, said], False), ([result, system], True), ([], False)):
        assert inspect_message(body(messages=messages)).ends_in_tool_result is ends


@pytest.mark.parametrize("messages", [5, "x", [5], [{"content": 5}], [{"content": [5]}], {"a": 1}, [{"content": [[]]}]])
def test_content_of_unknown_shape_is_taken_for_the_worst(messages: object) -> None:
    fields = inspect_message(body(messages=messages))
    assert (fields.has_cache_control, fields.wants_1h, fields.has_sources) == (True, True, True)
    hidden = inspect_message(body(messages=[5, {"content": [{"type": "tool_addition"}]}]))
    assert hidden.server_tools == (ServerTool("unreadable"),)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b'{"model":"\xff","max_tokens":1}', "not valid JSON"),
        (b'{"model":"a","max_tokens":1,"tools":[{"type":"\xff"}]}', "tools: "),
        (b'{"model":"a"}', "max_tokens: Field required"),
        (b'{"max_tokens":1}', "model: Field required"),
        (b'{"model":"","max_tokens":1}', "model: String"),
        (b'{"model":"a\\n","max_tokens":1}', "model: String"),
        (b'{"model":null,"max_tokens":1}', "model: Expected"),
        (b'{"model":"a","max_tokens":-1}', "max_tokens: Input"),
        (b'{"model":"a","max_tokens":"1"}', "max_tokens: Expected"),
        (b'{"model":"a","max_tokens":1' + b"0" * 5000 + b"}", "max_tokens: "),
        (b'{"model":"a","max_tokens":1,"stream":"yes"}', "stream: Expected"),
        (b'{"model":"a","max_tokens":1,"speed":5}', "speed: Expected"),
        (b'{"model":"a","max_tokens":1,"tools":[{"max_uses":"x"}]}', "tools[0].max_uses: Expected"),
        (b'{"model":"a","max_tokens":1,"tools":5}', "tools: Expected"),
        (b'{"model":"a","max_tokens":1,"fallbacks":[{}]}', "fallbacks[0]: "),
        (b'{"model":"a","max_tokens":1,"cache_control":"1h"}', "cache_control: Expected"),
        (b'{"model":"a","max_tokens":1,"tools":' + b"[" * 100_000, "nested too deeply"),
        (b'{"model":"a","max_tokens":1,"messages":' + b'[{"content":' * 5000 + b"1" + b"}]" * 5000 + b"}", ""),
    ],
)
def test_bad_bodies(raw: bytes, message: str) -> None:
    with pytest.raises(BadBody) as caught:
        inspect_message(raw)
    assert message in str(caught.value)


def test_a_count_needs_no_max_tokens() -> None:
    assert inspect_message(b'{"model":"a","messages":[]}', count_only=True).max_tokens is None


@pytest.mark.parametrize("name", ["model", "max_tokens", "stream", "speed", "tools", "fallbacks", "system", "messages"])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n\t", " : ")])
@pytest.mark.parametrize("is_escaped", [False, True])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_repeated_name_is_refused(name: str, separators: tuple[str, str], is_escaped: bool, is_first: bool) -> None:
    values = {
        "model": "x", "max_tokens": 1, "stream": True, "speed": "fast",
        "tools": [], "fallbacks": [], "system": "s", "messages": [],
    }  # fmt: skip
    text = json.dumps(values, separators=separators)
    inspect_message(text.encode())
    spelled = "".join(f"\\u{ord(letter):04X}" for letter in name) if is_escaped else name
    member = f'"{spelled}"{separators[1]}{json.dumps(values[name])}'
    repeated = "{" + member + separators[0] + text[1:] if is_first else text[:-1] + separators[0] + member + "}"
    with pytest.raises(BadBody, match=name):
        inspect_message(repeated.encode())


@pytest.mark.parametrize(
    "more",
    [
        b'"tools":[{"type":"web_search_20260318","max_uses":1,"max_uses":99}]',
        b'"tools":[{"type":"web_search_20260318","type":"custom"},{"type":"web_fetch_20260318"}]',
        b'"fallbacks":[{"model":"a","model":"b"}]',
        b'"tools":[{"type":"web_search_20260318","type":"custom"}]',
        b'"tools":[{"type":"web_search_20260318","type":null}]',
        b'"tools":[{"name":"a","cache_control":{"type":"ephemeral","ttl":"1h","ttl":"5m"}}]',
        b'"tools":[{"name":"a","cache_control":{"ttl":"1h"},"cache_control":null}]',
        b'"cache_control":{"ttl":"1h","t\\u0074l":"5m"}',
        b'"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"ttl":"1h","ttl":"5m"}}]}]',
        b'"messages":[{"role":"user","content":[{"type":"tool_addition","tool":{"definition":{"type":"web_search_1","type":"custom"}}}]}]',
        b'"messages":[{"role":"user","content":[{"type":"tool_addition","tool":{"definition":{"type":"web_search_1"},"definition":{}}}]}]',
    ],
)
def test_a_repeated_name_where_money_depends_on_it_is_refused(more: bytes) -> None:
    with pytest.raises(BadBody, match="more than once"):
        inspect_message(b'{"model":"a","max_tokens":1,' + more + b"}")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    document=st.dictionaries(st.text(max_size=8), JSON, max_size=8),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t: ")]),
    ensure_ascii=st.booleans(),
    around=st.sampled_from(["", " ", "\n\t"]),
)
def test_values_are_found_where_they_stand(
    document: dict[str, Any], separators: tuple[str, str], ensure_ascii: bool, around: str
) -> None:
    text = json.dumps(document, separators=separators, ensure_ascii=ensure_ascii)
    raw = (around + text + around).encode("utf-8", "surrogatepass")
    try:
        read_members(raw)
    except Exception:  # noqa: BLE001 -- a lone surrogate: what the decoder refuses is not read further
        return
    found = find_values(raw, None)
    assert {name: json.loads(raw[start:end]) for name, (start, end) in found.items()} == document


@given(
    names=st.lists(st.sampled_from(["model", "max_tokens", "tools", "a", "b"]), max_size=6), spaces=st.integers(0, 3)
)
def test_repeats_are_found_and_nothing_else(names: list[str], spaces: int) -> None:
    gap = b" " * spaces
    raw = b"{" + b",".join(b'%b"%b"%b:%b%d' % (gap, name.encode(), gap, gap, i) for i, name in enumerate(names)) + b"}"
    members = read_members(raw)
    is_repeated = len(set(names)) != len(names)
    if {name for name in names if names.count(name) > 1} - {"a", "b"}:
        assert len(raw) - len(written(members)) >= REPEAT_BYTES_MIN
    if is_repeated:
        with pytest.raises(RepeatedName):
            find_values(raw, None)
    else:
        assert len(find_values(raw, None)) == len(names)


@pytest.mark.parametrize("first", [b"12", b"1e3", b"1.0", b"10", b"2"])
def test_a_repeat_is_found_when_one_value_begins_with_the_other(first: bytes) -> None:
    with pytest.raises(BadBody, match="max_tokens: Field appears more than once"):
        inspect_message(b'{"model":"a", "max_tokens" :' + first + b', "max_tokens":1}')


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for each in (raw, b"{" + raw + b"}", b'{"model":"a","max_tokens":1,' + raw + b"}"):
        with contextlib.suppress(BadBody):
            inspect_message(each)


def test_compaction_is_read_wherever_it_is_asked_for() -> None:
    edit = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 60_000}}
    assert inspect_message(body(context_management={"edits": [edit]})).compact_at_tokens == 60_000
    assert (
        inspect_message(body(context_management={"edits": [{"type": "compact_20260112"}]})).compact_at_tokens == 150_000
    )
    assert inspect_message(body(context_management={"edits": [{"type": "clear_thinking_1"}]})).compact_at_tokens is None
    assert inspect_message(body(context_management={"edits": 5})).compact_at_tokens == 0
    assert inspect_message(body(compaction={"type": "summarize"})).is_compaction
    assert not inspect_message(body(compaction=None)).is_compaction


def test_tools_of_a_compaction_block_are_tools() -> None:
    change = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"type": "web_search_1"}}}
    fields = inspect_message(body(**user({"type": "compaction", "content": "c", "tool_changes": [change]})))
    assert fields.server_tools == (ServerTool("web_search_1"),)


@pytest.mark.parametrize(
    "more",
    [
        b'"tools":[{"type":"custom","\xff":1}]',
        b'"cache_control":{"\xff":1}',
        b'"messages":[{"role":"user","content":[{"type":"text","cache_control":{"ttl":"1h"},"\xff":1}]}]',
        b'"fallbacks":[{"model":"a","\xff":1}]',
    ],
)
def test_a_name_that_is_not_utf8_is_refused_where_names_are_looked_at(more: bytes) -> None:
    with pytest.raises(BadBody):
        inspect_message(b'{"model":"a","max_tokens":1,' + more + b"}")


def test_text_that_is_not_utf8_hides_nothing() -> None:
    """The upstream decides on it; what stands beside it is seen."""
    image = b'{"type":"image","source":{"type":"base64","data":"AAAA"},"cache_control":{"type":"ephemeral"}}'
    text = b'{"type":"text","text":"\xff"}'
    fields = inspect_message(
        b'{"model":"a","max_tokens":1,"messages":[{"role":"user","content":[%b,%b]}]}' % (text, image)
    )
    assert (fields.images, fields.has_cache_control, fields.has_sources) == (1, True, False)
