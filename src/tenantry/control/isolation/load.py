"""Two tenants at once: whose credential leaves under concurrency, and what a noisy tenant does to a quiet one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tenantry.control.isolation.canaries import CanaryUpstream
from tenantry.control.isolation.cases import MODEL, body_of, key_line
from tenantry.control.isolation.client import Address, Answer, KeptConnection, NoAnswer, request
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.judge import Judge
from tenantry.control.isolation.probes import Probe
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import read_usage
from tenantry.wire.routes import ROUTES

INTERLEAVED_THREADS = 12
NOISY_THREADS = 10
NOISY_REQUESTS_MAX = 3000
NOISY_SECONDS_MAX = 12.0
NOISY_WAIT_MS = 25
# Dear ones, so that they would show in the quiet tenant's budget.
NOISY_TOKENS = 16
# The quiet tenant's two passes use half of its budget of the day; holds of requests in flight come on top for a moment.
QUIET_BUDGET_SHARE = 0.5
QUIET_BUDGET_SHARE_MIN, QUIET_BUDGET_SHARE_MAX = 0.45, 0.6
# A refused client that comes back at once would measure this machine's CPU instead of the gateway's fairness.
NOISY_PAUSE_SECONDS = 0.02
# Gives the noise time to show in the quiet tenant's counters.
QUIET_PAUSE_SECONDS = 0.008
# The quiet tenant's p99 may grow to this factor of its own when alone, or to the floor where that is more: on two
# cores the load's own threads stand in the way too. What bleeds (a shared queue, a shared bucket) costs seconds or 429.
P99_FACTOR_MAX = 10.0
P99_FLOOR_MS = 500.0
# Listed one by one in the report; more of the same helps nobody.
LISTED_MAX = 10

# The noisy tenant may do little, and does much. The quiet one has counters that show every single request.
NOISY_LIMITS = {"sessions_max": 4, "requests_per_minute": 120, "request_burst": 60}
QUIET_LIMITS = {"sessions_max": 4, "requests_per_minute": 600, "request_burst": 10_000}

_MESSAGES = ROUTES[(b"POST", b"/v1/messages")]
USED = b"anthropic-ratelimit-unified-overage-utilization"


def quiet_budget_nanos(count: int) -> int:
    """Twice what `count` requests of the quiet tenant cost in each of its two passes."""
    return int(2 * count * cost_nanos(1) / QUIET_BUDGET_SHARE)


def cost_nanos(output_tokens: int) -> int:
    """What a probe's request with so many output tokens costs."""
    usage = read_usage({"input_tokens": 1, "output_tokens": output_tokens})
    return load_default_prices().price(usage, MODEL, datetime.now(UTC)).cost_nanos or 1


def message(probe: Probe, tag: str, wait_ms: int = 0, stream: bool = False, tokens: int = 1) -> bytes:
    """A metered request of a probe, on its own path, that keeps the connection."""
    body = body_of(_MESSAGES, f"tag={tag} wait={wait_ms} tokens={tokens}", stream=stream)
    path = f"/t/{probe.holder.slug}/v1/messages".encode()
    return request(b"POST", path, [key_line(probe.holder.key), b"anthropic-version: 2023-06-01"], body)


@dataclass(slots=True)
class Tally:
    """What one tenant's requests came to. `problems` are in words."""

    seen: list[int] = field(default_factory=list[int])
    ms: list[float] = field(default_factory=list[float])
    problems: list[str] = field(default_factory=list[str])
    answers: list[Answer] = field(default_factory=list[Answer])

    @property
    def statuses(self) -> Counter[int]:
        return Counter(self.seen)

    @property
    def p99(self) -> float:
        ordered = sorted(self.ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0

    @property
    def words(self) -> str:
        return ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items())) or "no answer"


def interleave(
    group: Group, address: Address, upstream: CanaryUpstream, probes: Sequence[Probe], judge: Judge, count: int
) -> None:
    """`count` concurrent requests, tenant by tenant in turn; every second client carries them on one connection."""
    first = len(upstream.records)
    tally = Tally()

    def work(worker: int) -> None:
        shared = KeptConnection(address) if worker % 2 else None
        own = {probe.holder.slug: shared or KeptConnection(address) for probe in probes}
        for number in range(worker, count, INTERLEAVED_THREADS):
            # Tenants change with each request of a worker, whatever divides the number of workers.
            probe = probes[(number + number // INTERLEAVED_THREADS) % len(probes)]
            tag = f"{probe.holder.slug}-{number}"
            data = message(probe, tag, wait_ms=number * 7 % 20, stream=number % 3 == 0)
            _judge_one(tally, own[probe.holder.slug], data, probe, tag, probes, judge)
        for connection in own.values():
            connection.close()

    _together(work, INTERLEAVED_THREADS)
    _told(
        group, f"{count} interleaved requests of {len(probes)} tenants: each answer", "only its own mark and tag", tally
    )
    strays: list[str] = []
    owner = {probe.secret: probe.holder.slug for probe in probes}
    records = upstream.records[first:]
    for record in records:
        slug = owner.get(record.secret, "an unknown credential")
        if not record.tag.startswith(f"{slug}-"):
            strays.append(f"request {record.tag or '?'} left with the credential of {slug}")
        strays += [f"upstream saw {leak}" for leak in record.leaks]
    if len(records) != count:
        strays.append(f"{len(records)} requests reached the upstream, not {count}")
    seen = "; ".join(strays[:LISTED_MAX]) or f"{len(records)} of {count}, each under its own"
    group.add(f"{count} interleaved requests: each credential at the upstream", "its own tenant's", seen, not strays)


def _judge_one(
    tally: Tally, connection: KeptConnection, data: bytes, probe: Probe, tag: str, probes: Sequence[Probe], judge: Judge
) -> None:
    try:
        answer, ms = connection.ask(data)
    except NoAnswer as error:
        tally.problems.append(f"{tag}: {error}")
        return
    tally.seen.append(answer.status)
    tally.ms.append(ms)
    whole = answer.comparable()
    others = [other.holder.slug for other in probes if other is not probe and other.mark.encode() in whole]
    if answer.status != 200:
        tally.problems.append(f"{tag}: answered {answer.status}")
    elif f"{probe.mark} tag={tag}".encode() not in answer.body:
        tally.problems.append(f"{tag}: the answer is not its own")
    tally.problems += [f"{tag}: the answer holds the mark of {slug}" for slug in others]
    tally.problems += [f"{tag}: the answer holds {name}" for name in judge.needles.find(whole)]


def _told(group: Group, tried: str, expected: str, tally: Tally) -> None:
    seen = "; ".join(tally.problems[:LISTED_MAX]) or tally.words
    group.add(tried, expected, seen, not tally.problems and bool(tally.statuses))


def bleed(group: Group, address: Address, noisy: Probe, quiet: Probe, count: int) -> None:
    """The quiet tenant alone, then beside the noisy one; what could not be watched is reprobe."""
    alone = _quiet_pass(address, quiet, "alone", count)
    stop = threading.Event()
    noise = Tally()
    load = threading.Thread(target=_make_noise, args=(address, noisy, noise, stop))
    load.start()
    time.sleep(0.3)  # until its lanes are full
    try:
        beside = _quiet_pass(address, quiet, "beside", count)
    finally:
        stop.set()
        load.join()
    heavy = noise.statuses[429] > 0 and noise.statuses[200] > 0
    group.add("load on the noisy tenant", "served within its limits, and refused (429) beyond them", noise.words, heavy)
    group.add("the quiet tenant alone", f"{count} x 200", alone.words, alone.statuses == {200: count})
    group.add("the quiet tenant beside the noisy one", f"{count} x 200", beside.words, beside.statuses == {200: count})
    most = max(P99_FACTOR_MAX * alone.p99, P99_FLOOR_MS)
    expected = (
        f"at most {most:.0f} ms: {P99_FACTOR_MAX:g} x its own p99 alone ({alone.p99:.1f} ms), or {P99_FLOOR_MS:g} ms"
    )
    seen = f"{beside.p99:.1f} ms" if beside.ms else "no answer"
    group.add("latency of the quiet tenant, p99", expected, seen, bool(beside.ms) and beside.p99 <= most)
    _compare_counters(group, alone, beside, noise)


def _quiet_pass(address: Address, quiet: Probe, name: str, count: int) -> Tally:
    tally = Tally()
    connection = KeptConnection(address)
    for number in range(count):
        try:
            answer, ms = connection.ask(message(quiet, f"{quiet.holder.slug}-{name}-{number}"))
        except NoAnswer as error:
            tally.problems.append(str(error))
            continue
        tally.seen.append(answer.status)
        tally.ms.append(ms)
        tally.answers.append(answer)
        time.sleep(QUIET_PAUSE_SECONDS)
    connection.close()
    return tally


def _make_noise(address: Address, noisy: Probe, tally: Tally, stop: threading.Event) -> None:
    deadline = time.monotonic() + NOISY_SECONDS_MAX

    def work(worker: int) -> None:
        connection = KeptConnection(address)
        for number in range(NOISY_REQUESTS_MAX // NOISY_THREADS):
            if stop.is_set() or time.monotonic() > deadline:
                break
            tag = f"{noisy.holder.slug}-{worker}-{number}"
            try:
                answer, _ = connection.ask(message(noisy, tag, NOISY_WAIT_MS, number % 2 == 0, NOISY_TOKENS))
            except NoAnswer as error:
                tally.problems.append(str(error))
                continue
            tally.seen.append(answer.status)
            tally.answers.append(answer)
            if answer.status != 200:
                stop.wait(NOISY_PAUSE_SECONDS)
        connection.close()

    _together(work, NOISY_THREADS)


def _together(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _compare_counters(group: Group, alone: Tally, beside: Tally, noise: Tally) -> None:
    """`anthropic-ratelimit-*`: the limits stay, and what is left falls by the quiet tenant's own requests only."""
    names = sorted(
        {name for answer in alone.answers for name, _ in answer.headers if name.startswith(b"anthropic-ratelimit-")}
    )
    limit = b"anthropic-ratelimit-requests-limit"
    for tenant, tallies, limits in (("quiet", (alone, beside), QUIET_LIMITS), ("noisy", (noise,), NOISY_LIMITS)):
        told = {answer.field(limit) for tally in tallies for answer in tally.answers if answer.status == 200}
        wanted = limits["requests_per_minute"]
        shown = ", ".join(sorted(value.decode() for value in told)) or "no answer"
        own = told == {b"%d" % wanted}
        group.add(f"{limit.decode()} of the {tenant} tenant", f"its own: {wanted}", shown or "none", own)
    used = [float(told) for answer in beside.answers if (told := answer.field(USED))]
    words = f"{max(used):.0%}" if used else "not told"
    expected = (
        f"{QUIET_BUDGET_SHARE_MIN:.0%} to {QUIET_BUDGET_SHARE_MAX:.0%}; its own requests are {QUIET_BUDGET_SHARE:.0%}"
    )
    ok = bool(used) and QUIET_BUDGET_SHARE_MIN <= max(used) <= QUIET_BUDGET_SHARE_MAX
    group.add("budget of the quiet tenant, used", expected, words, ok)
    for name in names:
        if name.endswith(b"-remaining"):
            spent_alone, spent_beside = _spent(alone, name), _spent(beside, name)
            # It was alone first: the pass beside the load is slower, so more flows back, never less.
            most = spent_alone + max(3, len(beside.answers) // 20)
            seen_words = f"fell by {spent_beside} beside, by {spent_alone} alone"
            group.add(
                f"{name.decode()} of the quiet tenant", f"falls by at most {most}", seen_words, spent_beside <= most
            )


def _spent(tally: Tally, name: bytes) -> int:
    left = [int(value) for answer in tally.answers if (value := answer.field(name)).isdigit()]
    return left[0] - min(left) if left else 0
