"""Who is served beside a tenant of long streams, in simulated minutes: `python -m bench.shares` (`make fairness`).

The real lanes on a clock of its own: an upstream of 30 sessions, one tenant that always wants eighty 15-second streams,
and nine normal ones. It takes seconds, does not depend on the machine, and prints shares and waits.
"""

from __future__ import annotations

from tests.unit.domain.test_lanes_fairness import NORMAL, Upstream, jain

MINUTES = 30
SEED = 7
# What each of the nine asks: a request every so many seconds that holds its session for so many, on average. Together
# they want 3.75, 18 and 13.5 of the 30 sessions.
KINDS = ((1.2, 0.5), (2.0, 4.0), (10.0, 15.0))


def simulate(every: float, seconds: float) -> str:
    """One row of the table."""
    world = Upstream(SEED)
    world.make_noise("noisy", 80)
    world.run(130.0)
    for slug in NORMAL:
        world.behave(slug, every, seconds)
    world.run(160.0)
    world.forget_the_past()
    world.run(160.0 + 60 * MINUTES)
    shares, waits = world.shares(), sorted(world.waits)
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    of_the_one = world.served["noisy"] * 15.0 / (60 * MINUTES)
    return (
        f"| {every:g} s, {seconds:g} s long | {100 * min(shares):.1f} % | {jain(shares):.4f} | {p50:.2f} | {p99:.2f} "
        f"| {of_the_one:.1f} |"
    )


def main() -> None:
    print(f"{MINUTES} minutes, one tenant of 15-second streams beside nine, 30 sessions, seed {SEED}\n")
    print(
        "| each of the nine asks every | the least served of them | Jain | wait p50 s | p99 s | sessions of the one |"
    )
    print("|---|---|---|---|---|---|")
    for every, seconds in KINDS:
        print(simulate(every, seconds), flush=True)


if __name__ == "__main__":
    main()
