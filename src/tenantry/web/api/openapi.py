"""The API described: an OpenAPI 3.1 document, made of the operations and their types.

It is served without a token: it says what every copy of this program can do, as its source does, and nothing of the
site. Tools that make clients and pages of it ask for it without one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tenantry import __version__
from tenantry.domain.roles import ALLOWED, OF_ONE_TENANT
from tenantry.web.answers import PROBLEM
from tenantry.web.api.operations import JSON, ROOT, Blob, FileAt, Operation
from tenantry.web.api.repeats import KEY_CHARS_MAX
from tenantry.web.api.running import etag_of
from tenantry.web.routing import SLUG

_REF: Final = "#/components/schemas/{name}"
_BEARER: Final = "adminToken"


class Problem(msgspec.Struct):
    """Problem details (RFC 9457). `errors`: each thing that is wrong, where that can be said."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] = []


class Described:
    """The document, made when it is first asked for: that takes longer than all else of an application."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations

    @cached_property
    def _body(self) -> bytes:
        return json.dumps(describe(self._operations), ensure_ascii=False).encode()

    @cached_property
    def _tag(self) -> str:
        return etag_of(self._body)

    async def answer(self, request: Request) -> Response:
        fields = {"etag": self._tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == self._tag:
            return Response(status_code=304, headers=fields)
        return Response(self._body, headers=fields, media_type=JSON)


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document of these operations."""
    types = [Problem]
    for one in operations:
        types += [kind for kind in (one.query, _json_body(one), _json_answer(one)) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, schema_hook=_any, ref_template=_REF)
    by_type = {str(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for one in operations:
        path = paths.setdefault(_path(one), {})
        path[one.method.lower()] = _operation(one, by_type, components)
    queries = {one.query.__name__ for one in operations if one.query is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tenantry admin API",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "see LICENSE"},
        },
        "servers": [{"url": ROOT}],
        "security": [{_BEARER: []}],
        "paths": paths,
        "components": {
            "schemas": {name: one for name, one in components.items() if name not in queries},
            "securitySchemes": {
                _BEARER: {"type": "http", "scheme": "bearer", "description": "`tenantry keys admin create NAME`"}
            },
        },
    }


def _operation(one: Operation, by_type: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": one.name,
        "tags": [one.path.split("/")[1]],
        "summary": (one.act.__doc__ or "").split("\n")[0],
        "description": f"{(one.act.__doc__ or '').strip()}\n\n{_permission(one)}",
        "x-permission": one.permission.value,
        "parameters": [*_in_path(one), *_in_query(one, components), *_in_header(one)],
        "responses": _answers(one, by_type),
    }
    if one.body is not None:
        media = one.body_media
        schema = by_type[str(one.body)] if media == JSON else {"type": "string"}
        told["requestBody"] = {"required": True, "content": {media: {"schema": schema}}}
    return told


def _permission(one: Operation) -> str:
    roles = ", ".join(role.value for role, allowed in ALLOWED.items() if one.permission in allowed)
    whose = " For tokens of all the site alone." if _is_of_site(one) else ""
    return f"Permission `{one.permission}`: {roles}.{whose}"


def _is_of_site(one: Operation) -> bool:
    return one.of_site or one.permission not in OF_ONE_TENANT


def _in_path(one: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "The tenant's public id." if name == SLUG else f"The {name.replace('_', ' ')}.",
            "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
        }
        for name in one.parameters
    ]


def _in_query(one: Operation, components: Mapping[str, Any]) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = components[one.query.__name__]
    required: list[str] = schema.get("required", [])
    found: list[dict[str, Any]] = []
    for name, of_one in schema["properties"].items():
        # Nothing in a query is null: it is there or not.
        known = [kind for kind in of_one.get("anyOf", []) if kind != {"type": "null"}]
        plain = known[0] if len(known) == 1 else of_one
        told: dict[str, Any] = {"name": name, "in": "query", "required": name in required, "schema": plain}
        if "description" in plain:
            told["description"] = plain["description"]
        found.append(told)
    return found


def _in_header(one: Operation) -> list[dict[str, Any]]:
    if not one.is_write:
        return [_header("If-None-Match", "ETags that you have: 304 when it is one of them.")]
    key = _header("Idempotency-Key", "The same key and body: done once, and answered alike, for a day.")
    key["schema"] |= {"minLength": 1, "maxLength": KEY_CHARS_MAX, "pattern": "^[ -~]+$"}
    if one.represents is None and not one.match_required:
        return [key]
    match = _header("If-Match", "The ETag of what you have seen: 412 when it is another now.")
    return [key, match | {"required": one.match_required}]


def _header(name: str, words: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": words, "schema": {"type": "string"}}


def _answers(one: Operation, by_type: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if not one.is_write:
        fields["ETag"] = {"schema": {"type": "string"}}
    if one.located is not None:
        fields["Location"] = {"schema": {"type": "string"}}
    content: dict[str, Any] = {media: {"schema": {"type": "string"}} for media in one.media}
    if _json_answer(one) is not None:
        content[JSON] = {"schema": by_type[str(one.answer)]}
    done: dict[str, Any] = {"description": HTTPStatus(one.status).phrase}
    done |= {"headers": fields} if fields else {}
    done |= {"content": content} if content else {}
    problems = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM: {"schema": by_type[str(Problem)]}},
        }
        for status in _problems(one)
    }
    unchanged = {"304": {"description": HTTPStatus(304).phrase}} if not one.is_write else {}
    return {str(one.status): done} | unchanged | problems


def _problems(one: Operation) -> list[int]:
    found = {400, 401, 403, 409, 429, 503}
    if one.parameters or one.query is not None or one.body is not None:
        found.add(404)
    if one.is_write:
        found |= {408, 412, 413, 422}
    if one.body is not None:
        found.add(415)
    if one.match_required:
        found.add(428)
    return sorted(found)


def _path(one: Operation) -> str:
    return one.path.replace(":path}", "}")


def _json_body(one: Operation) -> Any:
    return one.body if one.body is not None and one.body_media == JSON else None


def _json_answer(one: Operation) -> Any:
    return None if one.answer in (Blob, FileAt, type(None)) else one.answer


def _any(_kind: type) -> dict[str, Any]:
    """`object`: whatever JSON there may be."""
    return {"description": "Any JSON."}


_ABOUT: Final = """Everything that `tenantry` can do by command. Money is in nano-dollars (`*_nanos`) and, for reading,
in dollars (`*_usd`); times are UTC. Lists come in pages: `next` is the cursor of the next one, which the `Link` field
has too. What goes wrong is problem details (RFC 9457)."""
