"""The door for programs: an admin token as a bearer (RFC 6750)."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tenantry.control.site import Site
from tenantry.control.tasks import Tasks
from tenantry.domain.roles import Principal, Role
from tenantry.storage.columns import now_utc
from tenantry.storage.records import AdminRecord
from tenantry.web.token_guesses import Guesses

# Far above the longest token; bounds what is hashed for an unknown caller.
TOKEN_CHARS_MAX = 512
# Tokens that are looked at side by side: fewer than an address may guess, so that right ones that come together are not
# taken for guesses.
PRESENTED_AT_ONCE = 4
# A proxy may say anything; the audit log's column holds twice that.
ADDRESS_CHARS_MAX = 64
_TOKEN_REQUIRED = "the admin token is required: Authorization: Bearer ..."  # noqa: S105 -- words


async def present_token(request: Request) -> Principal:
    """Whose token the request carries. Fails closed: whatever is not a token that works raises HTTPException."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HTTPException(401, _TOKEN_REQUIRED, {"www-authenticate": "Bearer"})
    guesses: Guesses = request.app.state.guesses
    address, found = address_of(request), None
    async with request.app.state.presenting:
        wait_seconds = guesses.take(address)
        if not wait_seconds:
            found = await run_in_threadpool(_present, site_of(request), token)
        if found is not None:
            guesses.was_right(address)
    if wait_seconds:
        await _tell_guess(request, guesses, None, "too many guesses")
        words = f"too many wrong admin tokens: try again in {wait_seconds} s"
        raise HTTPException(429, words, {"retry-after": str(wait_seconds)})
    if found is None:
        await _tell_guess(request, guesses, None, "an unknown token")
        raise HTTPException(401, _TOKEN_REQUIRED, {"www-authenticate": "Bearer"})
    state = found.state(now_utc())
    if state != "active":
        await _tell_guess(request, guesses, found.name, f"a token that is {state}")
        raise HTTPException(
            403, f"this admin token ({found.name}) is {state}: `tenantry keys admin create` makes another"
        )
    confined = frozenset(found.tenants) if found.tenants is not None else None
    return Principal(found.name, f"api:{found.name}", Role(found.role), confined)


def site_of(request: Request) -> Site:
    """The site that is served."""
    return request.app.state.site


def tasks_of(request: Request) -> Tasks:
    """Those of this site."""
    return request.app.state.tasks


def address_of(request: Request) -> str:
    """Where the request comes from, as far as this server sees it."""
    return request.client.host[:ADDRESS_CHARS_MAX] if request.client is not None else ""


def _present(site: Site, token: str) -> AdminRecord | None:
    found = site.directory.find_presented(token) if len(token) <= TOKEN_CHARS_MAX else None
    if found is not None and found.state(now_utc()) == "active":
        site.directory.note_use(found)
    return found


async def _tell_guess(request: Request, guesses: Guesses, name: str | None, what: str) -> None:
    """In the audit log, some lines a minute at most; a line says how many there were since the last."""
    count = guesses.to_tell()
    if count:
        directory = site_of(request).directory.acting_as("api", address_of(request))
        await run_in_threadpool(directory.audit, "admin.refused", name or "*", {"what": what, "count": count})
