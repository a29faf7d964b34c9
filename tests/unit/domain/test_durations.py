"""Durations as people write them."""

from datetime import timedelta

import pytest

from tenantry.domain.durations import BadDuration, read_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", timedelta(0)),
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
        ("3650d", timedelta(days=3650)),
    ],
)
def test_good(text: str, duration: timedelta) -> None:
    assert read_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    ["", "5", "-1h", "1.5h", "h", "1w", "1h30m", " 1h", "1h\n", "\u0661h", "3651d", "9999999999d", "9" * 99 + "s"],
)
def test_bad(text: str) -> None:
    with pytest.raises(BadDuration, match="24h"):
        read_duration(text)
