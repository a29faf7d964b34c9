"""Writes that are asked for again: under one `Idempotency-Key` a thing is done once, and answered alike.

(draft-ietf-httpapi-idempotency-key-header.) What is done within one transaction is done and noted together: there is
no moment at which a crash could part the two. Of what takes longer, or speaks with others, the beginning is noted
first; when control dies in between, nobody can say how far it came, and the answer says so.

Keys that are shown once stand in such an answer too, so that one who lost it can ask again: it is sealed under the
master key like every secret, for a day.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tenantry.storage.directory import Directory
from tenantry.storage.vault import SecretUnreadable
from tenantry.web.answers import Refused
from tenantry.web.api.operations import Call

KEY_FIELD: Final = "idempotency-key"
KEY_CHARS_MAX: Final = 255
# Longer than anything takes that is answered when it is done.
BEGUN_SECONDS_MAX: Final = 900
_AGAIN_SECONDS: Final = "2"
_KEPT_FIELDS: Final = ("content-type", "etag", "location", "cache-control")


def asked_for(call: Call, body: bytes) -> bytes:
    """What tells one request from another."""
    request = call.request
    text = f"{request.method} {request.url.path}?{request.url.query}\n{body.decode('latin-1')}"
    return call.site.vault.fingerprint(f"asked {text}")


def key_of(request: Request) -> str | None:
    """Raises Refused: 400."""
    key = request.headers.get(KEY_FIELD)
    if key is not None and not (1 <= len(key) <= KEY_CHARS_MAX and key.isascii() and key.isprintable()):
        raise Refused(400, f"an Idempotency-Key is 1 to {KEY_CHARS_MAX} printable characters of ASCII")
    return key


def once_within(directory: Directory, call: Call, key: str, asked: bytes, act: Callable[[], Response]) -> Response:
    """`act` within the transaction of `directory`, unless it was done before."""
    kept = _kept(directory, call, key, asked)
    if kept is not None:
        return kept
    holder = call.principal.actor
    directory.drop_answer(holder, key)  # of more than a day ago
    if not directory.claim_answer(holder, key, asked):
        raise _still_running()
    response = act()
    directory.keep_answer(holder, key, _as_text(response))
    return response


def once(directory: Directory, call: Call, key: str, asked: bytes, act: Callable[[], Response]) -> Response:
    """`act`, whose steps are several transactions, unless it was begun before."""
    kept = _kept(directory, call, key, asked)
    if kept is not None:
        return kept
    holder = call.principal.actor
    if not directory.claim_answer(holder, key, asked):
        raise _still_running()
    try:
        response = act()
    except BaseException:
        directory.drop_answer(holder, key)
        raise
    directory.keep_answer(holder, key, _as_text(response))
    return response


def _kept(directory: Directory, call: Call, key: str, asked: bytes) -> Response | None:
    try:
        kept = directory.find_answer(call.principal.actor, key)
    except SecretUnreadable:
        words = "this was done, and its answer cannot be read any more: the master key was rotated since"
        raise Refused(409, words) from None
    if kept is None:
        return None
    if kept.asked != asked:
        raise Refused(409, "this Idempotency-Key was used for another request: take a new one for a new request")
    if kept.text is not None:
        return _from_text(kept.text)
    if kept.age < timedelta(seconds=BEGUN_SECONDS_MAX):
        raise _still_running()
    raise Refused(
        409, "control ended while it did this, and how far it came is not known: look, then take a new Idempotency-Key"
    )


def _still_running() -> Refused:
    return Refused(409, "a request with this Idempotency-Key is under way: ask again", {"retry-after": _AGAIN_SECONDS})


def _as_text(response: Response) -> str:
    fields = {name: response.headers[name] for name in _KEPT_FIELDS if name in response.headers}
    return json.dumps([response.status_code, fields, bytes(response.body).decode()])


def _from_text(text: str) -> Response:
    status, fields, body = json.loads(text)
    told: dict[str, Any] = fields | {"idempotency-replayed": "true"}
    return Response(body, status, told)
