"""What the simulation answers to tools, to offered schemas, and to models that it does not know."""

import json
from typing import Any

import pytest

from tenantry.sandbox.answers import Answer, compose
from tenantry.sandbox.scenarios import parse_scenario
from tenantry.sandbox.shapes import sample
from tests.stack import Stack

ASK = {"role": "user", "content": "hi"}
TOOL = {
    "name": "book",
    "input_schema": {
        "type": "object",
        "properties": {"day": {"type": "string", "format": "date"}, "seats": {"type": "integer", "minimum": 2}},
        "required": ["day", "seats"],
    },
}


def answer(body: dict[str, Any], scenario: str = "") -> Answer:
    return compose(json.dumps(body).encode(), body, "claude-haiku-5-5", parse_scenario(scenario))


def test_a_forced_tool_is_called_with_what_its_schema_allows() -> None:
    asked = {"messages": [ASK], "tools": [{"name": "other"}, TOOL], "tool_choice": {"type": "tool", "name": "book"}}
    block = answer(asked).blocks[-1]
    assert (block["name"], block["input"]) == ("book", {"day": "2026-01-01", "seats": 2})


@pytest.mark.parametrize("scenario", ["", "tool-use"])
def test_a_tool_loop_ends_when_the_result_has_come(scenario: str) -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}]}
    asked = {"messages": [ASK, result], "tools": [TOOL], "tool_choice": {"type": "any"}}
    told = answer(asked, scenario)
    assert told.stop_reason == "end_turn"
    assert [block["type"] for block in told.blocks] == ["text"]


@pytest.mark.parametrize("role", ["system", "user"])  # Claude Code's, OpenClaw's
def test_a_tool_loop_ends_where_something_is_said_behind_the_result(role: str) -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}]}
    behind = {"role": role, "content": [{"type": "text", "text": "15000000 tokens left"}]}
    assert answer({"messages": [ASK, result, behind], "tools": [TOOL]}, "tool-use").stop_reason == "end_turn"


def test_a_tool_is_called_again_in_the_next_turn() -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}]}
    said = {"role": "assistant", "content": "It is done."}
    assert answer({"messages": [ASK, result, said, ASK], "tools": [TOOL]}, "tool-use").stop_reason == "tool_use"


def test_a_tool_that_is_loaded_later_is_not_called() -> None:
    tools = [{"name": "placeholder", "defer_loading": True, "input_schema": {"type": "object"}}, TOOL]
    assert answer({"messages": [ASK], "tools": tools}, "tool-use").blocks[-1]["name"] == "book"


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_an_offered_schema_is_followed(field: str) -> None:
    shape = {"type": "json_schema", "schema": TOOL["input_schema"]}
    offered = {"messages": [ASK], field: {"format": shape} if field == "output_config" else shape}
    (block,) = answer(offered).blocks
    assert json.loads(block["text"]) == {"day": "2026-01-01", "seats": 2}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 3}, 3),
        ({"type": ["null", "string"]}, None),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"anyOf": [{"type": "number", "maximum": -1}, {"type": "string"}]}, -1),
        ({"type": "string", "minLength": 9}, "sandboxxx"),
        ({"type": "string", "maxLength": 4}, "sand"),
        ({"$ref": "#/$defs/one", "$defs": {"one": {"type": "integer", "exclusiveMinimum": 4}}}, 5),
        ({"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}, {"a": 1, "b": 2}),
        ({"properties": {"a": {"const": 1}, "b": {"const": 2}}}, {"a": 1, "b": 2}),
        (True, "sandbox"),
    ],
)
def test_a_sample_is_of_its_schemas_shape(schema: Any, value: Any) -> None:
    assert sample(schema) == value


def test_a_schema_that_refers_to_itself_has_an_end() -> None:
    assert sample({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]})


def test_a_model_that_is_not_claude_s_is_not_found(stack: Stack) -> None:
    key = stack.tenant("asker")
    status, _, body = stack.message(key, model="gpt-9+tool-use")
    assert (status, json.loads(body)["error"]) == (404, {"type": "not_found_error", "message": "model: gpt-9"})
    assert stack.message(key, model="claude-of-tomorrow")[0] == 200
