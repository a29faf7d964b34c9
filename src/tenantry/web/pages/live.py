"""Who is served now, told to open pages as it changes (Server-Sent Events, WHATWG HTML 9.2)."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator
from typing import Final

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tenantry.control.figures.live import LiveFigures, live_figures
from tenantry.control.figures.scope import Scope
from tenantry.control.site import Site
from tenantry.domain.roles import Principal
from tenantry.storage.tables import ledger
from tenantry.web.pages.showing import seen_scope
from tenantry.web.signin.cookies import SESSION, cookie_of
from tenantry.web.tokens import site_of

# Each holds a connection and little else; a person has a handful of pages open.
STREAMS_MAX: Final = 64
STREAMS_PER_SESSION_MAX: Final = 8
TOLD_EVERY_SECONDS: Final = 1.0
# Whether somebody is still signed in, and which clients are theirs to see.
ASKED_AGAIN_SECONDS: Final = 5.0
# Then the browser comes again by itself: what holds a stream open for ever holds a process that is to be replaced.
STREAM_SECONDS_MAX: Final = 600.0
# Proxies end what says nothing (nginx: proxy_read_timeout 60 s).
SILENT_SECONDS_MAX: Final = 15.0
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


class LiveFeed:
    """What all streams share: they are counted, and ended together."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self._is_closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """The process ends: every stream does within a second."""
        self._is_closed = True

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def take(self, session_id: str) -> bool:
        """Whether this session may have one more."""
        with self._lock:
            own = self.open.get(session_id, 0)
            if self._is_closed or own >= STREAMS_PER_SESSION_MAX or sum(self.open.values()) >= STREAMS_MAX:
                return False
            self.open[session_id] = own + 1
            return True

    def give_back(self, session_id: str) -> None:
        with self._lock:
            left = self.open.get(session_id, 0) - 1
            if left > 0:
                self.open[session_id] = left
            else:
                self.open.pop(session_id, None)


def stream(request: Request, principal: Principal) -> Response:
    feed: LiveFeed = request.app.state.live
    session_id = str(request.state.session.session_id)
    if not feed.take(session_id):
        raise HTTPException(503, "too many pages are open; this one does not change by itself", {"retry-after": "30"})
    told = _told(request, principal, feed, session_id)
    return StreamingResponse(told, media_type="text/event-stream", headers=_HEADERS)


async def _told(request: Request, principal: Principal, feed: LiveFeed, session_id: str) -> AsyncIterator[bytes]:
    try:
        site, secret = site_of(request), cookie_of(request, SESSION) or ""
        scope = await run_in_threadpool(seen_scope, request, principal)
        began = asked_at = said_at = time.monotonic()
        last, booked = "", Booked()
        while not feed.is_closed and time.monotonic() - began < STREAM_SECONDS_MAX:
            try:
                if time.monotonic() - asked_at >= ASKED_AGAIN_SECONDS:
                    found = await run_in_threadpool(site.directory.find_session, secret, notes_use=False)
                    if found is None:
                        yield b"event: end\ndata: signed out\n\n"
                        return
                    scope = await run_in_threadpool(seen_scope, request, found.person.principal)
                    asked_at = time.monotonic()
                now = await run_in_threadpool(_now, site, scope, booked)
            except (OperationalError, PoolTimeout):  # the store is away; nothing is told until it has been asked again
                now = last
            if now != last:
                last, said_at = now, time.monotonic()
                yield f"data: {now}\n\n".encode()
            elif time.monotonic() - said_at >= SILENT_SECONDS_MAX:
                said_at = time.monotonic()
                yield b": still here\n\n"
            await asyncio.sleep(TOLD_EVERY_SECONDS)
    finally:
        feed.give_back(session_id)


class Booked:
    """Whether something was booked of whom a stream may see: a mark that is another one then, and tells nothing else.

    The number of the ledger's newest row would tell who is confined to one client how much all others ask.
    """

    def __init__(self) -> None:
        self._stream = secrets.token_hex(4)  # who comes again looks anew: something may have come meanwhile
        self._changes = 0
        self._newest: int | None = None

    def mark(self, connection: Connection, scope: Scope) -> str:
        before = self._newest
        newest = self._newest = connection.execute(select(func.max(ledger.c.entry_id))).scalar() or 0
        if before is not None and newest > before:
            theirs = select(ledger.c.entry_id).where(ledger.c.entry_id > before, ledger.c.entry_id <= newest)
            if scope.ids is not None:
                theirs = theirs.where(ledger.c.tenant_id.in_(scope.ids))
            self._changes += connection.execute(theirs.limit(1)).first() is not None
        return f"{self._stream}.{self._changes}"


def _now(site: Site, scope: Scope, booked: Booked) -> str:
    live: LiveFigures = live_figures(site, scope)
    with site.engine.connect() as connection:
        mark = booked.mark(connection, scope)
    uses = {slug: [use.sessions, use.waiting] for slug, use in live.uses.items() if use.sessions or use.waiting}
    told = {"sessions": live.sessions, "waiting": live.waiting, "tenants": uses, "booked": mark}
    return json.dumps(told, separators=(",", ":"))
