"""The isolation proof is red on every gateway with a fault in what each has for itself."""

from collections.abc import Iterator

import pytest

from tests import planted
from tests.planted import shares
from tests.planted.proof import require_caught
from tests.stack import Stack


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A site whose gateway each test starts by itself."""
    running = Stack(tmp_path_factory.mktemp("planted")).start("control")
    yield running
    running.stop()


@pytest.mark.parametrize("fault", planted.faults_of(shares))
def test_a_planted_fault_is_caught(site: Stack, fault: str) -> None:
    require_caught(site, fault)
