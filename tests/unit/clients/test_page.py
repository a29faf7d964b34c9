"""docs/conformance.md is written and read again without loss, and has a row for each client."""

from __future__ import annotations

from tests.clients.catalog import CLIENTS, STREAMS_ONLY
from tests.clients.cells import COLUMNS
from tests.clients.page import PAGE, Line, read, render


def test_a_page_is_read_as_it_was_written() -> None:
    lines = [
        Line("curl `--retry 2`", "7.88.1", ("works",) * len(COLUMNS)),
        Line("`llm`", "0.36, 0.30", tuple(f"{number} requests, says why" for number in range(len(COLUMNS)))),
    ]
    assert list(read(render(lines, "2026-11-29", STREAMS_ONLY)).values()) == lines


def test_the_page_has_a_row_of_all_columns_for_each_client_of_the_catalog() -> None:
    rows = read(PAGE.read_text("utf-8"))
    assert list(rows) == [client.title for client in CLIENTS]
    assert all(len(row.cells) == len(COLUMNS) for row in rows.values())
