"""Requests of two tenants, interleaved and at once: under whose credential each leaves, and whose answer comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tenantry.control.isolation.canaries import CanaryUpstream, Record
from tenantry.control.isolation.client import Address, KeptConnection, NoAnswer
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.judge import Judge
from tenantry.control.isolation.load import LISTED_MAX, Tally, message, together
from tenantry.control.isolation.probes import Probe

THREADS: Final = 12
# Requests of each tenant that fail at first: as many as a gateway tries again at once, whatever it thinks of an
# upstream that fails (`domain.retry`).
FAILING_REQUESTS: Final = 2


@dataclass(frozen=True, slots=True)
class Interleaved:
    """What both checks work on."""

    group: Group
    address: Address
    upstream: CanaryUpstream
    probes: Sequence[Probe]
    judge: Judge


def interleave(on: Interleaved, count: int, came: Callable[[float], None]) -> None:
    """`count` concurrent requests, tenant by tenant in turn; every second client carries them on one connection."""
    first = len(on.upstream.records)
    tally, probes = Tally(), on.probes

    def work(worker: int, stop: threading.Event) -> None:
        shared = KeptConnection(on.address) if worker % 2 else None
        own = {probe.holder.slug: shared or KeptConnection(on.address) for probe in probes}
        for number in range(worker, count, THREADS):
            if stop.is_set() or on.judge.has_given_up:
                break
            # Tenants change with each request of a worker, whatever divides the number of workers.
            probe = probes[(number + number // THREADS) % len(probes)]
            tag = f"{probe.holder.slug}-{number}"
            data = message(probe, tag, wait_ms=number * 7 % 20, stream=number % 3 == 0)
            _judge_one(on, tally, own[probe.holder.slug], data, probe, tag)
            came(len(tally.seen) / count)
        for connection in own.values():
            connection.close()

    together(work, THREADS)
    tally.told(
        on.group, f"{count} interleaved requests of {len(probes)} tenants: each answer", "only its own mark and tag"
    )
    records = on.upstream.records[first:]
    strays = _strays(on, records)
    if len(records) != count:
        strays.append(f"{len(records)} requests reached the upstream, not {count}")
    seen = "; ".join(strays[:LISTED_MAX]) or f"{len(records)} of {count}, each under its own"
    on.group.add(f"{count} interleaved requests: each credential at the upstream", "its own tenant's", seen, not strays)


def fail_first(on: Interleaved) -> None:
    """Requests that the upstream refuses once: what the gateway sends again leaves under the same credential."""
    first = len(on.upstream.records)
    tally = Tally()

    def work(worker: int, _stop: threading.Event) -> None:
        probe = on.probes[worker % len(on.probes)]
        tag = f"{probe.holder.slug}-failing-{worker}"
        client = KeptConnection(on.address)
        _judge_one(on, tally, client, message(probe, tag, asks="fail=1"), probe, tag)
        client.close()

    count = FAILING_REQUESTS * len(on.probes)
    together(work, count)
    records = on.upstream.records[first:]
    strays = _strays(on, records)
    if len(records) != 2 * count:
        strays.append(f"{len(records)} attempts reached the upstream, not {2 * count}")
    problems = strays + tally.problems
    seen = "; ".join(problems[:LISTED_MAX]) or f"{len(records)} attempts, each under its own"
    on.group.add("second attempts, when the first was refused", "its own tenant's credential", seen, not problems)


def _strays(on: Interleaved, records: Sequence[Record]) -> list[str]:
    owner = {probe.secret: probe.holder.slug for probe in on.probes}
    strays: list[str] = []
    for record in records:
        slug = owner.get(record.secret, "an unknown credential")
        if not record.tag.startswith(f"{slug}-"):
            strays.append(f"request {record.tag or '?'} left with the credential of {slug}")
        strays += [f"upstream saw {leak}" for leak in record.leaks]
    return strays


def _judge_one(on: Interleaved, tally: Tally, connection: KeptConnection, data: bytes, probe: Probe, tag: str) -> None:
    try:
        answer, ms = connection.ask(data)
    except NoAnswer as error:
        on.judge.heard_nothing()
        tally.problems.append(f"{tag}: {error}")
        return
    tally.seen.append(answer.status)
    tally.ms.append(ms)
    whole = answer.comparable()
    others = [other.holder.slug for other in on.probes if other is not probe and other.mark.encode() in whole]
    if answer.status != 200:
        tally.problems.append(f"{tag}: answered {answer.status}")
    elif f"{probe.mark} tag={tag} ".encode() not in answer.body:
        tally.problems.append(f"{tag}: the answer is not its own")
    tally.problems += [f"{tag}: the answer holds the mark of {slug}" for slug in others]
    tally.problems += [f"{tag}: the answer holds {name}" for name in on.judge.needles.find(whole)]
