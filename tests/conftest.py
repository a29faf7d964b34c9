import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tenantry.control.form import is_compiled
from tenantry.setting_checks import unknown_variables
from tenantry.settings import SETTINGS
from tests import postgresql, template, temporary
from tests.cluster import haproxy
from tests.stack import Stack

# How long an example takes is the machine's, which may be busy.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
temporary.put_in_memory()

FIXTURES = Path(__file__).parent / "fixtures"
# Files that take longest, and begin first: what comes last should be short, so that no worker waits for another.
LONGEST = (
    *("test_pages", "test_cluster", "test_isolation", "test_restart", "test_planted_callers", "test_hostile_upstreams"),
    *("test_gateway_counts", "test_planted_answers", "test_planted_shares", "test_crashes", "test_rolling_upgrade"),
    *("test_background", "test_faults_neighbours", "test_rotation", "test_applying", "test_straight", "test_lives"),
    *("test_limits_commands", "test_faults_money", "test_bills", "test_cells", "test_gateway_processes", "test_lanes"),
    *("test_postgresql", "test_controls", "test_many_tenants", "test_any_states", "test_ledger_commands", "test_storm"),
    *("test_budgets", "test_memory", "test_retries", "test_bulk"),
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays: the collector of garbage never goes through it."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.stem
        return LONGEST.index(name) if name in LONGEST else len(LONGEST), "acceptance" not in item.path.parts

    items[:] = _without_further_cases(items)
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


# Whose tests run on both databases, where they make a store.
UNIT = Path(__file__).parent / "unit"
BOTH = tuple(UNIT / name for name in ("storage", "ledger", "control", "billing", "web", "cli"))
# Of a table of cases these run the first on PostgreSQL: others ask the same questions of it.
REPRESENTED = tuple(UNIT / name for name in ("web", "cli"))
# What makes stores, or holds one, by the names of a module and of fixtures. A fixture that several tests share was made
# before it is known in which database the test at hand is to be.
MAKERS = ("new_store", "new_site", "init_from_template", "make_site", "served", "Office", "Watched")
HOLDERS = ("site", "engine", "directory", "api", "shared", "filled")
# "postgresql": these tests run on it alone, and so do those that share a store (`make test-postgresql`).
STORES = os.environ.get("TENANTRY_TEST_STORES", "")


def pytest_configure(config: pytest.Config) -> None:
    """The workers of a run share one server of PostgreSQL, which is there before them."""
    config.addinivalue_line("markers", "sqlite: of SQLite's own or its files, or slow and without a query of its own")
    is_worker = hasattr(config, "workerinput")
    if STORES not in ("", template.POSTGRESQL) or (STORES and postgresql.binaries() is None):
        raise pytest.UsageError(f"TENANTRY_TEST_STORES={STORES}: it is 'postgresql', which has to be installed")
    if not is_worker and config.getoption("numprocesses", None) and postgresql.binaries() is not None:
        os.environ[postgresql.VARIABLE] = postgresql.url()
    elif os.environ.get(postgresql.VARIABLE):
        postgresql.url()  # kept: it is no setting of the processes that tests start (below)


def pytest_report_header() -> list[str]:
    """Which server and which balancer tests are run on, or that they are not."""
    home, balancer = postgresql.binaries(), haproxy.binary()
    return [
        f"PostgreSQL: {home}, in a temporary folder on a port of its own"
        if home is not None
        else "PostgreSQL: not installed, so tests on it are skipped",
        f"HAProxy: {balancer}" if balancer is not None else "HAProxy: not installed, so tests with it are skipped",
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames and not STORES and _is_for_both(metafunc):
        skipped = pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed")
        kinds = [template.SQLITE, pytest.param(template.POSTGRESQL, marks=skipped)]
        metafunc.parametrize("database", kinds, indirect=True)


def _is_for_both(metafunc: pytest.Metafunc) -> bool:
    if not _is_below(metafunc.definition, BOTH) or metafunc.definition.get_closest_marker("sqlite") is not None:
        return False
    fixtures = metafunc.definition._fixtureinfo.name2fixturedefs  # pytest tells no scope otherwise
    held = [fixtures[name][-1].scope for name in HOLDERS if name in fixtures]
    return all(scope == "function" for scope in held) if held else _makes_stores(metafunc)


def _is_below(item: pytest.Item, folders: tuple[Path, ...]) -> bool:
    return any(folder in item.path.parents for folder in folders)


def _makes_stores(metafunc: pytest.Metafunc) -> bool:
    return any(hasattr(metafunc.module, name) for name in MAKERS)


def _without_further_cases(items: list[pytest.Item]) -> list[pytest.Item]:
    seen: set[tuple[Path, str]] = set()
    left: list[pytest.Item] = []
    for item in items:
        case = getattr(item, "callspec", None)
        if case is not None and case.params.get("database") == template.POSTGRESQL and _is_below(item, REPRESENTED):
            function = (item.path, getattr(item, "originalname", item.name))
            if function in seen:
                continue
            seen.add(function)
        left.append(item)
    return left


@pytest.fixture(scope="module", autouse=True)
def database_of_module(request: pytest.FixtureRequest) -> Iterator[str]:
    """In which database the stores are that tests of a module share."""
    is_elsewhere = STORES == template.POSTGRESQL and _is_below(request.node, BOTH)
    is_elsewhere &= request.node.get_closest_marker("sqlite") is None
    with template.stores_in(template.POSTGRESQL if is_elsewhere else template.SQLITE) as kind:
        yield kind


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest, database_of_module: str) -> Iterator[str]:
    """In which database the stores of a test are: its name, "sqlite" or "postgresql"."""
    is_sqlite = request.node.get_closest_marker("sqlite") is not None
    with template.stores_in(getattr(request, "param", template.SQLITE if is_sqlite else database_of_module)) as kind:
        yield kind
