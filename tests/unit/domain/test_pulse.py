"""When a process that says nothing counts as frozen."""

from tenantry.domain.pulse import LOOK_SECONDS, SILENCE_SECONDS_MAX, START_SECONDS_MAX, Pulse


def looks_until_frozen(pulse: Pulse, looks_max: int = 10_000) -> int | None:
    return next((number for number in range(1, looks_max) if pulse.is_frozen(LOOK_SECONDS)), None)


def test_a_process_that_stops_beating_is_frozen_after_its_time() -> None:
    pulse = Pulse()
    for _ in range(1000):
        pulse.beat()
        assert not pulse.is_frozen(LOOK_SECONDS)
    assert looks_until_frozen(pulse) == SILENCE_SECONDS_MAX / LOOK_SECONDS  # and the look after its last beat


def test_one_that_has_not_begun_to_beat_has_longer() -> None:
    assert looks_until_frozen(Pulse()) == START_SECONDS_MAX / LOOK_SECONDS + 1


def test_time_in_which_the_watcher_stood_still_counts_for_nobody() -> None:
    pulse = Pulse()
    pulse.beat()
    for _ in range(10):  # suspended for a night, ten times, and no beat came before the first look after it
        assert not pulse.is_frozen(8 * 3600.0)
    pulse.beat()
    assert not pulse.is_frozen(LOOK_SECONDS)


def test_one_that_freezes_again_and_again_is_ended_less_and_less_often() -> None:
    waits = []
    for ended_before in range(8):
        pulse = Pulse(ended_before)
        pulse.beat()
        waits.append(looks_until_frozen(pulse))
    assert waits == [31, 61, 121, 241, 481, 481, 481, 481]


def test_one_that_could_not_beat_has_its_whole_time_again() -> None:
    pulse = Pulse()
    pulse.beat()
    assert looks_until_frozen(pulse) == 31
    pulse.excuse()
    assert looks_until_frozen(pulse) == 31
