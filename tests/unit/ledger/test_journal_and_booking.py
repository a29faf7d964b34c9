"""The journal's files and their way into the ledger: real files, a real SQLite."""

import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from sqlalchemy import Engine, delete, select

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress, Outcome
from tenantry.domain.prices import load_default_prices
from tenantry.domain.usage import Usage
from tenantry.ledger.booking import Drain
from tenantry.ledger.events import DAMAGED, RunFold, RunReader
from tenantry.ledger.journal import JournalUnavailable, JournalWriter, files_of, is_alive
from tenantry.ledger.lines import Event, decode_line
from tenantry.ledger.rows import FIRST_HASH, row_hash
from tenantry.ledger.verification import verify
from tenantry.storage.tables import journals, ledger
from tests.template import new_store

USAGE = Usage(input_tokens=1000, output_tokens=10)
ENDED = AttemptEnded(
    "a1",
    2_000_000,
    1_500_000,
    200,
    Outcome.SETTLED,
    "claude-haiku-5-5",
    "end_turn",
    USAGE,
    "{}",
    5,
    "v",
    "req_up",
    None,
)


def begun(attempt_id: str) -> AttemptBegun:
    return AttemptBegun(attempt_id, "req_1", "tnt", "key", "crd", "ups", "claude-haiku-5-5", True, 1_000_000)


def ended(attempt_id: str, **changes: object) -> AttemptEnded:
    return replace(ENDED, attempt_id=attempt_id, **changes)  # pyright: ignore[reportArgumentType] -- fields by name


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    made = JournalWriter(tmp_path / "journal", "gateway")
    yield made
    made.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "x.db")
    yield made
    made.dispose()


def run_of(writer: JournalWriter, tmp_path: Path) -> Path:
    return tmp_path / "journal" / writer.run_id


def events_in(path: Path) -> list[Event | None]:
    return [decode_line(line) for line in path.read_bytes().splitlines(keepends=True)]


def write(writer: JournalWriter, *events: AttemptBegun | AttemptProgress | AttemptEnded) -> None:
    for event in events:
        if isinstance(event, AttemptBegun):
            writer.begin(event)
        elif isinstance(event, AttemptProgress):
            writer.progress(event)
        else:
            writer.end(event)
    writer.flush()


def rows(engine: Engine) -> list[dict[str, object]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(ledger).order_by(ledger.c.entry_id)).mappings()]


def test_what_is_flushed_can_be_read_back(writer: JournalWriter, tmp_path: Path) -> None:
    events = [begun("a1"), AttemptProgress("a1", "claude-haiku-5-5", USAGE, "req_up"), ended("a1")]
    write(writer, *events)
    [path] = files_of(run_of(writer, tmp_path))
    assert events_in(path) == events


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_passed_over_and_a_damaged_one_is_told(
    writer: JournalWriter, tmp_path: Path, cut: int
) -> None:
    write(writer, begun("a1"), begun("a2"))
    [path] = files_of(run_of(writer, tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    fold = read(path)
    assert (list(fold.open), fold.unusable) == (["a1"], [])
    path.write_bytes(whole[:cut] + b"#" + whole[cut + 1 :])
    fold = read(path)
    assert (list(fold.open), [one.reason for one in fold.unusable]) == (["a2"], [DAMAGED])


def read(path: Path) -> RunFold:
    reader = RunReader(path.parent)
    reader.read()
    return reader.fold


def test_a_living_run_is_told_from_a_dead_one(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "gateway")
    assert is_alive(tmp_path / writer.run_id)
    writer.close()
    assert not is_alive(tmp_path / writer.run_id)


def test_a_full_disk_refuses_begins_keeps_ends_and_recovers_by_itself(writer: JournalWriter, tmp_path: Path) -> None:
    write(writer, begun("a1"))
    [path] = files_of(run_of(writer, tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))  # Python ignores SIGXFSZ
    try:
        for event in (begun("a2"), ended("a1")):
            with pytest.raises(JournalUnavailable):
                write(writer, event)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    write(writer, begun("a3"))
    assert events_in(path) == [begun("a1"), ended("a1"), begun("a3")]


def test_ends_that_a_full_disk_has_kept_out_to_the_last_are_told(
    writer: JournalWriter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(writer, begun("a1"))
    [path] = files_of(run_of(writer, tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(JournalUnavailable):
            write(writer, ended("a1"))
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert events_in(path) == [begun("a1")]
    [said] = caplog.messages
    assert said.startswith("the journal could not be written to its end: 1 answers are booked at ")


def test_a_long_run_makes_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setattr("tenantry.ledger.journal.FILE_BYTES_MAX", 2000)
    writer = JournalWriter(tmp_path / "journal", "gateway")
    for number in range(20):
        write(writer, begun(f"a{number}"), ended(f"a{number}"))
        writer.sync()
    assert len(files_of(run_of(writer, tmp_path))) > 3
    writer.close()
    assert Drain(engine, tmp_path / "journal", load_default_prices()).step() == 20
    assert [row["attempt_id"] for row in rows(engine)] == [f"a{number}" for number in range(20)]
    assert list((tmp_path / "journal").iterdir()) == []


def test_the_next_file_costs_the_event_loop_no_wait_for_the_disk(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.ledger.journal.FILE_BYTES_MAX", 1000)
    waits: list[str] = []
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(f"tenantry.ledger.journal.os.{name}", lambda descriptor: waits.append(path_of(descriptor)))
    run = run_of(writer, tmp_path)
    count = 1
    for number in range(20):
        write(writer, begun(f"a{number}"))
        assert waits == []
        first = files_of(run)[-1]
        writer.sync()
        # Whatever had lines since the last sync is on the disk with this one, its name and those before it first.
        assert waits[-1] == str(first)
        if len(files_of(run)) > count:
            assert waits == [str(files_of(run)[-2]), str(run), str(first)]
        count = len(files_of(run))
        waits.clear()
    assert count > 3
    found = [event for path in files_of(run) for event in events_in(path)]
    assert found == [begun(f"a{number}") for number in range(20)]


def path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def test_a_reader_leaves_no_file_before_its_last_line(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    """The next file is ready, and lines still go to the one before."""
    monkeypatch.setattr("tenantry.ledger.journal.FILE_BYTES_MAX", 1)
    drain = Drain(engine, tmp_path / "journal", load_default_prices())
    for number in range(5):
        write(writer, begun(f"a{number}"))
        writer.sync()
        drain.step()
        write(writer, ended(f"a{number}"))
        assert drain.step() == 1


def test_a_file_that_cannot_follow_lets_the_one_before_grow(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.ledger.journal.FILE_BYTES_MAX", 1)
    run = run_of(writer, tmp_path)
    write(writer, begun("a1"))
    writer.sync()
    (run / "next").unlink()  # its number cannot be given
    write(writer, begun("a2"), begun("a3"))
    assert len(files_of(run)) == 1
    writer.sync()
    write(writer, begun("a4"))
    assert [events_in(path) for path in files_of(run)] == [
        [begun("a1"), begun("a2"), begun("a3")],
        [begun("a4")],
    ]


def test_draining_again_books_nothing_twice(writer: JournalWriter, tmp_path: Path, engine: Engine) -> None:
    drain = Drain(engine, tmp_path / "journal", load_default_prices())
    write(writer, begun("a1"), begun("a2"), ended("a1"))
    assert drain.step() == 1
    assert drain.step() == 0
    drain.forget()
    assert drain.step() == 0
    with engine.begin() as connection:
        connection.execute(delete(journals))  # the cursor is lost: every line is read again
    drain.forget()
    write(writer, ended("a2"))
    assert drain.step() == 1
    assert [row["attempt_id"] for row in rows(engine)] == ["a1", "a2"]


def test_a_drain_has_news_when_a_run_that_it_knows_has_grown(
    writer: JournalWriter, tmp_path: Path, engine: Engine
) -> None:
    drain = Drain(engine, tmp_path / "journal", load_default_prices())
    write(writer, begun("a1"))
    assert not drain.has_news()  # of a run that it does not know
    drain.step()
    assert not drain.has_news()
    write(writer, ended("a1"))
    assert drain.has_news()
    drain.step()
    assert not drain.has_news()
    writer.close()
    drain.step()
    assert not drain.has_news()


def test_an_attempt_that_ends_twice_is_booked_once_and_its_neighbours_too(
    writer: JournalWriter, tmp_path: Path, engine: Engine
) -> None:
    twice = [begun("a2"), ended("a2"), begun("a2"), ended("a2", cost_nanos=6)]
    write(writer, begun("a1"), ended("a1"), *twice, begun("a3"), ended("a3"))
    assert Drain(engine, tmp_path / "journal", load_default_prices()).step() == 3
    assert [(row["attempt_id"], row["journal_seq"], row["cost_nanos"]) for row in rows(engine)] == [
        ("a1", 1, 5),
        ("a2", 2, 5),
        ("a3", 3, 5),
    ]
    assert verify(engine).fault_count == 0


def test_a_line_that_says_more_than_one_thing_is_read_as_before(writer: JournalWriter, tmp_path: Path) -> None:
    event = msgspec.json.encode(begun("a1"))
    for body in (b'{"begin":%b,"later":1}' % event, b'{ "begin" : %b }' % event):
        assert decode_line(b"%08x %b\n" % (crc32(body), body)) == begun("a1")
    for body in (b'{"begin":%b' % event, b'{"begin":%b}}' % event, b'{"begin":1}', b"{}", b""):
        assert decode_line(b"%08x %b\n" % (crc32(body), body)) is None


def test_what_a_dead_gateway_left_open_is_orphaned_with_what_was_known(
    writer: JournalWriter, tmp_path: Path, engine: Engine
) -> None:
    write(writer, begun("told"), begun("silent"), AttemptProgress("told", "claude-haiku-5-5", USAGE, "req_up"))
    drain = Drain(engine, tmp_path / "journal", load_default_prices())
    assert drain.step() == 0  # it lives: the end may come
    writer.close()
    assert drain.step() == 2
    told, silent = rows(engine)
    assert (told["outcome"], told["input_tokens"], told["upstream_request_id"]) == ("orphaned", 1000, "req_up")
    assert (silent["outcome"], silent["input_tokens"], silent["cost_nanos"]) == ("orphaned", 0, 0)
    assert told["cost_nanos"]


def test_rows_of_a_run_are_chained(writer: JournalWriter, tmp_path: Path, engine: Engine) -> None:
    drain = Drain(engine, tmp_path / "journal", load_default_prices())
    for number in range(5):
        write(writer, begun(f"a{number}"), ended(f"a{number}"))
        if number % 2:
            drain.forget()
        drain.step()
    previous = FIRST_HASH
    for seq, row in enumerate(rows(engine), 1):
        assert (row["journal_seq"], row["prev_hash"]) == (seq, previous)
        assert row_hash(row) == row["row_hash"]
        previous = str(row["row_hash"])


def test_the_journal_is_for_its_owner_only(writer: JournalWriter, tmp_path: Path) -> None:
    run = run_of(writer, tmp_path)
    assert run.stat().st_mode & 0o777 == 0o700
    assert {os.stat(path).st_mode & 0o777 for path in run.iterdir()} == {0o600}


def test_a_journal_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnavailable, match="file"):
        JournalWriter(tmp_path / "file", "gateway")


def test_two_drains_of_one_journal_book_each_attempt_once_and_on_one_chain(
    writer: JournalWriter, tmp_path: Path, engine: Engine
) -> None:
    one, other = (Drain(engine, tmp_path / "journal", load_default_prices()) for _ in range(2))
    counts: list[int] = []
    for number in range(6):
        write(writer, begun(f"a{number}"), ended(f"a{number}"))
        counts += [drain.step() for drain in ((one, other) if number % 3 else (other, one))]
        counts.append(other.step())  # who had been overtaken reads on from where the other stands
    found = verify(engine)
    assert (sum(counts), found.rows, found.fault_count) == (6, 6, 0)


def test_a_drain_that_was_stopped_for_long_books_nothing_on_what_it_remembers(
    writer: JournalWriter, tmp_path: Path, engine: Engine
) -> None:
    stopped, other = (Drain(engine, tmp_path / "journal", load_default_prices()) for _ in range(2))
    write(writer, begun("a1"), ended("a1"), begun("a2"))
    assert stopped.step() == 1
    write(writer, ended("a2"), begun("a3"), ended("a3"))
    writer.close()
    assert other.step() == 2  # to its end: the journal is gone
    assert stopped.step() == 0
    with engine.connect() as connection:
        assert connection.execute(select(journals.c.closed_at)).scalar_one() is not None
    found = verify(engine)
    assert (found.rows, found.fault_count) == (3, 0)
