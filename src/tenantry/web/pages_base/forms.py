"""What was filled in: read within bounds, and only from our own pages.

A form of another site is told by the browser itself (`Sec-Fetch-Site`, `Origin`) and by the token that it cannot know
(OWASP, Cross-Site Request Forgery Prevention): either is enough, both are asked for.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request

# The longest one is a list of tenants.
FORM_BYTES_MAX: Final = 64 * 1024
FIELDS_MAX: Final = 1000
# A logo (`domain/pictures.py`), and what stands around it.
FILE_FORM_BYTES_MAX: Final = 256 * 1024
PARTS_MAX: Final = 20
# Who sends slower than this holds a connection of control.
FORM_SECONDS_MAX: Final = 20.0
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
# RFC 2046 5.1.1: at most 70 characters, none of which ends a line.
_BOUNDARY: Final = re.compile(r'boundary="?([0-9A-Za-z\'()+_,./:=? -]{1,70})"?')
_NAME: Final = re.compile(r'[; ]name="([^"]{1,64})"')
_STALE: Final = "this page is too old to be sent: go back, load it again, and repeat what you did"


class Posted:
    """The fields of a form."""

    def __init__(self, fields: Mapping[str, list[str]], files: Mapping[str, bytes] | None = None) -> None:
        self._fields = fields
        self._files = files or {}

    def get(self, name: str, default: str = "") -> str:
        """The field, without blanks around it."""
        return self.raw(name, default).strip()

    def raw(self, name: str, default: str = "") -> str:
        """The field as it was typed: a password's blanks are its own."""
        found = self._fields.get(name)
        return found[0] if found else default

    def all(self, name: str) -> list[str]:
        """Each of several under one name, such as boxes that were ticked."""
        return [one.strip() for one in self._fields.get(name, [])]

    def file(self, name: str) -> bytes:
        """What is in the file that was chosen; nothing where none was."""
        return self._files.get(name, b"")

    def __contains__(self, name: object) -> bool:
        return name in self._fields


def posted(request: Request) -> Posted:
    """The form that came with a request, behind a door that has read it."""
    return request.state.form


def csrf_of(secret: str) -> str:
    """What a form has to bring, of who holds `secret` in a cookie: nobody else can know it, and it tells nothing of
    the secret."""
    return hmac.digest(secret.encode("utf-8", "surrogateescape"), b"tenantry csrf v1", "sha256").hex()


async def read_form(request: Request, *, has_file: bool = False) -> Posted:
    """`has_file`: it may have a file in it. Raises: HTTPException: too long, too slow, or no form."""
    full = request.headers.get("content-type", _URLENCODED)
    told = full.partition(";")[0].strip().lower()
    if told not in (_URLENCODED, *((_MULTIPART,) if has_file else ())):
        raise HTTPException(415, f"a form comes as {_URLENCODED}")
    try:
        async with asyncio.timeout(FORM_SECONDS_MAX):
            body = await _receive(request, FILE_FORM_BYTES_MAX if has_file else FORM_BYTES_MAX)
    except TimeoutError:
        raise HTTPException(
            408, f"the form did not come within {FORM_SECONDS_MAX:.0f} s", {"connection": "close"}
        ) from None
    if told == _MULTIPART:
        request.state.form = _read_parts(full, body)
        return request.state.form
    if b"\0" in body or b"%00" in body:  # no column takes one, and nobody types one
        raise HTTPException(400, "the form cannot be read")
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise HTTPException(400, "the form cannot be read") from None
    request.state.form = Posted(fields)
    return request.state.form


def _read_parts(content_type: str, body: bytes) -> Posted:
    """The parts of a form with a file (RFC 7578): texts, and files by the names of their fields.

    What a browser says of a file's name and kind is not looked at. Raises: HTTPException.
    """
    found = _BOUNDARY.search(content_type)
    parts = (b"\r\n" + body).split(b"\r\n--" + found[1].encode()) if found is not None else []
    # Before the first mark is nothing, behind the last two dashes (RFC 2046 5.1.1).
    if not 3 <= len(parts) <= PARTS_MAX or not parts[-1].startswith(b"--"):
        raise HTTPException(400, "the form cannot be read")
    fields: dict[str, list[str]] = {}
    files: dict[str, bytes] = {}
    for part in parts[1:-1]:
        head, blank, content = part.partition(b"\r\n\r\n")
        told = head.decode("utf-8", "replace")
        name = _NAME.search(told)
        if not blank or name is None:
            raise HTTPException(400, "the form cannot be read")
        if "filename=" in told:
            files[name[1]] = content
        elif b"\0" in content:
            raise HTTPException(400, "the form cannot be read")
        else:
            fields.setdefault(name[1], []).append(content.decode("utf-8", "replace"))
    return Posted(fields, files)


async def _receive(request: Request, bytes_max: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > bytes_max:
            raise HTTPException(413, f"this form has {bytes_max // 1024} KiB at most")
    return bytes(body)


def require_own_origin(request: Request) -> None:
    """Raises: HTTPException 403: the browser says that another site's page sent this.

    `no-referrer` makes browsers send `Origin: null` (Fetch, 3.2): what they say of the site comes first.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_own = site == "same-origin"
    else:
        is_own = origin is None or origin == own_origin(request)
    if not is_own:
        raise HTTPException(403, "this form was sent from another site; nothing was done")


def require_csrf(request: Request, secret: str | None) -> None:
    """Raises: HTTPException 403: the form lacks the token that belongs to `secret`."""
    told = request.headers.get(CSRF_HEADER) or posted(request).get(CSRF_FIELD)
    if secret is None or not hmac.compare_digest(told.encode(), csrf_of(secret).encode()):
        raise HTTPException(403, _STALE)


def own_origin(request: Request) -> str:
    """As a browser would say it."""
    return f"{request.url.scheme}://{request.headers.get('host', '')}"
