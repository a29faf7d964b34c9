"""Every limit, option and setting is in the documentation."""

from pathlib import Path

import pytest

from tenantry.domain.limits import CAPACITY_LIMITS, KEY_LIMITS, LIMITS, Limits
from tenantry.setting_tables import UPSTREAM_SETTINGS
from tenantry.settings import SETTINGS
from tenantry.wire import blocks, inspect, members, prompt

DOCS = Path(__file__).parents[2] / "docs"
LIMITS_PAGE = (DOCS / "limits.md").read_text("utf-8")
SETTINGS_PAGE = (DOCS / "configuration.md").read_text("utf-8")


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_documented_with_its_option_and_default(name: str) -> None:
    default = getattr(Limits(), name)
    said = "every one" if default == () else "none" if default is None else str(default)
    assert f"| `{name}` | `--{LIMITS[name].option}` | {said} |" in LIMITS_PAGE


def test_the_limits_of_keys_are_documented() -> None:
    keys = LIMITS_PAGE.partition("A key may have its own")[2].partition("\n\n")[0]
    assert [name for name in KEY_LIMITS if f"`--{LIMITS[name].option}`" not in keys] == []


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_documented_with_its_variables(name: str) -> None:
    row = next(line for line in SETTINGS_PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    assert f"`TENANTRY_{name.upper()}`" in row
    classic = SETTINGS[name].classic
    assert classic is None or f"`{classic}`" in row


@pytest.mark.parametrize("name", [*UPSTREAM_SETTINGS, *CAPACITY_LIMITS])
def test_a_field_of_an_upstream_is_documented(name: str) -> None:
    upstreams = SETTINGS_PAGE.partition("[upstreams.NAME]")[2]
    assert f"`{name}`" in upstreams
    assert f"{name} = " in LIMITS_PAGE


@pytest.mark.parametrize(
    "bound",
    [
        members.MEMBERS_MAX,
        prompt.ITEMS_MAX,
        blocks.DEPTH_MAX,
        prompt.TOOLS_MAX,
        blocks.LOOKS_MAX,
        inspect.ENTRIES_MAX,
        blocks.CACHE_BYTES_MAX,
        inspect.MODEL_CHARS_MAX,
        inspect.MAX_TOKENS_MAX,
    ],
)
def test_a_bound_of_a_request_is_documented(bound: int) -> None:
    assert f"\n| {bound:,} | " in LIMITS_PAGE.partition("## What one request may hold")[2]
