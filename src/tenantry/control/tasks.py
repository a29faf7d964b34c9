"""What takes longer than an answer may: begun in a thread, looked at until it has ended. It ends with its process.

How far it is stands in the store, so that every control process shows it, whichever one runs it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tenantry.control.views import View
from tenantry.domain.printable import stamp
from tenantry.domain.values import value
from tenantry.storage.columns import new_id, now_utc
from tenantry.storage.tasks import TaskRecord, TaskStore

# Of those that have ended, so many are remembered.
TASKS_MAX: Final = 100
PROGRESS_LINES_MAX: Final = 1000
TELL_SECONDS: Final = 1.0
# Of what has ended while the store is away: as long as others believe that it runs.
_LAST_TRIES_MAX: Final = 10
RUNNING, DONE, FAILED = "running", "done", "failed"
log = logging.getLogger("tenantry.control")


class TaskRunning(Exception):
    """One of its kind is under way."""


@value
class TaskView(View):
    """`state`: running, done or failed; `result` of one that is done, `error` of one that failed.

    `share`: how much is done, from 0 to 1, of what can say so. `machine`: where it runs, and where files of it lie.
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
    machine: str = ""


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(TaskView)


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
    """Those of all control processes. Each kind runs once at a time: who asks for it again is told the one that runs.

    `machine`: this one's name.
    """

    def __init__(self, engine: Engine, machine: str) -> None:
        self._store = TaskStore(engine)
        self._machine = machine
        self._lock = threading.Lock()
        self._telling = threading.Lock()  # so that nothing older is told behind what is newer
        self._tasks: OrderedDict[str, TaskView] = OrderedDict()

    def start(self, kind: str, by: str, work: Work, refused: tuple[type[Exception], ...] = ()) -> TaskView:
        """Begin `work`, which is given what its progress is told to. `refused`: errors that are for people.

        Raises:
            TaskRunning: one of this kind runs.
            SQLAlchemyError: the store is away.
        """
        task_id, now = new_id("tsk"), stamp(now_utc())
        task = TaskView(task_id, kind, by, RUNNING, now, None, [], None, None, None, self._machine)
        running = self._store.begin(task_id, kind, _ENCODER.encode(task), TASKS_MAX)
        if running is not None:
            raise TaskRunning(f"a {kind} is under way: {running}")
        with self._lock:
            self._tasks[task_id] = task
            while len(self._tasks) > TASKS_MAX:
                self._tasks.popitem(last=False)
        ended = threading.Event()
        for target, args in ((self._run, (task, work, refused, ended)), (self._keep_telling, (task, ended))):
            threading.Thread(target=target, args=args, name=f"{kind} {task_id}", daemon=True).start()
        return self.find(task_id) or task

    def find(self, task_id: str) -> TaskView | None:
        """As it is at this moment; of another process's, as that told it last. Raises: SQLAlchemyError."""
        own = self._own(task_id)
        if own is not None:
            return own
        found = self._store.find(task_id)
        return _elsewhere(found) if found is not None else None

    def list(self) -> list[TaskView]:
        """The newest first. Raises: SQLAlchemyError."""
        found = (self._own(one.task_id) or _elsewhere(one) for one in self._store.list(TASKS_MAX))
        return [one for one in found if one is not None]

    def _own(self, task_id: str) -> TaskView | None:
        with self._lock:
            one = self._tasks.get(task_id)
            return replace(one, progress=list(one.progress)) if one is not None else None

    def _keep_telling(self, task: TaskView, ended: threading.Event) -> None:
        """Others, until it has ended. They take a task of which nothing is told for one whose process has ended."""
        while not ended.wait(TELL_SECONDS):
            with self._telling:
                own = self._own(task.task_id)
                if own is not None:
                    self._tell(own)

    def _tell(self, task: TaskView) -> bool:
        """Whether it could be."""
        try:
            self._store.tell(task.task_id, _ENCODER.encode(task), has_ended=task.state != RUNNING)
        except (SQLAlchemyError, OSError):  # StoreReplaced, too
            return False
        return True

    def _run(self, task: TaskView, work: Work, refused: tuple[type[Exception], ...], ended: threading.Event) -> None:
        try:
            result, error = work(Progress(task, self._lock)), None
        except refused as reason:
            result, error = None, str(reason)
        except Exception:
            log.exception("a %s failed", task.kind)
            result, error = None, "the log of control says what went wrong"
        ended.set()
        state = DONE if error is None else FAILED
        with self._telling:  # whoever sees that it has ended may begin another
            with self._lock:
                over = replace(task, result=result, error=error, ended_at=stamp(now_utc()), state=state)
            try:
                is_told = self._tell(over)
            finally:
                with self._lock:
                    self._tasks[task.task_id] = over
        for _ in range(0 if is_told else _LAST_TRIES_MAX):
            time.sleep(TELL_SECONDS)
            if self._tell(over):
                return


def _elsewhere(found: TaskRecord) -> TaskView | None:
    """None: another version of Tenantry tells it otherwise."""
    try:
        task = _DECODER.decode(found.told)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if task.state != RUNNING or not found.is_lapsed:
        return task
    words = f"the control process that ran it, on {task.machine}, has ended or lost the store: begin it again"
    return replace(task, state=FAILED, error=words)
