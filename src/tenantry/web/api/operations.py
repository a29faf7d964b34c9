"""What the admin API can do: each thing declared once, by a function, its types and the permission that it needs.

The types of a function say what it takes and answers: parameters that the path names, `query`, `body`. Routes, checks
and the OpenAPI document are made of that and of nothing else.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

import msgspec
from starlette.requests import Request

from tenantry.control.site import Site
from tenantry.domain.roles import OF_ONE_TENANT, Permission, Principal
from tenantry.web.routing import SLUG

ROOT: Final = "/api/v1"
JSON: Final = "application/json"
TOML: Final = "application/toml"
# Many times the largest change of one thing.
BODY_BYTES_MAX: Final = 1_000_000
_IN_PATH: Final = re.compile(r"\{(\w+)(?::path)?\}")
READ: Final = "GET"


class Struct(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What comes from outside: a member that nobody knows is an error, for it would do nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: who asks, and the site, whose audit log names that one for what is done with it."""

    request: Request
    principal: Principal
    site: Site


@dataclass(frozen=True, slots=True)
class Blob:
    """An answer that is no JSON: the file `name` for who saves it."""

    content: bytes
    media: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the API. `path` is below `ROOT`; `act` is called with a `Call` and what the path and types name.

    `located`: where what was made is, with the members of the answer in it. `of_site`: nobody's who is confined to some
    tenants. `audited`: what the audit log is told is read. `media`: what an answer that is no JSON may be.
    `represents`: the operation that reads what this one changes, for `If-Match`; with `match_required` nothing is done
    without that. `is_atomic`: all that it does is done in one transaction of the directory.
    """

    method: str
    path: str
    permission: Permission
    act: Callable[..., Any]
    status: int
    located: str | None
    of_site: bool
    audited: str | None
    represents: Operation | None
    match_required: bool
    is_atomic: bool
    body_media: str
    body_bytes_max: int
    media: tuple[str, ...]
    parameters: tuple[str, ...]
    query: type[Struct] | None
    body: Any
    answer: Any

    @property
    def name(self) -> str:
        return self.act.__name__

    @property
    def is_write(self) -> bool:
        return self.method != READ


def operation(
    method: str,
    path: str,
    permission: Permission,
    *,
    status: int = 200,
    located: str | None = None,
    of_site: bool = False,
    audited: str | None = None,
    represents: Operation | None = None,
    match_required: bool = False,
    is_atomic: bool = True,
    body_media: str = JSON,
    body_bytes_max: int = BODY_BYTES_MAX,
    media: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Operation]:
    """Make a function an operation. Raises TypeError where it could not be guarded or described."""

    def decorate(act: Callable[..., Any]) -> Operation:
        named, hints = tuple(_IN_PATH.findall(path)), get_type_hints(act)
        takes = [name for name in inspect.signature(act).parameters if name not in ("call", "query", "body")]
        if takes != list(named) or not act.__doc__:
            raise TypeError(f"{act.__name__} takes {takes} where its path has {named}, or says nothing of itself")
        if method != READ and permission in OF_ONE_TENANT and SLUG not in named and not of_site:
            raise TypeError(f"{act.__name__} changes something of a tenant, and its path names none")
        return Operation(
            method,
            path,
            permission,
            act,
            status,
            located,
            of_site,
            audited,
            represents,
            match_required,
            is_atomic,
            body_media,
            body_bytes_max,
            media,
            named,
            hints.get("query"),
            hints.get("body"),
            hints["return"],
        )

    return decorate
