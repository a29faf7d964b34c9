"""Balance: few moves, each to who has less to do, and none that would be taken back."""

from __future__ import annotations

from random import Random

from tenantry.domain.balance import LOAD_MIN, group_loads, joins, spread, to_give


def test_what_a_gateway_leaves_is_spread_by_what_others_have_to_do() -> None:
    assert spread({"a": 5, "b": 3, "c": 3, "d": 0}, {"gw-1": 0, "gw-2": 4}) == {
        "a": "gw-1",
        "b": "gw-2",
        "c": "gw-1",
        "d": "gw-2",
    }
    assert spread({"a": 5}, {}) == {}


def test_who_has_most_to_do_gives_to_who_has_least_and_no_more_than_half_of_what_is_between() -> None:
    groups = {"a": 9, "b": 5, "c": 4, "idle": 0}
    assert to_give("gw-1", groups, {"gw-2": 8, "gw-3": 6}) == ("b", "gw-3")
    assert to_give("gw-1", groups, {"gw-2": 19, "gw-3": 0}) is None  # another one gives
    assert to_give("gw-1", groups, {"gw-2": 15}) is None  # it is hardly more
    assert to_give("gw-1", {"a": 18}, {"gw-2": 0}) is None  # it would have to be given back
    assert to_give("gw-1", groups, {}) is None


def test_a_handful_of_tenants_stays_where_it_is() -> None:
    assert to_give("gw-1", {"a": 1, "b": LOAD_MIN - 2}, {"gw-2": 0}) is None


def test_from_any_start_cells_come_to_rest_and_none_comes_back_to_who_gave_it() -> None:
    for seed in range(200):
        random = Random(seed)
        names = [f"gw-{number}" for number in range(random.randint(2, 5))]
        owned: dict[str, dict[str, int]] = {name: {} for name in names}
        for number in range(random.randint(0, 60)):
            owned[random.choice(names[:-1])][f"cell-{number}"] = random.choice((0, 1, 1, 2, 5, 20))
        moves = 0
        while True:
            loads = {name: sum(cells.values()) for name, cells in owned.items()}
            found = {name: gift for name in names if (gift := to_give(name, owned[name], loads)) is not None}
            assert len(found) <= 1, seed
            if not found:
                break
            ((giver, (cell, heir)),) = found.items()
            owned[heir][cell] = owned[giver].pop(cell)
            assert sum(owned[heir].values()) <= sum(owned[giver].values()), seed
            moves += 1
            assert moves <= 60, seed


def test_the_smaller_side_of_what_is_linked_moves() -> None:
    assert joins("gw-1", {"gw-1": 2, "gw-2": 3}) == "gw-2"
    assert joins("gw-2", {"gw-1": 2, "gw-2": 3}) is None
    assert joins("gw-1", {"gw-1": 2, "gw-2": 2}) == "gw-2"
    assert joins("gw-2", {"gw-1": 2, "gw-2": 2}) is None
    assert joins("gw-3", {"gw-1": 2, "gw-2": 2}) is None


def test_what_moves_together_has_the_load_of_all_its_cells() -> None:
    assert group_loads([("a", "b"), ("c",)], {"a": 1, "b": 2}) == {"a": 3, "c": 0}
