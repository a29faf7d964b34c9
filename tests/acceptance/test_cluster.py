"""Three gateways on two machines behind HAProxy, two controls, PostgreSQL: whoever is killed, frozen or cut off.

The short form of `make cluster`, on one site (tests/cluster).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests import postgresql
from tests.cluster import haproxy
from tests.cluster.parts import (
    Site,
    cut_off,
    freeze,
    inspect,
    spray_budget,
    spray_sessions,
    stop_and_resume,
    storm_of_kills,
)
from tests.cluster.site import running

pytestmark = [
    pytest.mark.skipif(postgresql.binaries() is None, reason="PostgreSQL is not installed"),
    pytest.mark.skipif(haproxy.binary() is None, reason="HAProxy is not installed"),
]
# A machine that is busy with something else still renews it, and a test waits for its end.
LEASE_SECONDS = 5
CLIENTS = 512
# One of each kind, in an order that the seed says.
VICTIMS = ("one", "three", "machine", "control-a", "postmaster", "backend")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("cluster"), LEASE_SECONDS) as cluster:
        yield Site(cluster)


def test_512_clients_at_three_gateways_spend_a_budget_and_no_more(site: Site) -> None:
    spray_budget(site, CLIENTS)


def test_no_more_sessions_than_a_tier_has_reach_the_upstream_from_three_gateways(site: Site) -> None:
    spray_sessions(site, 2)


def test_whoever_is_killed_nothing_is_lost_doubled_or_spent_beyond_a_budget(site: Site) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    victims = [*VICTIMS]
    random.Random(seed).shuffle(victims)
    storm_of_kills(site, victims, seed)


def test_a_frozen_store_is_done_without_until_the_lease_ends(site: Site) -> None:
    freeze(site, LEASE_SECONDS, until_refused=True)


def test_who_is_cut_off_from_the_store_grants_nothing_beside_who_takes_over(site: Site) -> None:
    cut_off(site, "three")


def test_who_was_stopped_beyond_its_lease_settles_what_it_had_begun_and_grants_no_more(site: Site) -> None:
    stop_and_resume(site, "one")


def test_after_all_that_the_site_is_whole_by_its_own_words(site: Site) -> None:
    inspect(site)
