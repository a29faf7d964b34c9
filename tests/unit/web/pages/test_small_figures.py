"""How little money, one of something and no limit are told."""

from __future__ import annotations

import json
import re

import pytest
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.web.pages.marks import about, left_now
from tests.browser import signed_in


@pytest.mark.parametrize(
    ("nanos", "told"),
    [
        (0, "$0.00"),
        (33_000, "$0.000033"),
        (-31_900, "-$0.000032"),
        (9, "$0.000000009"),
        (23_213_456, "$0.0232"),
        (1_234_567_890, "$1.23"),
    ],
)
def test_an_estimate_of_little_is_not_nothing(nanos: int, told: str) -> None:
    assert f">{told}<" in about(nanos)


@pytest.mark.parametrize(
    ("left", "told"),
    [((10, None, None), ">10</data> requests"), ((None, None, None), "no limit by the minute")],
)
def test_what_has_no_limit_is_not_told_as_left(left: tuple[int | None, int | None, int | None], told: str) -> None:
    assert left_now(*left).endswith(told)


def test_no_style_is_written_into_a_page_that_is_swapped(app: Starlette, site: Site) -> None:
    page = signed_in(app, site).get("/margins").text
    [told] = re.findall(r"name=\"htmx-config\" content='([^']+)'", page)
    assert "style" not in json.loads(told)["attributesToSettle"]
