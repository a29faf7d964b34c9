"""What is said of a fault that comes again and again."""

from tenantry.domain.repeats import QUIET_SECONDS, Repeats


def test_a_fault_is_news_when_it_comes_and_when_it_changes() -> None:
    faults = Repeats()
    told = [faults.came(what, at) for at, what in enumerate(["full", "full", "full", "broken", "broken"])]
    assert told == [True, False, False, True, False]
    assert faults.count == 5


def test_the_end_of_a_fault_is_told_once_with_how_often_it_came() -> None:
    faults = Repeats()
    assert faults.went_well(0.0) == 0
    faults.came("full", 1.0)
    faults.came("full", 2.0)
    assert faults.went_well(2.0 + QUIET_SECONDS) == 2
    assert faults.went_well(2.1 + QUIET_SECONDS) == 0
    assert faults.came("full", 50.0)


def test_a_fault_that_comes_and_goes_is_told_once() -> None:
    faults = Repeats()
    told = 0
    for at in range(100):
        told += faults.came("full", float(at))
        told += faults.went_well(at + 0.5) > 0
    assert told == 1
