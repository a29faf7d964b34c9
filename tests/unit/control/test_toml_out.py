"""Whatever `tomllib` can read, `write_toml` can say."""

import math
import tomllib
from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.control.toml_out import NotToml, write_toml

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    texts
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
documents = st.dictionaries(texts, values, max_size=5)


@given(documents)
def test_a_document_comes_back_equal(document: dict[str, object]) -> None:
    assert tomllib.loads(write_toml(document)) == document


@given(documents, texts)
def test_a_comment_changes_nothing_whatever_it_holds(document: dict[str, object], comment: str) -> None:
    comments = {(): comment} | {(name,): comment for name in document}
    assert tomllib.loads(write_toml(document, comments)) == document


def test_order_is_kept_and_values_stand_before_tables() -> None:
    document = {
        "tenants": {
            "zoo": {"limits": {"sessions_max": 3, "models": ["claude-haiku-*"]}, "name": "Zoo", "tier": "gold"},
            "acme": {"keys": {"main key": {"expires": date(2027, 1, 31), "limits": {}}}},
        },
        "version": 1,
    }
    assert write_toml(document, {(): "Tenants", ("tenants", "zoo"): "was TENANT_ZOO_KEY"}) == (
        "# Tenants\n\n"
        "version = 1\n\n"
        '# was TENANT_ZOO_KEY\n[tenants.zoo]\nname = "Zoo"\ntier = "gold"\n\n'
        '[tenants.zoo.limits]\nsessions_max = 3\nmodels = ["claude-haiku-*"]\n\n'
        '[tenants.acme.keys."main key"]\nexpires = 2027-01-31\n\n'
        '[tenants.acme.keys."main key".limits]\n'
    )


def test_an_empty_document_is_an_empty_text() -> None:
    assert write_toml({}) == ""


def test_numbers_at_the_edge_and_what_is_not_a_number() -> None:
    text = write_toml({"a": math.inf, "b": -math.inf, "c": math.nan, "d": 1e16, "e": -(1 << 63), "f": time(1, 2)})
    found = tomllib.loads(text)
    assert math.isnan(found.pop("c"))
    assert found == {"a": math.inf, "b": -math.inf, "d": 1e16, "e": -(1 << 63), "f": time(1, 2)}


def test_a_long_array_gets_a_line_for_each_element() -> None:
    models = [f"claude-model-number-{number}" for number in range(20)]
    text = write_toml({"tenants": {"a": {"models": models}}})
    assert max(len(line) for line in text.splitlines()) < 60
    assert tomllib.loads(text)["tenants"]["a"]["models"] == models


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"a": {"b": None}}, "a.b: TOML has no NoneType"),
        ({"a": [1, {"b": object()}]}, "a.b: TOML has no object"),
        ({"a": 1 << 63}, "does not fit into 64 bits"),
        ({"a": "\ud800"}, "surrogate"),
        ({1: "a"}, "a key must be a text"),
    ],
)
def test_what_toml_cannot_say_is_refused_with_its_place(document: dict[str, object], message: str) -> None:
    with pytest.raises(NotToml, match=message):
        write_toml(document)


def test_a_datetime_keeps_its_offset() -> None:
    at = datetime(2027, 1, 31, 12, tzinfo=UTC)
    assert tomllib.loads(write_toml({"at": at}))["at"] == at
