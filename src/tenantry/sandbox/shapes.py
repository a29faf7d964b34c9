"""The smallest value that a JSON schema allows, for arguments of tools and for answers in an offered shape."""

from __future__ import annotations

from typing import Any, Final, cast

# Deeper is a schema that refers to itself, and what it would need there is left out.
_DEPTH_MAX: Final = 12
_FORMATS: Final = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "sandbox@example.com",
    "hostname": "sandbox.example",
    "uri": "https://sandbox.example/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_TEXT: Final = "sandbox"


def sample(schema: Any) -> Any:
    """A value of that shape. What a schema cannot say in a standard word (a `pattern`) is not looked at."""
    return _sample(schema, schema, 0)


def _sample(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict):
        return _TEXT
    shape = cast("dict[str, Any]", schema)
    if depth > _DEPTH_MAX:
        return None
    for name in ("const", "default"):
        if name in shape:
            return shape[name]
    if isinstance(shape.get("enum"), list) and shape["enum"]:
        return shape["enum"][0]
    if isinstance(shape.get("$ref"), str):
        return _sample(_referred(root, shape["$ref"]), root, depth + 1)
    for name in ("anyOf", "oneOf"):
        if isinstance(shape.get(name), list) and shape[name]:
            return _sample(shape[name][0], root, depth + 1)
    if isinstance(shape.get("allOf"), list):
        return _sample(_merged(shape, root), root, depth + 1)
    return _of_type(shape, root, depth)


def _referred(root: Any, reference: str) -> Any:
    found = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        found = _members(found).get(step.replace("~1", "/").replace("~0", "~"))
    return found


def _members(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _merged(shape: dict[str, Any], root: Any) -> dict[str, Any]:
    """Its parts as one: together they must all hold."""
    whole = {name: value for name, value in shape.items() if name != "allOf"}
    properties, required = _members(whole.get("properties")), list(whole.get("required", []))
    for part in map(_members, shape["allOf"]):
        known = _members(_referred(root, part["$ref"])) if "$ref" in part else part
        whole = {**known, **whole}
        properties = {**_members(known.get("properties")), **properties}
        required += known.get("required", [])
    return whole | ({"properties": properties} if properties else {}) | ({"required": required} if required else {})


def _of_type(shape: dict[str, Any], root: Any, depth: int) -> Any:
    kind = shape.get("type", "object" if "properties" in shape else "string")
    if isinstance(kind, list):
        kind = cast("list[Any]", kind)[0]
    if kind == "object":
        properties: dict[str, Any] = shape.get("properties", {})
        # Structured outputs ask for every property; of others those that must be there.
        wanted = shape.get("required", properties)
        return {name: _sample(properties.get(name, {}), root, depth + 1) for name in wanted}
    if kind == "array":
        return [_sample(shape.get("items", {}), root, depth + 1) for _ in range(int(shape.get("minItems", 0)))]
    if kind in ("integer", "number"):
        return _number(shape, kind == "integer")
    if kind == "boolean":
        return True
    return None if kind == "null" else _text(shape)


def _number(shape: dict[str, Any], whole: bool) -> int | float:
    low = shape.get("minimum", shape.get("exclusiveMinimum"))
    if low is None:
        high = shape.get("maximum", shape.get("exclusiveMaximum", 1))
        return min(1, high - 1 if "exclusiveMaximum" in shape else high)
    found = low + 1 if "exclusiveMinimum" in shape and "minimum" not in shape else low
    return -(-found // 1) if whole else found


def _text(shape: dict[str, Any]) -> str:
    text = _FORMATS.get(str(shape.get("format")), _TEXT)
    least, most = int(shape.get("minLength", 0)), int(shape.get("maxLength", len(text) + 1000))
    return (text + "x" * max(0, least - len(text)))[: max(most, 0)]
