"""What takes longer than an answer: its progress, its result, and what it says when it fails."""

import threading

import pytest

from tenantry.control.tasks import Progress, TaskRunning, Tasks, TaskView
from tests.stack import wait_for


def ended(tasks: Tasks, task: TaskView) -> TaskView:
    def over() -> TaskView | None:
        found = tasks.find(task.task_id)
        return found if found is not None and found.state != "running" else None

    wait_for(lambda: over() is not None, what="the task")
    found = over()
    assert found is not None
    return found


def test_a_task_tells_lines_and_how_much_of_it_is_done() -> None:
    tasks, go_on = Tasks(), threading.Event()

    def work(progress: Progress) -> dict[str, object]:
        progress("begun")
        progress.came(0.25)
        go_on.wait()
        return {"found": 1}

    task = tasks.start("proof", "api:ana", work)
    wait_for(lambda: getattr(tasks.find(task.task_id), "share", None) == 0.25, what="its share")
    running = tasks.find(task.task_id)
    assert running is not None
    assert (running.state, running.progress, running.result) == ("running", ["begun"], None)
    with pytest.raises(TaskRunning, match=task.task_id):
        tasks.start("proof", "api:ben", work)
    go_on.set()
    assert ended(tasks, task).result == {"found": 1}


def test_what_is_for_people_is_told_and_a_fault_is_in_the_log() -> None:
    def refuse(_: Progress) -> dict[str, object]:
        raise ValueError("no room")

    tasks = Tasks()
    assert ended(tasks, tasks.start("backup", "api:ana", refuse, (ValueError,))).error == "no room"
    assert ended(tasks, tasks.start("backup", "api:ana", refuse)).error == "the log of control says what went wrong"
