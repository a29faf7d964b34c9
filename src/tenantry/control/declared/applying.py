"""Apply: exactly what was planned, in one transaction, or nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from tenantry.control.declared.closing import write_statements
from tenantry.control.declared.executing import Executor, NewKey
from tenantry.control.declared.model import Declaration
from tenantry.control.declared.planning import Plan, compare, needed_references
from tenantry.control.declared.references import References, SecretUnavailable
from tenantry.control.live_check import LiveCheckFailed, check_live
from tenantry.control.site import Site, endpoint_of
from tenantry.regular_files import sync_folder
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import Directory

# Each check is mostly waiting; more at once would look like an attack to a small upstream.
PROBES_AT_ONCE = 8
MOVES_SHOWN_MAX = 3


_LEFT = (
    "an apply was interrupted after it made keys; they work, and are in {}: "
    "move that file to where you need it, then apply again"
)


class ApplyRefused(Exception):
    """Nothing was changed; the message says why."""


@dataclass(frozen=True, slots=True)
class Applied:
    """`keys` are known only now, unless they went to a file."""

    keys: list[NewKey]
    statements: list[Path]


@dataclass(frozen=True, slots=True)
class Probe:
    """The live check of a new tenant: a sentence, and whether it is good news."""

    tenant: str
    ok: bool
    text: str


def require_same(plan: Plan, made: Mapping[str, Any], directory: Directory) -> None:
    """Whether a plan from a file is still the plan.

    Raises:
        ApplyRefused: the state moved, or the plan would be another now.
    """
    if plan.standing.version != made["directory_version"]:
        raise ApplyRefused(_moved(directory, int(made["directory_version"])))
    then = [{name: value for name, value in one.items() if name != "words"} for one in made["changes"]]
    if _comparable(plan) != json.dumps(then, sort_keys=True):
        raise ApplyRefused("the plan would be another now: a secret, a key's age or the file of the plan differs")


def apply_plan(site: Site, plan: Plan, references: References, *, keys_out: Path | None, statements: Path) -> Applied:
    """Carry out a plan. `keys_out` gets the new keys, one JSON object a line, readable by its owner only.

    Raises:
        ApplyRefused: the state moved since the plan, a secret is not at hand, or somebody else is at it.
        DirectoryError: the directory refuses one of the changes.
    """
    _require_secrets(plan, references)
    try:
        written = write_statements(site, plan, statements)
    except OSError as error:
        raise ApplyRefused(f"{error.filename}: {error.strerror}; nothing was changed") from None
    try:
        keys = _apply_whole(site, plan, references, KeysFile(keys_out, site) if keys_out is not None else None)
    except BaseException:
        # Nobody left: each of these files was made just now, for this apply.
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return Applied(keys, written)


def _apply_whole(site: Site, plan: Plan, references: References, file: KeysFile | None) -> list[NewKey]:
    """The changes, in one transaction; the new keys, which are in the file then. Raises: ApplyRefused."""
    try:
        with site.directory.transaction() as directory:
            keys = _apply_inside(directory, site, plan, references)
            if file is not None and keys:
                file.prepare(keys)
                directory.note_left_file(file.part)
    except OperationalError as error:
        raise ApplyRefused(f"somebody else is changing the store ({error.orig}); try again") from None
    if file is not None and keys:
        file.publish()
        with contextlib.suppress(OperationalError):  # the next apply sees that nothing is left
            site.directory.note_left_file(None)
    return keys


def require_no_left_keys(site: Site) -> None:
    """Whether the last apply that made keys has also put them where they belong, wherever that was.

    Raises:
        ApplyRefused: it was interrupted before; the message says where the keys are.
    """
    left = site.directory.find_left_file()
    if left is None:
        return
    if left.exists():
        raise ApplyRefused(_LEFT.format(left))
    site.directory.note_left_file(None)  # it was moved, or renamed by an apply that was killed a moment later


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a declaration that was applied at once: new keys, and the names of new credentials."""

    keys: list[NewKey]
    credentials: list[str]


def apply_at_once(site: Site, declared: Declaration, references: References) -> Made:
    """Plan and apply in one go, for a declaration of one or a few tenants that nobody has to read first.

    Raises:
        BadDeclaration: it names what is not there.
        DirectoryError: the directory refuses one of the changes.
    """
    with site.directory.transaction() as directory:
        standing, changes = compare(site, directory, declared, references, now_utc())
        executor = Executor(directory, declared, standing, references)
        executor.run(changes)
    return Made(executor.keys, executor.added)


def _apply_inside(directory: Directory, site: Site, plan: Plan, references: References) -> list[NewKey]:
    if directory.version() != plan.standing.version:
        raise ApplyRefused(_moved(directory, plan.standing.version))
    executor = Executor(directory, plan.declared, plan.standing, references)
    try:
        executor.run(plan.changes)
    except SecretUnavailable as error:
        raise ApplyRefused(str(error)) from None
    # What was promised is checked before it is kept.
    _, left = compare(site, directory, plan.declared, references, plan.made_at)
    if left:
        raise ApplyRefused(f"this would not lead to what is declared: {left[0].action} {left[0].subject} is left")
    if plan.declared.whole:
        directory.audit("apply.done", "*", {"changes": len(plan.changes), "files": list(plan.declared.documents)})
    return executor.keys


def _require_secrets(plan: Plan, references: References) -> None:
    """All that is missing is told at once."""
    problems: list[str] = []
    for reference in needed_references(plan.changes):
        try:
            references.get(reference)
        except SecretUnavailable as error:
            problems.append(str(error))
    if problems:
        raise ApplyRefused("\n".join(problems))


def _moved(directory: Directory, version: int) -> str:
    now = directory.version()
    changes = [row for row in directory.list_audit(100) if "after" in row.detail][: max(now - version, 0)]
    lines = [f"  {row.action} {row.subject} by {row.actor} at {row.at:%Y-%m-%d %H:%M:%S}" for row in changes]
    more = [f"  and {len(lines) - MOVES_SHOWN_MAX} more"] if len(lines) > MOVES_SHOWN_MAX else []
    head = f"the state moved since the plan was made (version {version}, now {now}); nothing was changed, plan again"
    return "\n".join([head, *lines[:MOVES_SHOWN_MAX], *more])


def _comparable(plan: Plan) -> str:
    return json.dumps([change.as_json() for change in plan.changes], sort_keys=True, default=str)


class KeysFile:
    """New keys on the disk before they work, so that a crash cannot lose one; under their name only when they do."""

    def __init__(self, path: Path, site: Site) -> None:
        self._path = path
        self.part = path.with_name(path.name + ".part")
        self._site = site
        if path.exists():
            raise ApplyRefused(f"{path} exists; move it away, or name another file")
        if self.part.exists():
            self._rescue()

    def _rescue(self) -> None:
        """An apply died here. Keys that work must not be lost; those of one that was rolled back are nothing."""
        lines = self.part.read_text("utf-8").splitlines()
        if any(self._site.directory.has_key(_text_in(line)) for line in lines):
            raise ApplyRefused(_LEFT.format(self.part.absolute()))
        self.part.unlink()

    def prepare(self, keys: list[NewKey]) -> None:
        """Raises: ApplyRefused."""
        try:
            self._write(keys)
        except OSError as error:
            raise ApplyRefused(f"{self.part}: {error.strerror}; nothing was changed") from None

    def _write(self, keys: list[NewKey]) -> None:
        descriptor = os.open(self.part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for key in keys:
                endpoint = endpoint_of(self._site.settings, key.tenant)
                entry = {"tenant": key.tenant, "label": key.label, "key": key.text, "endpoint": endpoint}
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def publish(self) -> None:
        """Under their name, and that on the disk."""
        self.part.rename(self._path)
        sync_folder(self._path.parent)


def _text_in(line: str) -> str:
    try:
        return str(json.loads(line)["key"])
    except (ValueError, KeyError, TypeError):
        return ""


def probe_new(site: Site, plan: Plan, keys: list[NewKey], tell: Callable[[Probe], None]) -> list[Probe]:
    """A real, small call for each new tenant that is to work, with its new key."""
    added = {change.subject for change in plan.changes if change.action == "tenant.add"}
    first = {key.tenant: key for key in reversed(keys) if key.tenant in added and key.key_id}
    blocks = plan.declared.tenants
    wanted = [
        key for slug, key in first.items() if blocks[slug].status == "active" and blocks[slug].credential is not None
    ]

    def probe(key: NewKey) -> Probe:
        try:
            check = check_live(site.settings, key.tenant, key.text)
        except LiveCheckFailed as error:
            return Probe(key.tenant, False, str(error))
        simulated = " (SIMULATED)" if check.simulated else ""
        return Probe(key.tenant, True, f"{check.model} answered in {check.milliseconds} ms{simulated}")

    done: list[Probe] = []
    with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
        for one in pool.map(probe, wanted):
            site.directory.audit("provision.checked", one.tenant, {"ok": one.ok})
            tell(one)
            done.append(one)
    return done
