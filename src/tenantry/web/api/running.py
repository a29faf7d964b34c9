"""How an operation is run: what is asked is read and checked, done in the name of who asks, and answered."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tenantry.domain.roles import Principal
from tenantry.storage.directory import Directory
from tenantry.web.answers import Refused, shown
from tenantry.web.api.operations import ROOT, Blob, Call, FileAt, Operation
from tenantry.web.api.paging import Page
from tenantry.web.api.reading import decode_body, read_body, read_query
from tenantry.web.api.refusals import told_apart
from tenantry.web.api.repeats import asked_for, key_of, once, once_within
from tenantry.web.pages_base.headers import SANDBOXED
from tenantry.web.routing import SLUG, Handler
from tenantry.web.tokens import address_of, site_of

# For the one who asked, who asks before using it again; what a write answers may hold a secret.
_READ_FIELDS: Final = {"cache-control": "private, no-cache"}
_WRITE_FIELDS: Final = {"cache-control": "no-store"}

# Nothing that a client has named is to run in a browser as a page of this address.
_UNTRUSTED: Final = {"content-security-policy": SANDBOXED, "x-content-type-options": "nosniff"}


def handler_of(operation: Operation) -> Handler:
    """What `routing.guarded` lets through."""

    def handle(request: Request, principal: Principal) -> Response:
        site = site_of(request)
        directory = site.directory.acting_as(principal.actor, address_of(request))
        call = Call(request, principal, replace(site, directory=directory))
        with told_apart(is_write=operation.is_write, is_confined=principal.tenants is not None):
            query = read_query(request, operation.query)
            if not operation.is_write:
                return _read(operation, call, query)
            return _write(operation, call, query)

    handle.__name__ = operation.name
    return handle


def _read(operation: Operation, call: Call, query: Any) -> Response:
    if operation.audited is not None:
        slug = call.request.path_params.get(SLUG)
        call.site.directory.audit(f"read.{operation.audited}", slug or "*", {"tenant": slug})
    found = _act(operation, call, query, None)
    response = _answer(found, operation.status, _READ_FIELDS)
    if isinstance(found, FileAt):
        return response
    if isinstance(found, Page) and found.next is not None:
        url = call.request.url.include_query_params(cursor=found.next)
        response.headers["link"] = f'<{url.path}?{url.query}>; rel="next"'
    tag = response.headers["etag"] = etag_of(bytes(response.body))
    if matches(call.request.headers.get("if-none-match"), tag):
        kept = {name: response.headers[name] for name in ("etag", "cache-control")}
        return Response(status_code=304, headers=kept)
    return response


def _write(operation: Operation, call: Call, query: Any) -> Response:
    key, raw = key_of(call.request), read_body(call.request, operation)
    body = decode_body(raw, operation)
    if operation.match_required and "if-match" not in call.request.headers:
        raise Refused(428, "say what you have seen, with If-Match: the ETag of what you read, or * for whatever it is")
    asked = asked_for(call, raw)

    def act(directory: Directory) -> Response:
        own = replace(call, site=replace(call.site, directory=directory))
        _require_match(operation, own)
        found = _act(operation, own, query, body)
        response = _answer(found, operation.status, _WRITE_FIELDS)
        if operation.located is not None:
            members = {name: quote(str(one), safe="") for name, one in msgspec.to_builtins(found).items()}
            response.headers["location"] = ROOT + operation.located.format_map(members)
        if operation.tagged_by is not None:
            response.headers["etag"] = f'"{getattr(found, operation.tagged_by)}"'
        if operation.represents is not None and operation.represents.answer is operation.answer:
            response.headers["etag"] = etag_of(bytes(response.body))
        return response

    directory = call.site.directory
    if operation.is_atomic:
        with directory.transaction() as joined:
            return once_within(joined, call, key, asked, lambda: act(joined)) if key is not None else act(joined)
    return once(directory, call, key, asked, lambda: act(directory)) if key is not None else act(directory)


def _act(operation: Operation, call: Call, query: Any, body: Any) -> Any:
    takes: dict[str, Any] = {name: call.request.path_params[name] for name in operation.parameters}
    if operation.query is not None:
        takes["query"] = query
    if operation.body is not None:
        takes["body"] = body
    return operation.act(call, **takes)


def _answer(found: Any, status: int, fields: dict[str, str]) -> Response:
    if found is None:
        return Response(status_code=204, headers=fields)
    if isinstance(found, FileAt):
        return FileResponse(found.path, status, fields | _UNTRUSTED, found.media, filename=found.path.name)
    if isinstance(found, Blob):
        named = {"content-disposition": f'attachment; filename="{found.name}"'} if found.name is not None else {}
        return Response(found.content, status, fields | named | _UNTRUSTED, found.media)
    return shown(msgspec.to_builtins(found), status, fields)


def etag_of(body: bytes) -> str:
    """A strong one (RFC 9110 8.8.1): the representation to the byte."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(told: str | None, tag: str, *, weak: bool = True) -> bool:
    """Whether a field names this tag. `If-None-Match` compares weakly, `If-Match` does not (RFC 9110 13.1)."""
    if told is None:
        return False
    named = [one.strip() for one in told.split(",")]
    return "*" in named or tag in [one.removeprefix("W/") if weak else one for one in named]


def _require_match(operation: Operation, call: Call) -> None:
    """Raises Refused: 412 where what is to be changed is not what the caller has seen."""
    told, seen = call.request.headers.get("if-match"), operation.represents
    if told is None or told.strip() == "*" or operation.match_required:
        return  # who requires it looks for itself
    if seen is None:
        raise Refused(412, "what this changes has no ETag: leave If-Match out")
    takes: dict[str, Any] = {name: call.request.path_params[name] for name in seen.parameters}
    now = _answer(seen.act(call, **takes), 200, {})
    if not matches(told, etag_of(bytes(now.body)), weak=False):
        where = ROOT + seen.path.format_map(call.request.path_params)
        raise Refused(412, f"it is not what you have seen any more: read {where} again, then change it")
