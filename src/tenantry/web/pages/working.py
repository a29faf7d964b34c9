"""What takes longer than a page: begun by a form, followed on a page of its own."""

from __future__ import annotations

import time
from typing import Final

from starlette.requests import Request

from tenantry.control.tasks import RUNNING, TaskView, Work
from tenantry.web.tokens import tasks_of

# What is over so soon is shown at once, and needs no page that follows it.
SOON_SECONDS: Final = 1.0
_LOOKS_EACH_SECONDS: Final = 0.02


def begin(request: Request, kind: str, by: str, work: Work, refused: tuple[type[Exception], ...]) -> None:
    """In a thread of its own, waited for a moment. Raises: TaskRunning: one of its kind is under way."""
    tasks = tasks_of(request)
    task, until = tasks.start(kind, by, work, refused), time.monotonic() + SOON_SECONDS
    while task.state == RUNNING and time.monotonic() < until:
        time.sleep(_LOOKS_EACH_SECONDS)
        task = tasks.find(task.task_id) or task


def last(request: Request, kind: str) -> TaskView | None:
    """The one that is under way, or the last one."""
    return next((one for one in tasks_of(request).list() if one.kind == kind), None)
