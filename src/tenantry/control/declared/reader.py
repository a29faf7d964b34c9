"""Files of tenants, read strictly: everything that is wrong is told at once, with its line and what was meant."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path as FilePath
from typing import Any, cast
from zoneinfo import ZoneInfo

from tenantry.control.declared.fields import (
    ALERT_FIELDS,
    BUDGET_FIELDS,
    KEY_FIELDS,
    LABEL_CHARS_MAX,
    PLAN_FIELDS,
    TENANT_FIELDS,
    BadField,
    Field,
    read_expiry,
)
from tenantry.control.declared.model import BadDeclaration, Declaration, KeyBlock, Path, Problem, TenantBlock
from tenantry.control.declared.positions import find_lines
from tenantry.domain.keys import is_slug
from tenantry.domain.limits import EVERY, KEY_LIMITS, LIMITS, NO_TOOLS, BadLimit, Limits, read_limit
from tenantry.domain.plans import BadTerms, Terms, check_terms
from tenantry.regular_files import read_regular
from tenantry.storage.directory import first_limits
from tenantry.toml_files import parse_toml

DEFAULT_FILE = "tenants.toml"
DEFAULT_FOLDER = "tenants.d"
# 500 tenants with every field are half a megabyte.
FILE_BYTES_MAX = 16 * 1024 * 1024

# How `tomllib` says where it stumbled.
_TOML_PLACE = re.compile(r"\(at line (\d+), column \d+\)")

TABLES = ("tiers", "plans", "tenants")
_TENANT_TABLES = ("limits", "budget", "alerts", "keys")


def find_files(named: Iterable[FilePath], folder: FilePath) -> list[FilePath]:
    """The files that are named, folders as every `*.toml` in them; else the default ones below `folder`.

    Raises:
        BadDeclaration: there is none.
    """
    wanted = list(named)
    if not wanted:
        wanted = [path for path in (folder / DEFAULT_FILE, folder / DEFAULT_FOLDER) if path.exists()]
    if not wanted:
        text = f"there is no such file, nor {DEFAULT_FOLDER}/; `tenantry tenants export --out {DEFAULT_FILE}` writes it"
        raise BadDeclaration([Problem(DEFAULT_FILE, 0, text)])
    files = [file for path in wanted for file in (sorted(path.glob("*.toml")) if path.is_dir() else [path])]
    if not files:
        raise BadDeclaration([Problem(str(wanted[0]), 0, "there is no *.toml file in this folder")])
    return files


def read_files(files: Iterable[FilePath], zone: ZoneInfo) -> Declaration:
    """What the files declare together.

    Raises:
        BadDeclaration: it lists everything that is wrong in all of them.
    """
    documents: dict[str, Any] = {}
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for file in files:
        name = str(file)
        try:
            data = read_regular(file, FILE_BYTES_MAX)
            if len(data) > FILE_BYTES_MAX:
                raise ValueError(f"larger than {FILE_BYTES_MAX // 1024 // 1024} MB")
            text = data.decode("utf-8-sig")
            documents[name] = parse_toml(text)
            texts[name] = text
        except tomllib.TOMLDecodeError as error:
            found = _TOML_PLACE.search(str(error))
            problems.append(Problem(name, int(found.group(1)) if found else 0, str(error)))
        except (OSError, ValueError) as error:
            problems.append(Problem(name, 0, getattr(error, "strerror", None) or str(error)))
    return _read(documents, texts, zone, problems)


def read_documents(documents: Mapping[str, Any], zone: ZoneInfo) -> Declaration:
    """What documents declare that `tomllib` has read before.

    Raises:
        BadDeclaration: something is wrong in them.
    """
    return _read(documents, {}, zone, [])


def _read(
    documents: Mapping[str, Any], texts: Mapping[str, str], zone: ZoneInfo, problems: list[Problem]
) -> Declaration:
    reader = _Reader(_Lines(texts), zone, problems)
    for file, document in documents.items():
        reader.read(file, document)
    if problems:
        raise BadDeclaration(problems)
    return Declaration(reader.tiers, reader.plans, reader.tenants, True, documents, reader.find_place)


class _Lines:
    """On which line what stands, looked up when somebody asks: it takes as long as all the rest of the reading."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._found: dict[str, dict[Path, int]] = {}

    def of(self, file: str) -> Mapping[Path, int]:
        if file not in self._found:
            self._found[file] = find_lines(self._texts[file]) if file in self._texts else {}
        return self._found[file]


class _Reader:
    """Collects what files declare, and what is wrong with it."""

    def __init__(self, lines: _Lines, zone: ZoneInfo, problems: list[Problem]) -> None:
        self._lines = lines
        self._problems = problems
        self._key_fields = KEY_FIELDS | {
            "expires": Field(read_expiry(zone), KEY_FIELDS["expires"].help, KEY_FIELDS["expires"].schema)
        }
        self._file = ""
        self._files: dict[Path, str] = {}
        self.tiers: dict[str, Limits] = {}
        self.plans: dict[str, Terms] = {}
        self.tenants: dict[str, TenantBlock] = {}

    def read(self, file: str, document: Mapping[str, Any]) -> None:
        self._file = file
        self._require_known((), document, TABLES, ())
        for table in TABLES:
            for name, block in self._table((table,), document.get(table, {})).items():
                path = (table, name)
                known = self._files.setdefault(path, file)
                if known != file:
                    line = self._lines.of(known).get(path, 0)
                    self._wrong(path, f"{table[:-1]} {name!r} is declared already in {known}, line {line}")
                    continue
                if not is_slug(name):
                    self._wrong(path, f"{name!r} is not a name: use a-z, 0-9 and inner hyphens, 63 characters at most")
                self._block(table, name, self._table(path, block))

    def find_place(self, path: Path) -> tuple[str, int] | None:
        """The file and the line of a path that one of the files has."""
        own = self._files.get(path[:2])
        for file in [own] if own is not None else dict.fromkeys(self._files.values()):
            line = self._lines.of(file).get(path)
            if line is not None:
                return file, line
        return (own, 0) if own is not None and len(path) == 2 else None  # of a plan no line is known

    def _block(self, table: str, name: str, block: Mapping[str, Any]) -> None:
        path = (table, name)
        if table == "tiers":
            self.tiers[name] = first_limits(name).with_changes(self._limits(path, block, tuple(LIMITS)))
        elif table == "plans":
            found = self._fields(path, block, PLAN_FIELDS, ())
            self.plans[name] = Terms(**{field.replace("_usd", "_nanos"): value for field, value in found.items()})
            try:
                check_terms(self.plans[name])
            except BadTerms as error:
                self._wrong(path, f"{_dotted(path)}: {error}")
        else:
            self.tenants[name] = self._tenant(path, block)

    def _tenant(self, path: Path, block: Mapping[str, Any]) -> TenantBlock:
        values = self._fields(path, block, TENANT_FIELDS, _TENANT_TABLES)
        if "name" not in block:
            self._wrong(path, f"{_dotted(path)} needs a name")
        values.setdefault("name", path[-1])
        budget = self._fields((*path, "budget"), self._below(path, block, "budget"), BUDGET_FIELDS, ())
        alerts = self._fields((*path, "alerts"), self._below(path, block, "alerts"), ALERT_FIELDS, ())
        keys = self._keys((*path, "keys"), self._below(path, block, "keys")) if "keys" in block else None
        return TenantBlock(
            **values,
            limits=self._limits((*path, "limits"), self._below(path, block, "limits"), tuple(LIMITS)),
            month_nanos=budget.get("month_usd"),
            week_nanos=budget.get("week_usd"),
            day_nanos=budget.get("day_usd"),
            budget_mode=budget.get("mode", "hard"),
            thresholds=alerts.get("thresholds"),
            targets=alerts.get("targets", ()),
            keys=keys,
        )

    def _keys(self, path: Path, blocks: Mapping[str, Any]) -> dict[str, KeyBlock]:
        keys: dict[str, KeyBlock] = {}
        for label, block in blocks.items():
            if not label.strip() or len(label) > LABEL_CHARS_MAX or not label.isprintable():
                self._wrong((*path, label), f"a key's label has 1 to {LABEL_CHARS_MAX} characters on one line")
            table = self._table((*path, label), block)
            found = self._fields((*path, label), table, self._key_fields, ("limits",))
            limits = self._limits((*path, label, "limits"), self._below((*path, label), table, "limits"), KEY_LIMITS)
            keys[label] = KeyBlock(found.get("expires"), found.get("rotate_days"), limits, found.get("digest_of"))
        return keys

    def _fields(
        self, path: Path, block: Mapping[str, Any], fields: Mapping[str, Field], tables: tuple[str, ...]
    ) -> dict[str, Any]:
        self._require_known(path, block, fields, tables)
        return self._values(path, block, {name: fields[name].read for name in block if name in fields})

    def _limits(self, path: Path, block: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        self._require_known(path, block, names, ())
        return self._values(path, block, {name: _limit_reader(name) for name in block if name in names})

    def _values(
        self, path: Path, block: Mapping[str, Any], readers: Mapping[str, Callable[[Any], Any]]
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, raw in block.items():
            if name in readers:
                try:
                    values[name] = readers[name](raw)
                except BadField as error:
                    self._wrong((*path, name), f"{_dotted((*path, name))} {error}")
                except BadLimit as error:
                    self._wrong((*path, name), f"{_dotted(path)}: {error}")
        return values

    def _below(self, path: Path, block: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        return self._table((*path, name), block.get(name, {}))

    def _table(self, path: Path, raw: object) -> Mapping[str, Any]:
        if isinstance(raw, dict):
            return cast("dict[str, Any]", raw)
        self._wrong(path, f"{_dotted(path)} must be a table, such as [{_dotted(path)}]")
        return {}

    def _require_known(
        self, path: Path, block: Mapping[str, Any], fields: Collection[str], tables: Collection[str]
    ) -> None:
        for name in block:
            if name not in fields and name not in tables:
                names, where = [*fields, *tables], _dotted(path) or "the file"
                near = difflib.get_close_matches(name, names, 1, 0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"it may have: {', '.join(names)}"
                self._wrong((*path, name), f"{where} has no field {name!r}; {hint}")

    def _wrong(self, path: Path, text: str) -> None:
        self._problems.append(Problem(self._file, self._line(path), text))

    def _line(self, path: Path) -> int:
        lines = self._lines.of(self._file)
        return next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), 0)


def _limit_reader(name: str) -> Callable[[Any], Any]:
    def read(raw: object) -> Any:
        if raw == []:
            others = f', or ["{NO_TOOLS}"] for not any' if name == "server_tools" else ""
            raise BadLimit(f'{name} = [] names nothing, and would allow everything: write ["{EVERY}"] for that{others}')
        if isinstance(raw, str) and raw.lstrip("-").isdigit():
            raise BadLimit(f"{name} must be a number without quotes, not {raw!r}")
        return read_limit(name, raw)

    return read


def _dotted(path: Path) -> str:
    return ".".join(part if part.replace("-", "").replace("_", "").isalnum() else f'"{part}"' for part in path)
