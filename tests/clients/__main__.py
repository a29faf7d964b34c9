"""`python -m tests.clients`: installs the clients, fills the table, writes the page. Exit code 1: a cell got worse."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from tests.clients.answers import measure
from tests.clients.catalog import CLIENTS, FOLDER, STREAMS_ONLY
from tests.clients.cells import COLUMNS, is_worse
from tests.clients.conformance import Table, install_all
from tests.clients.page import PAGE, Line, read, render


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    words.add_argument("--fresh", action="store_true", help="install again what is installed already")
    words.add_argument("--accept", action="store_true", help="write the page even where a cell got worse")
    words.add_argument("--answers", action="store_true", help="how often each asks for one call, by answer; no page")
    words.add_argument("only", nargs="*", choices=[[], *(client.name for client in CLIENTS)], help="these; no page")
    asked = words.parse_args()
    only = tuple(asked.only)
    FOLDER.mkdir(exist_ok=True)
    versions = install_all(fresh=asked.fresh, say=_say, only=only)
    if asked.answers:
        measure(versions, only, _say)
        return 0
    before = read(PAGE.read_text("utf-8")) if PAGE.exists() else {}
    lines = Table(before, _say).fill(versions, only)
    worse = [words for line in lines for words in _worse(line, before.get(line.title))]
    for one in worse:
        print(f"worse: {one}", file=sys.stderr)
    if worse and not asked.accept:
        print(
            "docs/conformance.md is left as it is; --accept writes it (make test-clients CLIENTS=--accept)",
            file=sys.stderr,
        )
    elif not only:
        PAGE.write_text(render(lines, datetime.now(UTC).strftime("%Y-%m-%d"), STREAMS_ONLY), "utf-8")
    return 1 if worse and not asked.accept else 0


def _worse(line: Line, before: Line | None) -> list[str]:
    if before is None:
        return []
    return [
        f"{line.title}, {column}: {now!r}, was {was!r}"
        for column, now, was in zip(COLUMNS, line.cells, before.cells, strict=True)
        if is_worse(now, was)
    ]


def _say(text: str) -> None:
    print(text, flush=True)


sys.exit(main())
