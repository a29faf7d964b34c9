"""A row's hash is the same however it is made; that it never changes is what existing ledgers are proved by."""

import random
import string

from sqlalchemy import create_engine

from tenantry.domain.attempts import Outcome
from tenantry.domain.usage import Usage
from tenantry.ledger.rows import COLUMNS, RowInsert, hash_of_booked, row_hash, row_of
from tests.unit.ledger.books import attempt

MARKS = [*string.printable, "\0", "\x7f", "\x85", "\u2028", "\ufeff", "\U0001f600", '"', "\\"]


def some_text(chance: random.Random) -> str:
    return "".join(chance.choices(MARKS, k=chance.randrange(30)))


def test_the_template_makes_the_hash_of_the_sorted_json() -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)

    def perhaps(value: object) -> object:
        return chance.choice([None, value])

    for number in range(500):
        begun, end = attempt(
            number,
            status=perhaps(529),
            first_byte_at_us=perhaps(10**15),
            outcome=chance.choice(list(Outcome)),
            model_served=perhaps(some_text(chance)),
            stop_reason=perhaps(some_text(chance)),
            usage=Usage(*(chance.randrange(10**12) for _ in range(8))),
            usage_raw=some_text(chance),
            cost_nanos=perhaps(chance.randrange(10**13)),
            price_version=perhaps(some_text(chance)),
            upstream_request_id=perhaps(some_text(chance)),
            error=perhaps(some_text(chance)),
            saved_nanos=perhaps(-7),
            flaws=chance.choice([(), (some_text(chance), "usage_malformed")]),
            held_nanos=perhaps(chance.randrange(10**13)),
        )
        row = row_of(begun, end)
        row["tenant_id"], row["journal_run"], row["journal_seq"] = some_text(chance), some_text(chance), number
        row["prev_hash"], row["streaming"] = f"{number:064x}", bool(chance.randrange(2))
        assert hash_of_booked(row) == row_hash(row)


def test_a_known_row_keeps_its_hash() -> None:
    """Written on 2026-11-25: a change of it would break every ledger that there is."""
    row = row_of(*attempt(1))
    row["journal_run"], row["journal_seq"], row["prev_hash"] = "gateway-1", 1, "0" * 64
    assert row_hash(row) == hash_of_booked(row) == "48e297d7eece01db1b209572d783bd59d4d1592411f0c382510f56af67503419"


def test_a_row_has_its_values_in_the_order_of_the_statement() -> None:
    assert tuple(row_of(*attempt(1))) == COLUMNS
    RowInsert(create_engine("sqlite://").dialect)  # which refuses another order
