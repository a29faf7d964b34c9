"""What a gateway makes of the machine that it starts on."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tenantry.gateway.serving import Ending, bound_idle
from tenantry.settings import load_settings


def test_idle_connections_take_no_more_than_a_quarter_of_the_descriptors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"TENANTRY_DATA_DIR": str(tmp_path), "TENANTRY_IDLE_UPSTREAM_CONNECTIONS_MAX": "2000"}
    settings = load_settings(None, environ).gateway
    assert bound_idle(settings, 1_048_576) is settings
    with caplog.at_level(logging.WARNING):
        assert bound_idle(settings, 4096).idle_upstream_connections_max == 1024
    assert caplog.messages == [
        "this process may open 4096 files: only 1024 idle connections to upstreams are kept, not 2000"
    ]


def test_what_fails_as_a_gateway_ends_is_told_and_it_goes_on_ending(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("of ours")

    async def end() -> bool:
        return await Ending(asyncio.get_running_loop()).unless_hurried(fail())

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(end())
    [told] = caplog.records
    assert told.exc_info is not None
    assert str(told.exc_info[1]) == "of ours"
