"""Whatever a client is called, its guide is valid Markdown and harmless HTML."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.control.guide.facts import EXAMPLE_MODEL, Budget, Facts, example_model, known_models
from tenantry.control.guide.page import fair_use_markdown, guide_markdown, guide_page
from tenantry.domain.limits import Limits

FACTS = Facts(
    slug="acme",
    name="Acme GmbH",
    tier="premium",
    endpoint="https://gateway.example/t/acme",
    contact="ops@agency.example",
    limits=Limits(sessions_max=15),
    budgets=(),
    budget_is_hard=True,
    time_zone="Europe/Berlin",
    models=("claude-haiku-5-5", "claude-sonnet-5-5"),
    model="claude-haiku-5-5",
    offers_batches=False,
    written="2026-11-24",
)


class Outline(HTMLParser):
    """Elements that are open at the end, and every tag and text that was met."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def outline(facts: Facts) -> Outline:
    found = Outline()
    found.feed(guide_page(facts, guide_markdown(facts)))
    return found


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip))
def test_a_name_means_only_itself(name: str) -> None:
    plain = outline(FACTS)
    found = outline(dataclasses.replace(FACTS, name=name, contact=name))
    assert found.tags == plain.tags


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a | b", "# Head", "![x](http://evil.example/x)", "`a`", "a\n\n# b"]
)
def test_markup_in_a_name_is_text(name: str) -> None:
    found = outline(dataclasses.replace(FACTS, name=name))
    assert re.sub(r"\s+", " ", name).strip() in "".join(found.texts)
    assert "script" not in found.tags
    assert "img" not in found.tags


def test_budgets_are_told_hard_or_soft_or_not_at_all() -> None:
    def told(**changes: object) -> str:
        return guide_markdown(dataclasses.replace(FACTS, **changes))

    month = Budget("month", 50_000_000_000)
    assert "$50.00 a month" in told(budgets=(month,))
    assert "The budget is hard" in told(budgets=(month,))
    assert "You are never charged more than the budget" in told(budgets=(month,))
    assert "The budget is soft" in told(budgets=(month,), budget_is_hard=False)
    assert "No budget is set" in told()


def test_fair_use_stands_alone_and_inside_the_guide() -> None:
    assert fair_use_markdown(FACTS).startswith("# Fair use\n")
    assert "\n## What is welcome\n" in fair_use_markdown(FACTS)
    guide = guide_markdown(FACTS)
    assert "\n## Fair use\n" in guide
    assert "\n### What is welcome\n" in guide


def test_the_documented_example_is_what_a_standard_client_is_told() -> None:
    facts = dataclasses.replace(FACTS, tier="standard", limits=Limits(), written="")
    documented = (Path(__file__).parents[4] / "docs" / "fair-use.md").read_text("utf-8")
    example = documented.partition("<!-- begin example -->\n\n")[2].partition("\n<!-- end example -->")[0]
    assert example == fair_use_markdown(facts, "####")


def test_every_line_of_the_markdown_is_whole() -> None:
    for facts in (FACTS, dataclasses.replace(FACTS, limits=Limits(models=("claude-haiku-*",), queue_depth_max=0))):
        text = guide_markdown(facts)
        assert "\n\n\n" not in re.sub(r"(?s)```.*?```", "code", text)
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert "{{" not in text
        for line in text.splitlines():
            assert line == line.rstrip()


def test_the_example_model_is_one_that_the_client_may_use() -> None:
    names = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
    free = Limits()
    assert example_model(free, known_models(free, names), None) == "claude-haiku-5-5"
    assert example_model(free, known_models(free, names), "claude-opus-5-5") == "claude-opus-5-5"
    opus = Limits(models=("claude-opus-*",))
    assert known_models(opus, names) == ("claude-opus-5-5",)
    assert example_model(opus, known_models(opus, names), "claude-haiku-5-5") == "claude-opus-5-5"
    own = Limits(models=("house-model",))
    assert example_model(own, known_models(own, names), None) == "house-model"
    assert example_model(Limits(models=("house-*",)), (), None) == EXAMPLE_MODEL


def test_slots_stand_with_their_endpoints_and_where_there_are_none_nothing_is_said_of_them() -> None:
    assert "Slots" not in guide_markdown(FACTS)
    told = guide_markdown(dataclasses.replace(FACTS, slots=(("writer", "https://gateway.example/t/acme.writer"),)))
    assert "### Slots" in told
    assert "| `writer` | `https://gateway.example/t/acme.writer` |" in told
    assert "\n\n\n" not in re.sub(r"(?s)```.*?```", "code", told)
    assert "<td><code>https://gateway.example/t/acme.writer</code></td>" in guide_page(FACTS, told)
