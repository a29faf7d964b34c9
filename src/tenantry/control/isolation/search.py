"""Searches everything a site writes for secrets in the clear."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Engine, String, Table, Text, literal, or_, select
from sqlalchemy.exc import SQLAlchemyError

from tenantry.control.isolation.client import Address, NoAnswer, ask, request
from tenantry.control.isolation.findings import Group
from tenantry.storage.tables import ledger, metadata

READ_BYTES = 1 << 20
# What is read at most; a database beyond it is searched by query all the same.
SEARCH_BYTES_MAX = 2 << 30
# In each of some twenty columns: SQLite takes a thousand conditions in one query.
SOUGHT_AT_ONCE = 10


class Needles:
    """Secrets to look for, by name. Names may be shown, secrets never."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}
        self._any: re.Pattern[bytes] | None = None

    def with_all(self, others: Needles) -> Needles:
        """These and others."""
        both = Needles()
        for name, text in [*self._pairs(), *others._pairs()]:
            both.add(name, text)
        return both

    def _pairs(self) -> list[tuple[str, str]]:
        return [(name, text.decode()) for text, name in self._names.items()]

    def add(self, name: str, secret: str) -> None:
        self._names[secret.encode()] = name
        self._any = re.compile(b"|".join(re.escape(text) for text in self._names))

    def find(self, data: bytes) -> list[str]:
        """The names of the secrets that `data` holds."""
        if self._any is None:
            return []
        return sorted({self._names[found] for found in self._any.findall(data)})

    @property
    def texts(self) -> Mapping[str, str]:
        """Secrets by name, for a query."""
        return dict(self._pairs())

    @property
    def longest(self) -> int:
        return max(map(len, self._names), default=0)

    def __len__(self) -> int:
        return len(self._names)


def search_files(group: Group, needles: Needles, paths: Iterable[Path], since: float) -> list[str]:
    """Every file below `paths` that was written since then (unix seconds); what was too large to read is returned."""
    too_large: list[str] = []
    left, files, size, clean = SEARCH_BYTES_MAX, 0, 0, True
    for path in _files(paths, since):
        try:
            length = path.stat().st_size
            if length > left:
                too_large.append(str(path))
                continue
            found = _search_file(path, needles)
        except FileNotFoundError:  # such as a database's journal that has just been folded in
            continue
        except OSError as error:
            clean = group.add(f"file {path}", "to be readable", str(error), False)
            continue
        left, files, size = left - length, files + 1, size + length
        if found:
            clean = group.add(f"file {path}", "no secret", f"holds {', '.join(found)}", False)
    if clean:
        seen = f"0 in {files} files, {size:,} bytes"
        group.add(f"{len(needles)} secrets in files: journal, database, logs, exports", "0 hits", seen, True)
    return too_large


def _files(paths: Iterable[Path], since: float) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            yield path
            continue
        for folder, _, names in os.walk(path):
            for name in sorted(names):
                file = Path(folder) / name
                if file.is_file() and file.stat().st_mtime >= since - 2:
                    yield file


def _search_file(path: Path, needles: Needles) -> list[str]:
    found: set[str] = set()
    with path.open("rb") as file:
        tail = b""
        while part := file.read(READ_BYTES):
            found.update(needles.find(tail + part))
            tail = (tail + part)[-needles.longest :]
    return sorted(found)


def search_database(group: Group, engine: Engine, needles: Needles, since: float) -> None:
    """Every text column of every table."""
    columns, clean = 0, True
    try:
        with engine.connect() as connection:
            for table in metadata.sorted_tables:
                texts = [column for column in table.columns if isinstance(column.type, String | Text)]
                columns += len(texts)
                if texts and _holds_any(connection, table, texts, list(needles.texts.values()), since):
                    held = [
                        name
                        for name, secret in needles.texts.items()
                        if _holds_any(connection, table, texts, [secret], since)
                    ]
                    clean = group.add(f"table {table.name}", "no secret", f"holds {', '.join(held)}", False)
    except SQLAlchemyError as error:
        clean = group.add("the database", "to be readable", str(error).splitlines()[0], False)
    if clean:
        group.add(f"{len(needles)} secrets in the database", "0 hits", f"0 in {columns} text columns", True)


def _holds_any(
    connection: Connection, table: Table, texts: Sequence[Column[Any]], secrets: Sequence[str], since: float
) -> bool:
    for first in range(0, len(secrets), SOUGHT_AT_ONCE):
        some = secrets[first : first + SOUGHT_AT_ONCE]
        holds = [column.contains(secret, autoescape=True) for column in texts for secret in some]
        query = select(literal(1)).select_from(table).where(or_(*holds)).limit(1)
        if table is ledger:  # the one that grows large; a row of before cannot hold what is made now
            query = query.where(ledger.c.begun_at_us >= int((since - 2) * 1_000_000))
        if connection.execute(query).first() is not None:
            return True
    return False


def search_processes(group: Group, needles: Needles) -> None:
    """The command lines that everyone on this machine can read."""
    found: set[str] = set()
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.update(needles.find(path.read_bytes()))
            count += 1
        except OSError:  # the process has ended, or is not ours to see
            continue
    group.add("secrets in process lists", "0 hits", ", ".join(sorted(found)) or f"0 in {count} processes", not found)


def search_metrics(group: Group, needles: Needles, gateway: Address, control: tuple[str, int]) -> list[str]:
    """`/metrics` of both processes where there is one; what there is not is returned."""
    missing: list[str] = []
    for where, text in (("gateway", _gateway_metrics(gateway)), ("control", _control_metrics(*control))):
        if text is None:
            missing.append(f"/metrics of the {where}: there is none, or it is not open to this command")
            continue
        found = needles.find(text)
        seen = ", ".join(found) or f"0 in {len(text):,} bytes"
        group.add(f"secrets in /metrics of the {where}", "0 hits", seen, not found)
    return missing


def _gateway_metrics(address: Address) -> bytes | None:
    try:
        answer = ask(address, request(b"GET", b"/metrics", [b"connection: close"]), b"GET")[0]
    except NoAnswer:
        return None
    return answer.body if answer.status == 200 else None


def _control_metrics(host: str, port: int) -> bytes | None:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return text if response.status == 200 else None
