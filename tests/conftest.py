import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tenantry.control.form import is_compiled
from tenantry.setting_checks import unknown_variables
from tenantry.settings import SETTINGS
from tests.stack import Stack

# How long an example takes is the machine's, which may be busy.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

FIXTURES = Path(__file__).parent / "fixtures"
# Files that take longest, and begin first: what comes last should be short, so that no worker waits for another.
LONGEST = (
    *("test_planted_callers", "test_planted_answers", "test_planted_shares"),
    *("test_pages", "test_isolation", "test_faults_neighbours", "test_crashes", "test_lanes", "test_budgets"),
    *("test_faults_money", "test_lives", "test_limits_commands", "test_retries", "test_lanes_cost"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.stem
        return LONGEST.index(name) if name in LONGEST else len(LONGEST), "acceptance" not in item.path.parts

    items.sort(key=turn)  # stable: the tests of a file keep their order
    if is_compiled():  # a compiled class calls its own methods, whatever a test puts in their place
        skipped = pytest.mark.skip(reason="the compiled form does not show this")
        for item in items:
            if item.get_closest_marker("interpreted") is not None:
                item.add_marker(skipped)


def pytest_collection_finish() -> None:
    """What is set for the tests themselves, which have read it by now, is no setting of the processes they start."""
    for problem in list(unknown_variables(os.environ, SETTINGS)):
        del os.environ[problem.partition(":")[0]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running Tenantry for the tests of a module."""
    running = Stack(tmp_path_factory.mktemp("site"), TENANTRY_METRICS_OPEN="true").start()
    yield running
    running.stop()


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A site of its own, not yet started, for tests that kill its processes."""
    site = Stack(tmp_path)
    yield site
    site.stop()


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return FIXTURES
