"""Lines that are filled say what lines that are encoded say."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, Outcome
from tenantry.domain.usage import Usage
from tenantry.ledger.journal import JournalWriter, files_of
from tenantry.ledger.lines import decode_line
from tenantry.ledger.templates import begin_template, json_word, settled_line
from tenantry.wire.bytework import fill_line

SEED = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
ODD = ("", 'a "quoted" \\ one', "100%", "%d%b", "é\u2028", "tab\t", "claude-haiku-5-5", "\x7f", "🙂")
COUNTS = (0, 1, 255, 10**6, 10**12)


def lines_of(writer: JournalWriter) -> list[bytes]:
    writer.flush()
    return files_of(writer.folder)[-1].read_bytes().splitlines(keepends=True)


def test_a_filled_beginning_is_the_encoded_one(tmp_path: Path) -> None:
    print(f"TENANTRY_SEED={SEED}")
    chance, writer = random.Random(SEED), JournalWriter(tmp_path, "gateway")
    expected: list[AttemptBegun] = []
    for _ in range(300):
        ids = [chance.choice(ODD) for _ in range(4)]
        model, streaming, number = chance.choice(ODD), chance.random() < 0.5, chance.randrange(1, 12)
        numbers = [chance.choice(COUNTS) for _ in range(5)]
        name = b"%024x" % chance.getrandbits(96)
        template = begin_template(ids[0], ids[1], ids[2], ids[3], model, streaming)
        writer.add(fill_line(template, name, number, name, *numbers))
        event = AttemptBegun(
            f"att_{name.decode()}_{number}",
            f"req_{name.decode()}",
            *ids,
            model,
            streaming,
            numbers[0],
            numbers[1],
            "standard",
            "global",
            *numbers[2:],
        )
        writer.begin(event)
        expected += [event, event]
    assert [decode_line(line) for line in lines_of(writer)] == expected
    writer.close()


def test_a_filled_end_is_the_encoded_one(tmp_path: Path) -> None:
    print(f"TENANTRY_SEED={SEED}")
    chance, writer = random.Random(SEED), JournalWriter(tmp_path, "gateway")
    expected: list[AttemptEnded] = []
    for _ in range(300):
        one, two, three, four, five, six = (chance.choice(COUNTS) for _ in range(6))
        model, reason, upstream_id = chance.choice(ODD), chance.choice((None, *ODD)), chance.choice((None, *ODD))
        raw = json.dumps({"input_tokens": one, "x": chance.choice(("", "a", "{}"))})
        inside = json.dumps(raw)[1:-1].encode()
        name, number = b"%024x" % chance.getrandbits(96), chance.randrange(1, 12)
        at_us, first_us, cost = (chance.choice(COUNTS) for _ in range(3))
        counts = (one, two, three, four, five, six)
        writer.add(
            settled_line(
                name,
                number,
                at_us,
                first_us,
                model,
                reason,
                counts,
                inside,
                cost,
                "v-1",
                upstream_id,
            )
        )
        event = AttemptEnded(
            f"att_{name.decode()}_{number}",
            at_us,
            first_us,
            200,
            Outcome.SETTLED,
            model,
            reason,
            Usage(one, two, three, four, five, six),
            raw,
            cost,
            "v-1",
            upstream_id,
            None,
        )
        writer.end(event)
        expected += [event, event]
    assert len(expected) > 100
    assert [decode_line(line) for line in lines_of(writer)] == expected
    writer.close()


def test_words_are_written_as_the_encoder_writes_them() -> None:
    assert [json.loads(json_word(word)) for word in ODD] == list(ODD)
    assert json_word(None) == b"null"
