"""What takes longer than an answer may: begun in a thread, looked at until it has ended. It ends with its process."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tenantry.control.views import View
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.storage.columns import new_id, now_utc

# Of those that have ended, so many are remembered.
TASKS_MAX: Final = 100
PROGRESS_LINES_MAX: Final = 1000
RUNNING, DONE, FAILED = "running", "done", "failed"
log = logging.getLogger("tenantry.control")


class TaskRunning(Exception):
    """One of its kind is under way."""


@value
class TaskView(View):
    """`state`: running, done or failed; `result` of one that is done, `error` of one that failed.

    `share`: how much is done, from 0 to 1, of what can say so.
    """

    task_id: str
    kind: str
    by: str
    state: str
    begun_at: str
    ended_at: str | None
    progress: list[str]
    share: float | None
    result: dict[str, Any] | None
    error: str | None


class Progress:
    """What work tells as it comes along: lines, and how much of it is done."""

    def __init__(self, task: TaskView, lock: threading.Lock) -> None:
        self._task, self._lock = task, lock

    def __call__(self, line: str) -> None:
        with self._lock:
            if len(self._task.progress) < PROGRESS_LINES_MAX:
                self._task.progress.append(line)

    def came(self, share: float) -> None:
        """From 0 to 1."""
        with self._lock:
            self._task.share = share  # pyright: ignore[reportAttributeAccessIssue] -- under the lock


Work = Callable[[Progress], dict[str, Any]]


class Tasks:
    """Those of this process. Each kind runs once at a time: who asks for it again is told the one that runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: OrderedDict[str, TaskView] = OrderedDict()

    def start(self, kind: str, by: str, work: Work, refused: tuple[type[Exception], ...] = ()) -> TaskView:
        """Begin `work`, which is given what its progress is told to. `refused`: errors that are for people.

        Raises:
            TaskRunning: one of this kind runs.
        """
        task_id, now = new_id("tsk"), stamp(now_utc())
        with self._lock:
            running = [one.task_id for one in self._tasks.values() if one.kind == kind and one.state == RUNNING]
            if running:
                raise TaskRunning(f"a {kind} is under way: {running[0]}")
            task = self._tasks[task_id] = TaskView(task_id, kind, by, RUNNING, now, None, [], None, None, None)
            while len(self._tasks) > TASKS_MAX:
                self._tasks.popitem(last=False)
        thread = threading.Thread(target=self._run, args=(task, work, refused), name=f"{kind} {task_id}", daemon=True)
        thread.start()
        return self.find(task_id) or task

    def find(self, task_id: str) -> TaskView | None:
        """As it is at this moment."""
        with self._lock:
            one = self._tasks.get(task_id)
            return _copy(one) if one is not None else None

    def list(self) -> list[TaskView]:
        """The newest first."""
        with self._lock:
            return [_copy(one) for one in reversed(self._tasks.values())]

    def _run(self, task: TaskView, work: Work, refused: tuple[type[Exception], ...]) -> None:
        try:
            result, error = work(Progress(task, self._lock)), None
        except refused as reason:
            result, error = None, str(reason)
        except Exception:
            log.exception("a %s failed", task.kind)
            result, error = None, "the log of control says what went wrong"
        with self._lock:
            task.result, task.error = result, error  # pyright: ignore[reportAttributeAccessIssue] -- under the lock
            task.ended_at = stamp(now_utc())  # pyright: ignore[reportAttributeAccessIssue]
            task.state = DONE if error is None else FAILED  # pyright: ignore[reportAttributeAccessIssue]


def _copy(task: TaskView) -> TaskView:
    return replace(task, progress=list(task.progress))
