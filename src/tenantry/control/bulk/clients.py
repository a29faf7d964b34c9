"""The rows of `clients.csv`, checked whole before the first client is made."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tenantry.control.declared.references import SECRET_BYTES_MAX
from tenantry.control.importing.secrets import classify
from tenantry.control.provisioning import CredentialChoice
from tenantry.control.site import UPSTREAM
from tenantry.domain.keys import BadName, is_slug, slugify
from tenantry.domain.money import BadAmount, read_amount
from tenantry.regular_files import read_regular

# A file of that many clients is more than one gateway serves.
CLIENTS_MAX = 10_000
FILE_BYTES_MAX = 4 << 20
TEXT_CHARS_MAX = 200

BUDGET_COLUMNS = {"day_usd": "day", "week_usd": "week", "month_usd": "month"}
COLUMNS = ("name", "slug", "tier", "credential", "shared", "contact", *BUDGET_COLUMNS)
# Takes what is wrong with the row at hand.
Problem = Callable[[str], None]

_DELIMITERS = ",;\t"
_YES, _NO = ("yes", "true", "1", "shared"), ("", "no", "false", "0")


class ClientsRefused(Exception):
    """The file cannot be used. `problems` names each with its line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Client:
    """One row. `credential` is a reference, `env:NAME`, `file:PATH` or `vault:NAME`; `budgets` are nano-dollars."""

    line: int
    name: str
    slug: str
    tier: str
    credential: str
    shared: bool
    contact: str | None
    budgets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Known:
    """What stands already: tiers, credentials by name and whether they are shared, tenants' names by slug."""

    tiers: Collection[str]
    credentials: Mapping[str, bool]
    tenants: Mapping[str, str]


def read_clients(path: Path, known: Known) -> list[Client]:
    """Every row of the file.

    Raises:
        ClientsRefused: something is wrong; it lists everything that is.
    """
    problems: list[str] = []
    rows = _rows(path, problems)
    clients = [client for line, row in rows if (client := _read_row(path, line, row, known, problems)) is not None]
    if not rows and not problems:
        problems.append(f"{path}: names no client")
    _check_together(path, clients, known, problems)
    if problems:
        raise ClientsRefused(problems)
    return clients


def choice_of(client: Client) -> CredentialChoice:
    """The credential that a client's reference means.

    Raises:
        ValueError: it means none; the message says why, never what it holds.
    """
    kind, _, rest = client.credential.partition(":")
    if kind == "vault":
        return CredentialChoice(name=rest, shared=client.shared, upstream=UPSTREAM)
    if kind == "env":
        secret = os.environ.get(rest, "").strip()
    else:
        try:
            secret = read_regular(Path(rest).expanduser(), SECRET_BYTES_MAX).decode("utf-8").strip()
        except (OSError, ValueError) as error:
            raise ValueError(f"the file {rest} cannot be read ({type(error).__name__})") from None
    found = classify(secret)
    if found.is_refused:
        raise ValueError(f"{client.credential} {found.value}")
    return CredentialChoice(secret=secret, shared=client.shared, upstream=UPSTREAM)


def _rows(path: Path, problems: list[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows by line, each with all columns."""
    try:
        data = read_regular(path, FILE_BYTES_MAX)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.append(f"{path}: cannot be read: {reason}")
        return []
    if len(data) > FILE_BYTES_MAX:
        problems.append(f"{path}: is larger than {FILE_BYTES_MAX >> 20} MiB: is it the right file?")
        return []
    head = text.partition("\n")[0]
    # Spreadsheets in many countries write semicolons.
    reader = csv.reader(io.StringIO(text), delimiter=max(_DELIMITERS, key=head.count), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        names = [name.strip().lower() for name in next(iter(reader), list[str]())]
        if not _check_names(path, names, problems):
            return []
        line = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                _add_row(path, line, names, cells, rows, problems)
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append(f"{path}:{reader.line_num}: is not valid CSV: {error}")
    if len(rows) > CLIENTS_MAX:
        problems.append(f"{path}: has more than {CLIENTS_MAX:,} clients")
        return []
    return rows


def _check_names(path: Path, names: list[str], problems: list[str]) -> bool:
    before = len(problems)
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(COLUMNS)}"
            problems.append(f"{path}:1: there is no column {name!r}{hint}")
        elif names.count(name) > 1:
            problems.append(f"{path}:1: the column {name} is there twice")
    for name in ("name", "credential"):
        if name not in names:
            problems.append(f"{path}:1: the column {name} is missing")
    return len(problems) == before


def _add_row(
    path: Path,
    line: int,
    names: list[str],
    cells: list[str],
    rows: list[tuple[int, dict[str, str]]],
    problems: list[str],
) -> None:
    if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
        problems.append(f"{path}:{line}: has more cells than the first line has columns")
        return
    found = dict(zip(names, (cell.strip() for cell in cells), strict=False))
    rows.append((line, {name: found.get(name, "") for name in COLUMNS}))


def _read_row(path: Path, line: int, row: dict[str, str], known: Known, problems: list[str]) -> Client | None:
    before = len(problems)

    def problem(text: str) -> None:
        problems.append(f"{path}:{line}: {text}")

    for column in ("name", "contact"):
        if len(row[column]) > TEXT_CHARS_MAX or not row[column].isprintable():
            problem(f"{column} must be a text of at most {TEXT_CHARS_MAX} characters on one line")
    slug = _slug(row, problem)
    tier = row["tier"] or "standard"
    if tier not in known.tiers:
        problem(f"there is no tier {tier!r}; there are: {', '.join(sorted(known.tiers))}")
    if row["shared"].lower() not in (*_YES, *_NO):
        problem("shared must be yes or no")
    budgets = {period: _budget(column, row, problem) for column, period in BUDGET_COLUMNS.items() if row[column]}
    client = Client(
        line,
        row["name"],
        slug,
        tier,
        row["credential"],
        row["shared"].lower() in _YES,
        row["contact"] or None,
        budgets,
    )
    standing = known.tenants.get(slug)
    if standing is not None and standing != row["name"]:
        problem(f"there is a tenant {slug} already, and its name is {standing!r}: give this one another slug")
    elif standing is None:
        _check_credential(client, known, problem)
    return client if len(problems) == before else None


def _slug(row: dict[str, str], problem: Problem) -> str:
    if not row["name"]:
        problem("has no name")
        return ""
    try:
        slug = row["slug"] or slugify(row["name"])
    except BadName:
        problem("name has no letter or digit of the Latin alphabet; give a slug")
        return ""
    if not is_slug(slug):
        problem(f"{slug!r} is not a slug: use a-z, 0-9 and inner hyphens, 63 characters at most")
    return slug


def _budget(column: str, row: dict[str, str], problem: Problem) -> int:
    try:
        return read_amount(row[column])
    except BadAmount as error:
        problem(f"{column}: {error}")
        return 0


def _check_credential(client: Client, known: Known, problem: Problem) -> None:
    kind, colon, rest = client.credential.partition(":")
    if not colon or not rest or kind not in ("env", "file", "vault"):
        # What stands there may be the secret itself.
        problem("credential must be env:NAME, file:PATH or vault:NAME; a secret never stands in the file")
        return
    if kind == "vault" and rest not in known.credentials:
        problem(f"there is no credential {rest!r}; `tenantry credentials list` names them")
        return
    try:
        choice_of(client)
    except ValueError as error:
        problem(str(error))


def _check_together(path: Path, clients: list[Client], known: Known, problems: list[str]) -> None:
    slugs: dict[str, int] = {}
    sources: dict[str, Client] = {}
    for client in clients:
        first = slugs.setdefault(client.slug, client.line)
        if first != client.line:
            problems.append(f"{path}:{client.line}: would be the tenant {client.slug}, as line {first} is")
            continue
        if known.credentials.get(client.credential.removeprefix("vault:")):
            continue
        other = sources.setdefault(client.credential, client)
        if other is not client and not (client.shared and other.shared):
            problems.append(
                f"{path}:{client.line}: has the same credential as line {other.line}: one key for two clients mixes "
                "their limits and data; declare it in the column shared of both, if it must be"
            )
