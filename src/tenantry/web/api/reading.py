"""What a request says, read by its types: what cannot be is told with the member that it is in."""

from __future__ import annotations

import re
from typing import Any, Final

import anyio
import anyio.from_thread
import msgspec
from starlette.requests import Request

from tenantry.web.answers import Refused
from tenantry.web.api.operations import JSON, Operation, Struct

# As the gateway has it for a body: who sends slower than this holds a thread of control.
BODY_SECONDS_MAX: Final = 60.0
# How msgspec says where it stumbled.
_PLACE: Final = re.compile(r"(?P<what>.*?)(?: - at `(?P<place>[^`]*)`)?", re.DOTALL)


def read_query(request: Request, wanted: type[Struct] | None) -> Struct | None:
    """Raises Refused: 400."""
    given: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name in given:
            raise _wrong(400, "query", f"{name} is given twice", name)
        if "\0" in text:
            raise _wrong(400, "query", f"there is a NUL in {name}", name)
        given[name] = text
    if wanted is None:
        if given:
            raise _wrong(400, "query", f"there is no parameter {next(iter(given))[:40]!r} here", next(iter(given)))
        return None
    try:
        return msgspec.convert(given, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise _refused(400, "query", error) from None


def read_body(request: Request, operation: Operation) -> bytes:
    """The bytes of a body, which is as large as it may be at most. In a thread. Raises Refused: 408, 413, 415."""
    told = request.headers.get("content-length", "0")
    if told.isdigit() and int(told) > operation.body_bytes_max:
        raise _too_large(operation)
    body = anyio.from_thread.run(_receive, request, operation)
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if b"\0" in body or b"\\u0000" in body:  # no column takes one, and nothing needs one
        raise Refused(400, "there is a NUL in the body")
    if body and operation.body is not None and media != operation.body_media:
        raise Refused(415, f"the body has to be {operation.body_media}: say so in Content-Type")
    return body


async def _receive(request: Request, operation: Operation) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(BODY_SECONDS_MAX):
            async for part in request.stream():
                size += len(part)
                if size > operation.body_bytes_max:
                    raise _too_large(operation)
                parts.append(part)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_SECONDS_MAX:.0f} s") from None
    return b"".join(parts)


def decode_body(body: bytes, operation: Operation) -> Any:
    """A body by its type; None where none is wanted, the bytes themselves where it is no JSON. Raises Refused."""
    if operation.body is None:
        return None
    if operation.body_media != JSON:
        return body
    try:
        return msgspec.json.decode(body or b"{}", type=operation.body)
    except msgspec.ValidationError as error:
        raise _refused(422, "body", error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None


def _too_large(operation: Operation) -> Refused:
    return Refused(413, f"the body has more than {operation.body_bytes_max} bytes")


def _refused(status: int, where: str, error: msgspec.ValidationError) -> Refused:
    found = _PLACE.fullmatch(str(error))
    what, place = (found["what"], found["place"]) if found is not None else (str(error), None)
    member = (place or "").removeprefix("$").removeprefix(".")
    return _wrong(status, where, f"{member}: {what}" if member else what, member)


def _wrong(status: int, where: str, detail: str, member: str) -> Refused:
    return Refused(status, detail, None, errors=[{"in": where, "member": member, "detail": detail}])
