"""A plan: what is declared, compared with what stands at one version of the directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from tenantry.control.declared.changes import Change, find_changes
from tenantry.control.declared.checking import check_against
from tenantry.control.declared.impact import MoneyEffect, money_effect, read_running, session_effect
from tenantry.control.declared.model import BadDeclaration, Declaration, Problem
from tenantry.control.declared.reader import FILE_BYTES_MAX, read_documents
from tenantry.control.declared.references import References
from tenantry.control.declared.state import Standing, read_standing, target_name
from tenantry.control.declared.words import in_words
from tenantry.control.host_names import why_not_usable
from tenantry.control.site import Site
from tenantry.ledger.exports import replacing
from tenantry.regular_files import read_regular
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import Directory
from tenantry.toml_files import DEPTH_MAX, is_deeper

PLAN_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """`changes` lead from `standing` to `declared`. `missing` are references whose secrets `apply` will need."""

    declared: Declaration
    standing: Standing
    made_at: datetime
    changes: list[Change]
    money: MoneyEffect
    sessions: list[str]
    missing: list[str]

    def as_json(self) -> dict[str, Any]:
        return {
            "tenantry_plan": PLAN_FORMAT,
            "made_at": self.made_at.isoformat(timespec="seconds"),
            "directory_version": self.standing.version,
            "changes": [{**change.as_json(), "words": in_words(change)} for change in self.changes],
            "money": {"before": asdict(self.money.before), "after": asdict(self.money.after)},
            "sessions": self.sessions,
            "missing_secrets": self.missing,
            "documents": self.declared.documents,
        }


def make_plan(site: Site, declared: Declaration, references: References) -> Plan:
    """Compare a declaration with the store as it is now.

    Raises:
        BadDeclaration: it names what is not there, or what cannot be.
    """
    now = now_utc()
    standing, changes = compare(site, site.directory, declared, references, now)
    running = read_running(site)
    return Plan(
        declared,
        standing,
        now,
        changes,
        money_effect(declared, standing),
        list(session_effect(declared, standing, running)),
        [one for one in needed_references(changes) if references.find(one) is None],
    )


def compare(
    site: Site, directory: Directory, declared: Declaration, references: References, now: datetime
) -> tuple[Standing, list[Change]]:
    """What stands in `directory`, and what would have to change. Raises: BadDeclaration."""
    standing = read_standing(directory)

    @cache  # of one file it is asked several times, and each reads a file or hashes a text
    def fingerprint(reference: str) -> bytes | None:
        secret = references.find(reference)
        return site.vault.fingerprint(secret) if secret is not None else None

    problems = check_against(declared, standing, fingerprint, partial(why_not_usable, site.settings))
    if problems:
        raise BadDeclaration(problems)

    def has_url(slug: str, reference: str) -> bool:
        url = references.find(reference)
        return url is None or directory.open_alert_target(target_name(slug, reference)).url == url

    return standing, list(find_changes(declared, standing, now, fingerprint, has_url))


def needed_references(changes: list[Change]) -> list[str]:
    """References whose secrets have to be at hand for these changes."""
    needed: dict[str, None] = {}
    for change in changes:
        reference: object = None
        if change.action == "key.take":
            reference = change.after["digest_of"]
        elif change.action in ("credential.rotate", "target.replace") or change.field in ("credential", "fallback"):
            reference = change.after
        elif change.field == "targets":
            needed |= dict.fromkeys(cast("list[str]", change.after))
        if isinstance(reference, str):
            needed[reference] = None
    return [one for one in needed if not one.startswith("vault:")]


def write_plan(plan: Plan, path: Path) -> None:
    """The plan as a file for `apply`. There is no secret in it."""
    text = json.dumps(plan.as_json(), indent=2, ensure_ascii=False, default=str) + "\n"
    with replacing(path) as file:
        file.write(text.encode())


def read_plan(path: Path, site: Site) -> tuple[Declaration, Mapping[str, Any]]:
    """What a plan's file declares, and the plan as it was made.

    Raises:
        BadDeclaration: it is not the file of a plan.
    """
    try:
        data = read_regular(path, FILE_BYTES_MAX)
        if len(data) > FILE_BYTES_MAX:
            raise ValueError("too large")
        plan = cast("dict[str, Any]", json.loads(data.decode("utf-8")))
        if plan["tenantry_plan"] != PLAN_FORMAT:
            raise ValueError("another format")
        documents, _ = cast("dict[str, Any]", plan["documents"]), int(plan["directory_version"])
        if not all(isinstance(one, dict) for one in (*documents.values(), *plan["changes"])):
            raise ValueError("not tables")
        if is_deeper(documents, DEPTH_MAX + 1):
            raise ValueError("nested too deeply")
    except OSError as error:
        raise BadDeclaration([Problem(str(path), 0, error.strerror or "it cannot be read")]) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadDeclaration([Problem(str(path), 0, "this is not a plan of `tenantry plan --out`")]) from None
    return read_documents(documents, site.settings.zone), plan
