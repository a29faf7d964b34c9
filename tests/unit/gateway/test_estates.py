"""What gateways leave of rates: the next one goes on from where they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantry.domain.directory import Limits
from tenantry.gateway.estates import take_lanes
from tenantry.gateway.handover import BucketState, LaneState
from tests.unit.gateway.playbook import World


def of_tenant(level: float, at: float) -> LaneState:
    return LaneState("tenant", "tnt_acme", "", 0.0, 0.0, [BucketState("requests", 60, 10, level, at)])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_gateways_that_have_counted_for_a_tenant_the_least_that_is_left_counts(
    tmp_path: Path, order: tuple[int, int]
) -> None:
    """The one that counted for it before knows of less that was used, whichever of them is heard first."""
    world = World(tmp_path, limits=Limits(sessions_max=5, requests_per_minute=60, request_burst=10))
    now = world.time.now
    states = [of_tenant(3.0, now), of_tenant(9.0, now)]
    take_lanes(world.parts, [states[one] for one in order])
    lane = next(lane for kind, lane in world.parts.lanes.register.own() if kind == "tenant")
    assert lane.requests is not None
    assert lane.requests.level == 3.0
