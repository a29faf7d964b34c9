"""What a noisy tenant does to a quiet one: its latency, its limits, its budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tenantry.control.isolation.client import Address, KeptConnection, NoAnswer
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.judge import SILENCES_MAX
from tenantry.control.isolation.load import STOP_SECONDS_MAX, USED, Tally, cost_nanos, message, together
from tenantry.control.isolation.pace import Pace
from tenantry.control.isolation.probes import Probe

NOISY_THREADS: Final = 10
NOISY_WAIT_MS: Final = 25
# Dear ones, so that they would show in the quiet tenant's budget.
NOISY_TOKENS: Final = 16
# The quiet tenant's two passes use half of its budget of the day; holds of requests in flight come on top for a moment.
QUIET_BUDGET_SHARE: Final = 0.5
QUIET_BUDGET_SHARE_MIN, QUIET_BUDGET_SHARE_MAX = 0.45, 0.6
# A refused client that comes back at once would measure this machine's CPU instead of the gateway's fairness.
NOISY_PAUSE_SECONDS: Final = 0.02
# Gives the noise time to show in the quiet tenant's counters.
QUIET_PAUSE_SECONDS: Final = 0.008
# The noise is on when it has been refused; that takes its lanes being full.
LOUD_SECONDS_MAX: Final = 10.0
# The quiet tenant's p99 may grow to this factor of its own when alone, or to the floor where that is more: on two
# cores the load's own threads stand in the way too. What bleeds (a shared queue, a shared bucket) costs seconds or 429.
P99_FACTOR_MAX: Final = 10.0
P99_FLOOR_MS: Final = 500.0

# The noisy tenant may do little, and does much. The quiet one has counters that show every single request: they do not
# fill up again within the time that this takes, on however busy a machine.
NOISY_LIMITS: Final = {"sessions_max": 4, "requests_per_minute": 120, "request_burst": 60}
QUIET_LIMITS: Final = {"sessions_max": 4, "requests_per_minute": 1, "request_burst": 10_000}
# What flows back at that rate in ten minutes.
REFILLED_MAX: Final = 10


def quiet_budget_nanos(count: int) -> int:
    """Twice what `count` requests of the quiet tenant cost in each of its two passes."""
    return int(2 * count * cost_nanos(1) / QUIET_BUDGET_SHARE)


@dataclass(frozen=True, slots=True)
class Bleed:
    """What the checks of this group work on. `came` is told how much of it, from 0 to 1, is done."""

    group: Group
    address: Address
    pace: Pace
    noisy: Probe
    quiet: Probe
    came: Callable[[float], None]


def bleed(on: Bleed, count: int) -> None:
    """The quiet tenant alone, then beside the noisy one."""
    alone = _quiet_pass(on, "alone", count, 0.0)
    noise = Tally()
    stop = threading.Event()
    load = threading.Thread(target=_make_noise, args=(on, noise, stop), daemon=True)
    load.start()
    try:
        _wait_until_loud(on, noise)
        beside = _quiet_pass(on, "beside", count, 0.5)
    except BaseException:
        stop.set()
        load.join(STOP_SECONDS_MAX)
        raise
    stop.set()
    load.join()
    add = on.group.add
    heavy = noise.statuses[429] > 0 and noise.statuses[200] > 0
    add("load on the noisy tenant", "served within its limits, and refused (429) beyond them", noise.words, heavy)
    add("the quiet tenant alone", f"{count} x 200", alone.words, alone.statuses == {200: count})
    add("the quiet tenant beside the noisy one", f"{count} x 200", beside.words, beside.statuses == {200: count})
    most = max(P99_FACTOR_MAX * alone.p99, P99_FLOOR_MS)
    expected = (
        f"at most {most:.0f} ms: {P99_FACTOR_MAX:g} x its own p99 alone ({alone.p99:.1f} ms), or {P99_FLOOR_MS:g} ms"
    )
    seen = f"{beside.p99:.1f} ms" if beside.ms else "no answer"
    add("latency of the quiet tenant, p99", expected, seen, bool(beside.ms) and beside.p99 <= most)
    _compare_limits(on.group, (alone, beside), noise)
    _compare_budget(on.group, beside)
    _compare_counters(on.group, (alone, beside))


def _quiet_pass(on: Bleed, name: str, count: int, before: float) -> Tally:
    tally = Tally()
    connection = KeptConnection(on.address)
    for number in range(count):
        started = on.pace.clock()
        try:
            answer, _ = connection.ask(message(on.quiet, f"{on.quiet.holder.slug}-{name}-{number}"))
        except NoAnswer as error:
            tally.problems.append(str(error))
            if len(tally.problems) >= SILENCES_MAX:
                break
            continue
        tally.seen.append(answer.status)
        tally.ms.append((on.pace.clock() - started) * 1000)
        tally.answers.append(answer)
        on.came(before + number / count / 2)
        time.sleep(QUIET_PAUSE_SECONDS)
    connection.close()
    return tally


def _wait_until_loud(on: Bleed, noise: Tally) -> None:
    deadline = on.pace.clock() + LOUD_SECONDS_MAX
    while 429 not in noise.seen and on.pace.clock() < deadline:
        time.sleep(NOISY_PAUSE_SECONDS)


def _make_noise(on: Bleed, tally: Tally, stop: threading.Event) -> None:
    """As long as the quiet one asks: what bounds that bounds this."""

    def work(worker: int, _stop: threading.Event) -> None:
        connection = KeptConnection(on.address)
        number = 0
        while not stop.is_set():
            number += 1
            tag = f"{on.noisy.holder.slug}-{worker}-{number}"
            try:
                answer, _ = connection.ask(message(on.noisy, tag, NOISY_WAIT_MS, number % 2 == 0, NOISY_TOKENS))
            except NoAnswer as error:
                tally.problems.append(str(error))
                stop.wait(NOISY_PAUSE_SECONDS)
                continue
            tally.seen.append(answer.status)
            tally.answers.append(answer)
            if answer.status != 200:
                stop.wait(NOISY_PAUSE_SECONDS)
        connection.close()

    together(work, NOISY_THREADS)


def _compare_limits(group: Group, quiet: tuple[Tally, Tally], noise: Tally) -> None:
    limit = b"anthropic-ratelimit-requests-limit"
    for tenant, tallies, limits in (("quiet", quiet, QUIET_LIMITS), ("noisy", (noise,), NOISY_LIMITS)):
        told = {answer.field(limit) for tally in tallies for answer in tally.answers if answer.status == 200}
        wanted = limits["requests_per_minute"]
        shown = ", ".join(sorted(value.decode() for value in told)) or "no answer"
        own = told == {b"%d" % wanted}
        group.add(f"{limit.decode()} of the {tenant} tenant", f"its own: {wanted}", shown or "none", own)


def _compare_budget(group: Group, beside: Tally) -> None:
    used = [float(told) for answer in beside.answers if (told := answer.field(USED))]
    words = f"{max(used):.0%}" if used else "not told"
    expected = (
        f"{QUIET_BUDGET_SHARE_MIN:.0%} to {QUIET_BUDGET_SHARE_MAX:.0%}; its own requests are {QUIET_BUDGET_SHARE:.0%}"
    )
    ok = bool(used) and QUIET_BUDGET_SHARE_MIN <= max(used) <= QUIET_BUDGET_SHARE_MAX
    group.add("budget of the quiet tenant, used", expected, words, ok)


def _compare_counters(group: Group, quiet: tuple[Tally, Tally]) -> None:
    """What is left falls by one with each of the quiet tenant's own requests, alone and beside."""
    name = b"anthropic-ratelimit-requests-remaining"
    for tally, where in zip(quiet, ("alone", "beside the noisy one"), strict=True):
        left = [int(value) for answer in tally.answers if (value := answer.field(name)).isdigit()]
        fell, own = (left[0] - left[-1] + 1 if left else 0), len(tally.answers)
        ok = bool(left) and own - REFILLED_MAX <= fell <= own
        expected = f"falls by {own - REFILLED_MAX} to {own}: its own requests"
        group.add(f"{name.decode()} of the quiet tenant {where}", expected, f"fell by {fell}", ok)
