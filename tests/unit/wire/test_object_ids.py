"""Ids of something upstream are found wherever a body may hold them, and nothing else is taken for one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tenantry.wire.inspect import inspect_message
from tenantry.wire.members import members_of
from tenantry.wire.object_ids import find_object_id

REQUESTS = Path(__file__).parents[2] / "fixtures" / "requests"
PLAIN: dict[str, Any] = {"model": "claude-haiku-5-5", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


def body_of(**members: Any) -> bytes:
    return json.dumps(PLAIN | members).encode()


def said(*blocks: dict[str, Any]) -> bytes:
    return body_of(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}, *blocks]}])


def found_in(body: bytes) -> str | None:
    return find_object_id(body, members_of(inspect_message(body)))


FILE = {"type": "file", "file_id": "file_globex"}
# Reference 1.4, and what an API of tomorrow may add to it.
NAMED: list[tuple[bytes, str]] = [
    (body_of(thread={"type": "continue", "previous_message_id": "msg_globex"}), "thread"),
    (body_of(thread={"type": "create"}), "thread"),
    (body_of(diagnostics={"previous_message_id": "msg_globex"}), "diagnostics.previous_message_id"),
    (body_of(container="container_globex"), "container"),
    (body_of(container={"id": "container_globex"}), "container.id"),
    (body_of(container={"skills": [{"type": "custom", "skill_id": "skill_globex"}]}), "container.skills"),
    (body_of(container=["container_globex"]), "container"),
    (body_of(fallback_credit_token="fct_globex"), "fallback_credit_token"),
    (said({"type": "document", "source": FILE}), "messages[0].content[1].source.file_id"),
    (said({"type": "image", "source": FILE}), "messages[0].content[1].source.file_id"),
    (said({"type": "container_upload", "file_id": "file_globex"}), "messages[0].content[1].file_id"),
    (
        said({"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "document", "source": FILE}]}),
        "messages[0].content[1].content[0].source.file_id",
    ),
    (body_of(system=[{"type": "document", "source": FILE}]), "system[0].source.file_id"),
    (body_of(tools=[{"type": "search_20270101", "name": "s", "corpus_id": "corpus_globex"}]), "tools[0].corpus_id"),
    (body_of(workspace_id="wrkspc_globex"), "workspace_id"),
    (body_of(metadata={"user_profile_id": "uprof_globex"}), "metadata.user_profile_id"),
    (body_of(something_new={"deep": [[{"vault_id": 7}]]}), "something_new.deep[0][0].vault_id"),
]


@pytest.mark.parametrize(("body", "where"), NAMED, ids=[where for _, where in NAMED])
def test_what_names_something_upstream_is_found_where_it_stands(body: bytes, where: str) -> None:
    assert found_in(body) == where


@pytest.mark.parametrize(
    "body",
    [
        body_of(),
        body_of(metadata={"user_id": "user_1"}),
        body_of(thread=None, container=None, diagnostics={"previous_message_id": None}, fallback_credit_token=None),
        body_of(container={"skills": [], "id": None}),
        said(
            {"type": "tool_use", "id": "toolu_1", "name": "order", "input": {"order_id": 7, "lines": [{"sku_id": 1}]}}
        ),
        said({"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}),
        said({"type": "text", "text": 'in this text {"file_id": "file_1"} is a word, as is "file_id'}),
        body_of(tools=[{"name": "order", "input_schema": {"properties": {"order_id": {"type": "string"}}}}]),
        body_of(output_config={"format": {"type": "json_schema", "schema": {"properties": {"client_id": {}}}}}),
        said({"type": "text", "text": "file_id"}, {"type": "text", "text": "order_id"}),
        body_of(stop_sequences=["_id", "file_id"]),
        said({"type": "text", "text": "\u003ca\u003e \\u0041"}),
    ],
)
def test_what_is_the_conversations_own_names_nothing(body: bytes) -> None:
    assert found_in(body) is None


def test_a_name_that_is_written_in_escapes_or_with_spaces_is_found() -> None:
    for name in (b'"file\\u005fid"', b'"\\u0066ile_id"', b'"file_\\u0069d"', b'"file_id"\r\n \t'):
        body = said({"type": "document", "source": FILE}).replace(b'"file_id"', name)
        assert found_in(body) == "messages[0].content[1].source.file_id", name
    spaced = said({"type": "document", "source": FILE}).replace(b'"file_id"', b'"file_id"' + b" " * 1000)
    assert found_in(spaced) == "messages[0].content[1].source.file_id"


@pytest.mark.parametrize("spaces", [b" ", b"\n", b"\t", b"\r\n", b" " * 5_000])
@pytest.mark.parametrize("text", ["", "x" * 5_000, "x" * 1_100_000])
def test_what_stands_before_a_body_hides_nothing(spaces: bytes, text: str) -> None:
    body = json.dumps({"system": text} | json.loads(said({"type": "document", "source": FILE}))).encode()
    assert found_in(spaces + body + spaces) == "messages[0].content[1].source.file_id"


# Alone, a second byte without a first, a first without its second, NUL and half of a pair as some encode them, beyond
# Unicode's end (RFC 3629 3 and 10).
NO_CHARACTERS = [b"\xff", b"\x80", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]


@pytest.mark.parametrize("broken", NO_CHARACTERS)
@pytest.mark.parametrize(
    "body",
    [
        body_of(container="container_globex"),
        body_of(fallback_credit_token="fct_globex"),
        said({"type": "document", "source": FILE}),
        body_of(something={"diagnostics_id": 1}, system="x" * 5_000),
        body_of(tools=[{"name": "order", "input_schema": {"properties": {"order_id": {}}}}]),
    ],
)
def test_a_name_with_bytes_that_are_no_text_is_not_passed_on(body: bytes, broken: bytes) -> None:
    """An upstream that drops them or puts something in their place would find the name."""
    for name in (b"container", b"fallback_credit_token", b"file_id", b"diagnostics_id", b"order_id"):
        hidden = body.replace(b'"' + name + b'":', b'"' + name[:4] + broken + name[4:] + b'":')
        if hidden != body:
            assert find_object_id(hidden) == f"not UTF-8 at byte {hidden.index(broken + name[4:])}"


@pytest.mark.parametrize("broken", NO_CHARACTERS)
def test_a_text_that_is_no_text_is_not_passed_on_either(broken: bytes) -> None:
    body = body_of().replace(b'"hi"', b'"' + "\u00e4\u20ac\U0001f600".encode() * 20_000 + broken + b'"')
    at = body.index(broken + b'"') if broken != b"\x80" else len(body) - 5
    assert find_object_id(body) == f"not UTF-8 at byte {at}"


@pytest.mark.parametrize("before", range(9))
def test_text_of_any_language_and_any_size_names_nothing(before: int) -> None:
    """Wherever the parts in which it is read begin and end."""
    text = "x" * before + "h\u00e9llo \u4e16\u754c \U0001f600 \u007f\uffff" * 20_000
    assert find_object_id(json.dumps(PLAIN | {"system": text}, ensure_ascii=False).encode()) is None


def test_a_body_that_ends_within_a_character_is_no_text() -> None:
    assert find_object_id(b'{"a":"\xe2\x82') == "not UTF-8 at byte 6"


def test_a_name_that_stands_twice_is_not_settled_by_the_second() -> None:
    body = said({"type": "document", "source": FILE}).replace(b'"file_globex"', b'"file_globex","file_id":null')
    assert found_in(body) == "messages[0].content[1].source"


def test_a_name_before_the_window_that_is_looked_at_is_found() -> None:
    assert found_in(body_of(**{"x" * 200 + "_id": 1})) == "x" * 64


def test_any_depth_and_any_size_ends_in_a_decision_in_time() -> None:
    deep = body_of().replace(b'"hi"', b'"hi","x":' + b'{"a":' * 200 + b'{"file_id":1}' + b"}" * 200)
    assert found_in(deep) is not None
    wide = body_of().replace(b'"hi"', b'"hi","x":[' + b"0," * 2_000_000 + b'{"file_id":1}]')
    started = time.process_time()
    assert find_object_id(wide) is not None
    assert time.process_time() - started < 20.0  # CPU seconds; in steps that grow with the size it would be hours


@pytest.mark.parametrize("path", sorted(REQUESTS.glob("*messages*.http")), ids=lambda path: path.stem)
def test_what_sdks_and_claude_code_send_names_nothing(path: Path) -> None:
    body = path.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")[2].strip()
    if body:
        assert found_in(body) is None


@pytest.mark.parametrize("name", ["tool_use_id", "tool_id", "tab_id", "download_id"])
def test_what_the_conversation_itself_has_made_may_be_repeated(name: str) -> None:
    assert found_in(said({"type": "tool_result", name: "x", "content": "done"})) is None
