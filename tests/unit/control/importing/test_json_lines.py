"""Places in JSON agree with what the parser finds."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tenantry.control.importing.json_lines import find_places

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def paths(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    own = {path} if path else set()
    if isinstance(value, dict):
        return own.union(*(paths(inner, (*path, name)) for name, inner in value.items()))
    if isinstance(value, list):
        return own.union(*(paths(inner, (*path, str(number))) for number, inner in enumerate(value)))
    return own


@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_every_value_has_a_place(document: dict[str, Any]) -> None:
    places = find_places(json.dumps(document, indent=1))
    assert set(places.lines) == paths(document)
    assert places.repeated == []


@given(st.text(st.sampled_from('{}[]",:a1 \n'), max_size=60))
def test_whatever_is_no_json_is_survived(text: str) -> None:
    find_places(text)


def test_lines_and_repeated_names_are_found() -> None:
    places = find_places('{\n "a": {\n  "b": 1,\n  "b": 2\n },\n "c": [1,\n 2]\n}')
    assert places.lines["a", "b"] == 4
    assert places.lines["c", "1"] == 7
    assert places.repeated == [(4, "b")]


def test_a_deep_text_is_left_early() -> None:
    assert find_places("[" * 1_000_000).too_deep
