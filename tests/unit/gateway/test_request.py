"""Names of requests: of one length, never twice the same, in the order of time."""

import re
import time

from tenantry.gateway.request import Names, new_request_id

NAMES = 50_000

new_name = Names().new


def test_names_are_24_digits_and_no_two_are_equal() -> None:
    names = [new_name() for _ in range(NAMES)]
    assert all(re.fullmatch(rb"[0-9a-f]{24}", name) for name in names)
    assert len(set(names)) == NAMES
    assert re.fullmatch(r"req_[0-9a-f]{24}", new_request_id())


def test_a_later_name_sorts_behind_an_earlier_one() -> None:
    """So that the ledger's indexes are written in order."""
    earlier = [new_name() for _ in range(100)]
    time.sleep(0.005)
    assert max(earlier) < new_name()


def test_names_of_one_moment_are_not_told_by_one_another() -> None:
    last_digits = {new_name()[-13:] for _ in range(1000)}
    assert len(last_digits) == 1000
    assert len({name[0] for name in last_digits}) > 8
