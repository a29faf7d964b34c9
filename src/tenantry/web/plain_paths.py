"""No name has a NUL in it, and PostgreSQL takes none in a text: a path with one names nothing, whoever asks for it.

Bodies and queries say themselves what they take (`api/reading.py`, `pages_base/forms.py`).
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from tenantry.web.answers import problem


class PlainPaths:
    """Lets through what names something."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "\0" in scope["path"]:
            await problem(404, "there is no such page here")(scope, receive, send)
            return
        await self._app(scope, receive, send)
