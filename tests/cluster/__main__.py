"""The long form: `python -m tests.cluster [--seed 1] [--kills 100] [PART...]`; each part on a site of its own.

Prints what was found of each part, and a line for each fault; exits with 1 if there was one.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests import postgresql
from tests.cluster import haproxy
from tests.cluster.books import Balance
from tests.cluster.parts import (
    Site,
    cut_off,
    freeze,
    inspect,
    spray_budget,
    spray_sessions,
    stop_and_resume,
    storm_of_kills,
    takeovers,
    victims_of,
)
from tests.cluster.site import running

CLIENTS = 512
# As it is by default, and one with which another machine is taken over sooner.
LEASE_SECONDS, SHORT_LEASE_SECONDS = 30.0, 5.0
# One that has another on its machine, one that has none, and all of a machine.
TAKEN = ("one", "three", "machine")
Part = tuple[float, Callable[[Site], dict[str, Any]]]


def parts(kills: int, seed: int) -> dict[str, Part]:
    """By name, with the lease that it is tried under."""
    return {
        "budget": (LEASE_SECONDS, partial(spray_budget, clients=CLIENTS)),
        "sessions": (LEASE_SECONDS, partial(spray_sessions, calls=5)),
        "kills": (SHORT_LEASE_SECONDS, partial(storm_of_kills, victims=victims_of(kills, seed), seed=seed)),
        "takeovers": (SHORT_LEASE_SECONDS, partial(takeovers, victims=TAKEN * max(1, kills // 10), seed=seed)),
        "frozen-5": (LEASE_SECONDS, partial(freeze, seconds=5)),
        "frozen-60": (LEASE_SECONDS, partial(freeze, seconds=60)),
        "cut-one-machine": (LEASE_SECONDS, partial(cut_off, name="two")),
        "cut-another": (LEASE_SECONDS, partial(cut_off, name="three")),
        "stopped": (LEASE_SECONDS, partial(stop_and_resume, name="three")),
    }


def tell(name: str, figures: dict[str, Any], seconds: float) -> None:
    print(f"\n## {name} ({seconds:.0f} s)\n", flush=True)
    for what, value in figures.items():
        if what == "takeovers":
            for victim, found in sorted(value.items()):
                print(f"| {victim}: takeover p50, p99, most of {len(found)} | {' '.join(_ranks(found))} |")
        elif isinstance(value, Balance):
            shown = {part: getattr(value, part) for part in value.__slots__}
            print(f"| {what} | {' '.join(f'{part}={count}' for part, count in shown.items())} |")
        else:
            print(f"| {what} | {value} |", flush=True)


def _ranks(found: list[float]) -> list[str]:
    ordered = sorted(found)
    ranks = [ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] for share in (0.5, 0.99, 1)]
    return [f"{one:.2f} s" for one in ranks]


def run(name: str, part: Part) -> bool:
    """Whether it held."""
    lease_seconds, work = part
    began, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="tenantry-cluster-"))
    try:
        with running(folder, lease_seconds) as cluster:
            site = Site(cluster)
            found = work(site)
            tell(name, found | inspect(site), time.monotonic() - began)
    except AssertionError as fault:
        print(f"\nFAULT in {name}: {fault}\nWhat its processes said is in {folder}.", flush=True)
        return False
    shutil.rmtree(folder)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="Promises of a cluster, by storms.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("parts", nargs="*", help="of: " + ", ".join(parts(0, 0)))
    asked = parser.parse_args()
    missing = [
        name for name, found in (("PostgreSQL", postgresql.binaries()), ("HAProxy", haproxy.binary())) if not found
    ]
    if missing:
        print(f"{' and '.join(missing)} cannot be found: nothing is tried")
        return 1
    known = parts(asked.kills, asked.seed)
    unknown = [name for name in asked.parts if name not in known]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(known)}")
    print(f"seed {asked.seed}", flush=True)
    held = [run(name, known[name]) for name in asked.parts or known]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
