"""Where a gateway is reached, as the store has it."""

import pytest

from tenantry.gateway.peers.places import Place, machine_mark, read_place

MARK = "ab" * 32


@pytest.mark.parametrize("place", [Place("127.0.0.1", 3100, False, MARK), Place("fd00::1", 1, True, MARK)])
def test_a_place_is_read_as_it_was_written(place: Place) -> None:
    assert read_place(place.text()) == place


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:3000", f"a:1#http-{MARK}", "a:1#tls-", f"a:1#tls-{MARK[:-1]}", f"a#tls-{MARK}"]
)
def test_what_is_no_place_is_nowhere(text: str) -> None:
    assert read_place(text) is None


def test_a_machine_is_named_alike_by_all_its_processes() -> None:
    assert machine_mark() == machine_mark()
    assert len(machine_mark()) == 64
