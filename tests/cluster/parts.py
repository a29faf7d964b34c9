"""What is done to a cluster, in any size; each part asserts what is promised, and returns figures."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.cluster.books import Balance, balance
from tests.cluster.load import AGAIN_SECONDS, Call, Load, call
from tests.cluster.site import CONTROLS, GATEWAYS, Cluster, pause
from tests.spawner import run
from tests.stack import wait_for
from tests.storm.clients import MESSAGE

BODY = json.dumps(MESSAGE).encode()
# As tiers have them: standard, premium, enterprise.
SESSIONS = (5, 15, 50)
# What a budget is worth, in calls.
CALLS = 50
# Between two kills: what the site has then taken up again, or not yet.
KILL_SECONDS = (0.1, 1.0)
CLIENTS = 4
# A client asks so often while the store is away.
PROBE_SECONDS = 0.1
# What has come to a gateway that is stopped waits there; a client does not, and asks elsewhere.
PATIENCE_OF_CLIENTS_SECONDS = 2.0
# A proof takes seconds, and on a machine that is busy with others' minutes.
PROOF_SECONDS_MAX = 600.0


@dataclass(slots=True)
class Site:
    """A cluster with what has been set up in it. `budgets`: nanos by slug."""

    cluster: Cluster
    budgets: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def tenant(self, what: str, **limits: Any) -> tuple[str, str]:
        """Slug and key of a new one, which every gateway knows."""
        self.count += 1
        slug = f"{what}-{self.count}"
        key = self.cluster.tenant(slug, **limits)
        self.cluster.follow()
        return slug, key

    def cap(self, slug: str, key: str, calls: int) -> int:
        """Give a tenant a budget that is worth so many calls. What a call costs, in nanos: one is made."""
        cluster = self.cluster
        wait_for(partial(is_served, cluster, "one", key), what=f"a call of {slug}")
        price = next(row["cost_nanos"] for row in cluster.machines["a"].final_rows(slug) if row["cost_nanos"])
        self.budgets[slug] = price * calls
        cluster.site.directory.set_budgets(slug, {"month": self.budgets[slug]}, "hard")
        cluster.follow()
        return price

    def balanced(self) -> Balance:
        """Raises: AssertionError: the books do not agree."""
        found = balance(self.cluster, self.budgets)
        assert found.faults == {}, found
        return found


def is_served(cluster: Cluster, name: str, key: str) -> bool:
    try:
        return cluster.post(name, key, BODY)[0] == 200
    except (OSError, IndexError, ValueError):
        return False


# Limits


def spray_budget(site: Site, clients: int) -> dict[str, Any]:
    """So many clients at once spend a budget worth fifty calls, at whatever gateway they come to."""
    cluster = site.cluster
    slug, key = site.tenant("capped")
    site.cap(slug, key, CALLS)
    answers: Counter[str] = Counter()

    async def work(number: int) -> None:
        while True:
            done = await call(cluster.haproxy.port, slug, key, {}, stream=number % 2 == 0)
            assert done.status is not None, "a client was given no whole answer"
            answers[f"{done.status} {done.error or ''}".strip()] += 1
            if done.error == "billing_error":
                return
            if not done.is_served:
                await asyncio.sleep(AGAIN_SECONDS)

    async def spray() -> None:
        await asyncio.gather(*(work(number) for number in range(clients)))

    asyncio.run(spray())
    found = site.balanced()
    assert 1 <= answers["200"] < CALLS  # one was made before
    return {"clients": clients, "answers": dict(answers), "overshoot_nanos": found.overshoot_nanos}


def spray_sessions(site: Site, calls: int) -> dict[str, Any]:
    """Three times as many clients as there may be sessions, at whatever gateway they come to."""
    cluster = site.cluster
    tenants = {site.tenant(f"sessions-{most}", sessions_max=most): most for most in SESSIONS}

    async def work(slug: str, key: str, number: int) -> None:
        left = calls
        while left:
            done = await call(cluster.haproxy.port, slug, key, {"delay_ms": 200}, stream=number % 2 == 0)
            assert done.status is not None, "a client was given no whole answer"
            left -= done.is_served  # a machine that is busy may keep one waiting for longer than it may

    async def spray() -> None:
        works = [work(*who, number) for who, most in tenants.items() for number in range(3 * most)]
        await asyncio.gather(*works)

    asyncio.run(spray())
    peaks = {most: cluster.upstream.peaks[f"secret-of-{slug}"] for (slug, _), most in tenants.items()}
    assert all(peak <= most for most, peak in peaks.items()), peaks
    site.balanced()
    return {"most at once upstream, by limit": peaks}


# Kills


@dataclass(slots=True)
class Kills:
    """`takeovers`: seconds from a gateway's kill to the first answer to a tenant that it owned, by what was killed."""

    count: Counter[str] = field(default_factory=Counter)
    takeovers: dict[str, list[float]] = field(default_factory=dict)


def storm_of_kills(site: Site, victims: Sequence[str], seed: int) -> dict[str, Any]:
    """Kill -9, one after the other, while clients of several tenants go on; a budget and limits of sessions hold."""
    cluster, source, kills = site.cluster, random.Random(seed), Kills()
    tenants = dict(site.tenant("storm") for _ in range(5))
    limited, limited_key = site.tenant("storm-limited", sessions_max=3)
    capped, capped_key = site.tenant("storm-capped")
    site.cap(capped, capped_key, 20 * len(victims))
    keys = {**tenants, limited: limited_key, capped: capped_key}
    with Load([cluster.haproxy.port], keys, CLIENTS, seed) as load:
        wait_for(lambda: all(load.served([slug], 0) for slug in keys), what="every tenant being served")
        for victim in victims:
            pause(source.uniform(*KILL_SECONDS))
            kill_one(cluster, victim, [*tenants, limited], load, kills, source)
        cluster.owners()  # the store is there again
    found = site.balanced()
    peak = cluster.upstream.peaks[f"secret-of-{limited}"]
    assert peak <= 3, peak
    statuses = Counter(str(one.status) for one in load.calls if not one.left)
    return {"kills": dict(kills.count), "takeovers": kills.takeovers, "answers": dict(statuses), "books": found}


def kill_one(
    cluster: Cluster, victim: str, slugs: Sequence[str], load: Load, kills: Kills, source: random.Random
) -> None:
    """`victim`: a gateway, a control process, "postmaster", "backend", or "machine": all that runs on the second."""
    kills.count[victim] += 1
    if victim == "postmaster":
        cluster.kill_server()
    elif victim == "backend":
        cluster.kill_backend(source.randrange(100))
    elif victim in CONTROLS:
        cluster.kill(victim)
        cluster.spawn(victim)
        cluster.await_listening(victim)
    else:
        kill_gateways(cluster, victim, slugs, load, kills)


def kill_gateways(cluster: Cluster, victim: str, slugs: Sequence[str], load: Load, kills: Kills) -> None:
    """Those of a tenant that it owned go on, before it is back."""
    dying = ["three", "control-b"] if victim == "machine" else [victim]
    owned = [slug for slug, owner in cluster.owners().items() if owner in dying and slug in slugs]
    for name in dying:
        cluster.kill(name)
    at = time.monotonic()
    if owned:
        first: Call = wait_for(lambda: load.served(owned, at), what=f"a tenant of the killed {victim} being served")
        kills.takeovers.setdefault(victim, []).append(first.ended - at)
    for name in dying:
        cluster.spawn(name)
    for name in dying:
        cluster.await_listening(name)


def takeovers(site: Site, victims: Sequence[str], seed: int) -> dict[str, Any]:
    """Kill who grants for a tenant, again and again, when all else is at rest: how long its clients wait."""
    cluster, source, kills = site.cluster, random.Random(seed), Kills()
    for victim in victims:
        slug, key = site.tenant("taken")
        granting = victim if victim in GATEWAYS else "three"
        wait_for(partial(is_served, cluster, granting, key), what=f"{granting} granting")
        with Load([cluster.haproxy.port], {slug: key}, CLIENTS, seed) as load:
            wait_for(partial(load.served, [slug], 0), what="the tenant being served")
            kill_one(cluster, victim, [slug], load, kills, source)
    found = site.balanced()
    return {"kills": dict(kills.count), "takeovers": kills.takeovers, "books": found}


def victims_of(count: int, seed: int) -> list[str]:
    """Gateways most of all; of everything something."""
    kinds = ["one", "two", "three", "machine", "one", "two", "three", "control-a", "control-b", "postmaster", "backend"]
    found = [kinds[number % len(kinds)] for number in range(count)]
    random.Random(seed).shuffle(found)
    return found


# PostgreSQL is away


@dataclass(slots=True)
class Heard:
    """What a gateway answered to requests, by when they began: seconds since the store was away.

    `retry_after`: of its refusals.
    """

    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    retry_after: list[str] = field(default_factory=list)

    def hear(self, at: float, status: int, fields: dict[str, str]) -> None:
        if status == 200:
            self.served.append(at)
        else:
            assert status == 503, status
            self.refused.append(at)
            self.retry_after.append(fields.get("retry-after", ""))


def freeze(site: Site, seconds: float, until_refused: bool = False) -> dict[str, Any]:
    """Stop every process of PostgreSQL for so long, or until every gateway refuses."""
    cluster = site.cluster
    # One for each gateway, which owns it.
    tenants = {name: site.tenant(f"frozen-{name}")[1] for name in GATEWAYS}
    for name, key in tenants.items():
        wait_for(partial(is_served, cluster, name, key), what=f"{name} serving")
    heard = {name: Heard() for name in GATEWAYS}
    frozen, began = cluster.freeze(), time.monotonic()
    try:
        while time.monotonic() - began < seconds or (until_refused and not all(one.refused for one in heard.values())):
            for name, key in tenants.items():
                at = time.monotonic() - began
                status, fields, _ = cluster.post(name, key, BODY)
                heard[name].hear(at, status, fields)
            pause(PROBE_SECONDS)
    finally:
        cluster.thaw(frozen)
    lasted = time.monotonic() - began
    for name, key in tenants.items():
        wait_for(partial(is_served, cluster, name, key), what=f"{name} serving again")
        assert heard[name].served, f"{name} refused at once"
        assert all(one.isdigit() and int(one) >= 1 for one in heard[name].retry_after), heard[name]
        # Its lease was renewed before the store was away, so that after so long it has run out.
        late = [at for at in heard[name].served if at > cluster.lease_seconds]
        assert late == [], late
    found = site.balanced()
    return {
        "frozen s": round(lasted, 1),
        "served until s": {name: round(max(one.served), 1) for name, one in heard.items()},
        "refused from s": {name: round(min(one.refused), 1) for name, one in heard.items() if one.refused},
        "retry-after": sorted({told for one in heard.values() for told in one.retry_after}),
        "books": found,
    }


# One gateway is away


def cut_off(site: Site, name: str, limit: int = 3) -> dict[str, Any]:
    """Cut a gateway off from PostgreSQL while clients reach it, until another has taken its tenants; then mend that."""
    link = site.cluster.links[name]
    return _without(site, name, link.cut, link.mend, limit)


def stop_and_resume(site: Site, name: str, limit: int = 3) -> dict[str, Any]:
    """Stop a gateway's process until another has taken its tenants; then let it go on, with what waits in it."""
    signal_it = partial(site.cluster.signal, name)
    return _without(site, name, partial(signal_it, signal.SIGSTOP), partial(signal_it, signal.SIGCONT), limit)


def _without(
    site: Site, name: str, away: Callable[[], object], back: Callable[[], object], limit: int
) -> dict[str, Any]:
    """Clients come to every gateway meanwhile, and to HAProxy: no limit of sessions is passed, and no budget.

    Sessions that a stopped gateway of the same machine has in the middle count until it ends them, so that of the
    limited tenant it may be all; who shows that it is taken over has no limit.
    """
    cluster = site.cluster
    (free, free_key), (limited, limited_key) = site.tenant("free"), site.tenant("limited", sessions_max=limit)
    capped, capped_key = site.tenant("away")
    keys = {free: free_key, limited: limited_key, capped: capped_key}
    for key in keys.values():
        wait_for(partial(is_served, cluster, name, key), what=f"{name} granting")
    price = site.cap(capped, capped_key, CALLS)
    owners = cluster.owners()
    assert {owners[slug] for slug in keys} == {name}, owners
    ports = [cluster.haproxy.port, *(cluster.ports[one] for one in GATEWAYS)]
    with Load(ports, keys, 2 * limit, site.count, PATIENCE_OF_CLIENTS_SECONDS) as load:
        wait_for(lambda: load.served([free], 0) and load.served([limited], 0), what="both being served")
        away()
        began = time.monotonic()
        try:
            wait_for(lambda: cluster.owners()[free] not in ("", name), what="another owning what it owned")
            taken = time.monotonic()
            first: Call = wait_for(lambda: load.served([free], taken), what="the other one granting")
        finally:
            back()
        resumed = time.monotonic()
        for slug in (free, limited):
            wait_for(lambda slug=slug: load.served([slug], resumed), what=f"{slug} being served on")
        wait_for(partial(is_served, cluster, name, free_key), what=f"{name} passing on")
    peak = cluster.upstream.peaks[f"secret-of-{limited}"]
    assert peak <= limit, peak
    found = site.balanced()
    spent = sum(one.nanos for one in cluster.upstream.asked if one.secret == f"secret-of-{capped}")
    return {
        "taken over s": round(first.ended - began, 1),
        "most at once upstream": f"{peak} of {limit}",
        "of 50 calls spent": round(spent / price, 1),
        "books": found,
    }


# What an operator is told of it


def inspect(site: Site) -> dict[str, Any]:
    """`ledger verify`, `doctor` and `verify isolation` on what all this has left."""
    cluster = site.cluster
    site.balanced()
    ports = {"TENANTRY_GATEWAY_PORT": str(cluster.ports["one"])}
    environ = os.environ | cluster.machines["a"].environ | ports
    environ |= {"TENANTRY_CONTROL_PORT": str(cluster.ports["control-a"])}
    found: dict[str, Any] = {}
    for words in (("ledger", "verify"), ("doctor",), ("verify", "isolation", "--quick")):
        done = run(*words, env=environ, cwd=cluster.folder, timeout=PROOF_SECONDS_MAX)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        found[" ".join(words)] = f"{len(lines) - 1} findings, none failed" if words == ("doctor",) else lines[0]
    return found
