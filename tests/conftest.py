from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Stack

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running Tenantry for the tests of a module."""
    running = Stack(tmp_path_factory.mktemp("site")).start()
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
