"""What a file of tenants says, as values. The store's state is read into the same values, so that the two compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from tenantry.domain.billing_details import Details
from tenantry.domain.limits import Limits
from tenantry.domain.plans import Terms

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyBlock:
    """A gateway key by its label. `digest_of` says where the text of a key from elsewhere is, to take it over.

    `slot` is the one that it is for, "" where it is the whole tenant's.
    """

    expires_at: datetime | None = None
    rotate_days: int | None = None
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    digest_of: str | None = None
    slot: str = ""


@dataclass(frozen=True, slots=True)
class TenantBlock:
    """One tenant. `limits` differ from its tier's. `keys` None: they are made and revoked by hand.

    `upstream` and `workspace` belong to the credential; None leaves them as they stand there. So do `plan_slots` (how
    many were agreed on), `plan_from` (since when it is on its plan), `billing` and `slots` (the limits of each): what
    is not said of them stays as a command has it.
    """

    name: str
    tier: str = "standard"
    plan: str | None = None
    status: str = "active"
    contact: str | None = None
    credential: str | None = None
    shared_credential: bool = False
    fallback: str | None = None
    upstream: str | None = None
    user_profile: str | None = None
    workspace: str | None = None
    disconnect: str = "drain"
    offboard: str = "keep"
    hosts: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    month_nanos: int | None = None
    week_nanos: int | None = None
    day_nanos: int | None = None
    budget_mode: str = "hard"
    thresholds: tuple[int, ...] | None = None
    targets: tuple[str, ...] = ()
    keys: Mapping[str, KeyBlock] | None = None
    plan_slots: int | None = None
    plan_from: date | None = None
    billing: Details | None = None
    slots: Mapping[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a file; `line` 0 when it is not about a line."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class BadDeclaration(Exception):
    """The files cannot be used. `problems` names everything that is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class Declaration:
    """All that is declared. When `whole`, what was declared before and is missing now is to go.

    `plan_days`: from which day on the terms of a plan count, where the file says one. `documents` are the files as
    `tomllib` read them; `find_place` says where a path stands: file and line.
    """

    tiers: Mapping[str, Limits] = field(default_factory=dict[str, Limits])
    plans: Mapping[str, Terms] = field(default_factory=dict[str, Terms])
    tenants: Mapping[str, TenantBlock] = field(default_factory=dict[str, TenantBlock])
    plan_days: Mapping[str, date] = field(default_factory=dict[str, date])
    whole: bool = True
    documents: Mapping[str, Any] = field(default_factory=dict[str, Any])
    find_place: Callable[[Path], tuple[str, int] | None] = lambda path: None

    def problem(self, path: Path, text: str) -> Problem:
        """A problem at a path, or at the nearest table above it that has a place."""
        for length in range(len(path), 0, -1):
            place = self.find_place(path[:length])
            if place is not None:
                return Problem(*place, text)
        return Problem(next(iter(self.documents), "tenants.toml"), 0, text)
