"""Which model the live check asks."""

import pytest

from tenantry.control.live_check import pick_model


@pytest.mark.parametrize(
    ("listed", "picked"),
    [
        (["gpt-x-haiku", "claude-opus-5-5", "claude-haiku-5-5"], "claude-haiku-5-5"),
        (["glm-5", "claude-opus-5-5"], "claude-opus-5-5"),
        (["glm-5", "other"], "glm-5"),
    ],
)
def test_it_is_the_cheapest_line_of_claude_s_where_there_is_one(listed: list[str], picked: str) -> None:
    assert pick_model(listed) == picked
