"""A row's hash is the same however it is made; that it never changes is what existing ledgers are proved by."""

import dataclasses
import random
import string
from dataclasses import replace
from pathlib import Path

import msgspec
from sqlalchemy import create_engine

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, Outcome
from tenantry.domain.usage import Usage
from tenantry.ledger.events import EndedAttempt, RunReader
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.lines import BeginLine, EndLine, UsageCounts, decode_begin, event_of
from tenantry.ledger.rollup import COLUMNS, TOKEN_CLASSES
from tenantry.ledger.rows import FIRST_HASH, RANGES, chained, fits, row_hash, row_insert, row_of
from tenantry.storage.tables import ledger
from tests.unit.ledger.books import Attempt, attempt

MARKS = [*string.printable, "\0", "\x7f", "\x85", "\u2028", "\ufeff", "\U0001f600", '"', "\\"]


def some_text(chance: random.Random) -> str:
    return "".join(chance.choices(MARKS, k=chance.randrange(30)))


def test_lines_make_the_rows_and_hashes_that_their_events_make(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)

    def perhaps(value: object) -> object:
        return chance.choice([None, value])

    made: list[Attempt] = []
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
            flaws=chance.choice([(), (), (some_text(chance), "usage_malformed")]),
            held_nanos=perhaps(chance.randrange(10**13)),
        )
        plain = chance.randrange(2)
        begun = begun if plain else replace(begun, model_requested=some_text(chance), tenant_id=some_text(chance))
        waited = perhaps(chance.randrange(10**9))
        made.append((replace(begun, streaming=bool(chance.randrange(2)), queue_wait_us=waited), end))
    found = read_back(tmp_path, made)
    assert 100 < sum(fits(one) for one in found) < 400
    rows, head_hash = chained(found, some_run := some_text(chance), 7, "f" * 64)
    prev_hash = "f" * 64
    for row, (begun, end) in zip(rows, made, strict=True):
        expected = row_of(begun, end) | {"journal_run": some_run, "prev_hash": prev_hash}
        expected["journal_seq"] = row[COLUMNS.index("journal_seq")]
        prev_hash = expected["row_hash"] = row_hash(expected)
        assert dict(zip(COLUMNS, row, strict=True)) == expected
    assert head_hash == prev_hash
    assert rows[-1][COLUMNS.index("journal_seq")] == 7 + len(rows)


def read_back(folder: Path, attempts: list[Attempt]) -> list[EndedAttempt]:
    writer = JournalWriter(folder, "gateway")
    for begun, end in attempts:
        writer.begin(begun)
        writer.end(end)
    writer.flush()
    reader = RunReader(writer.folder)
    reader.read()
    writer.close()
    return reader.fold.ended


def test_lines_take_what_the_columns_take_and_no_more() -> None:
    lengths = {column.name: getattr(column.type, "length", None) for column in ledger.columns}
    fields = {one.encode_name: one.type for kind in (BeginLine, EndLine) for one in msgspec.structs.fields(kind)}
    for name, length in lengths.items():
        if name in fields and length is not None and name not in ("outcome", "basis"):
            assert f"max_length={length}" in str(fields[name]), name
    outcomes = {one.value for one in Outcome}
    assert all(len(one) <= (lengths["outcome"] or 0) and f"'{one}'" in str(fields["outcome"]) for one in outcomes)
    for name, low, high in RANGES:
        kind = (
            UsageCounts if name in TOKEN_CLASSES else BeginLine if name in ("begun_at_us", "queue_wait_us") else EndLine
        )
        [field] = [one for one in msgspec.structs.fields(kind) if one.name == name]
        for number, is_taken in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
            assert is_taken is takes(number, field.type), (name, number)


def takes(value: object, kind: object) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def test_lines_have_the_members_of_their_events() -> None:
    for line, event in ((BeginLine, AttemptBegun), (EndLine, AttemptEnded)):
        assert [one.name for one in msgspec.structs.fields(line)] == [one.name for one in dataclasses.fields(event)]
        required = [one.name for one in dataclasses.fields(event) if one.default is dataclasses.MISSING]
        assert [one.name for one in msgspec.structs.fields(line) if one.required] == required
    begun = attempt(1)[0]
    assert event_of(decode_begin(msgspec.json.encode(begun))) == begun


def test_a_known_row_keeps_its_hash() -> None:
    """Written on 2026-11-25: a change of it would break every ledger that there is."""
    row = row_of(*attempt(1))
    row["journal_run"], row["journal_seq"], row["prev_hash"] = "gateway-1", 1, "0" * 64
    assert row_hash(row) == "48e297d7eece01db1b209572d783bd59d4d1592411f0c382510f56af67503419"


def test_a_row_has_its_values_in_the_order_of_the_statement() -> None:
    assert tuple(row_of(*attempt(1))) == COLUMNS
    row_insert(create_engine("sqlite://").dialect)  # which refuses another order


def test_a_text_is_escaped_in_a_row_s_hash_as_json_escapes_it(tmp_path: Path) -> None:
    """What hashes is made by a faster encoder than the one that verifies: for each character they have to agree."""
    characters = [chr(code) for code in range(1, 0x11000) if not 0xD800 <= code < 0xE000]
    for first in range(0, len(characters), 5000):
        text = "".join(characters[first : first + 5000])
        begun, end = attempt(1, usage_raw=text)
        writer = JournalWriter(tmp_path / f"{first}", "gateway")
        writer.begin(begun)
        writer.end(end)
        writer.close()
        reader = RunReader(writer.folder)
        reader.read()
        [one] = reader.fold.ended
        assert fits(one)
        rows, head_hash = chained([one], "gateway-1", 0, FIRST_HASH)
        values = row_of(one.begun, one.end) | {"journal_run": "gateway-1", "journal_seq": 1, "prev_hash": FIRST_HASH}
        assert head_hash == row_hash(values)
        assert rows[0][COLUMNS.index("usage_raw")] == text
