"""What takes longer than an answer: its progress, its result, and what it says when it fails."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from tenantry.control.tasks import Progress, TaskRunning, Tasks, TaskView
from tenantry.storage.control_tables import tasks
from tenantry.storage.tasks import TaskStore
from tests.stack import wait_for
from tests.template import new_store

GONE = TaskView("tsk_gone", "proof", "api:ana", "running", "", None, [], None, None, None, "web-3").as_json()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = new_store(tmp_path / "store.db")
    yield made
    made.dispose()


def ended(tasks: Tasks, task: TaskView) -> TaskView:
    def over() -> TaskView | None:
        found = tasks.find(task.task_id)
        return found if found is not None and found.state != "running" else None

    wait_for(lambda: over() is not None, what="the task")
    found = over()
    assert found is not None
    return found


def test_a_task_tells_lines_and_how_much_of_it_is_done(engine: Engine) -> None:
    own, go_on = Tasks(engine, "web-1"), threading.Event()

    def work(progress: Progress) -> dict[str, object]:
        progress("begun")
        progress.came(0.25)
        go_on.wait()
        return {"found": 1}

    task = own.start("proof", "api:ana", work)
    wait_for(lambda: getattr(own.find(task.task_id), "share", None) == 0.25, what="its share")
    running = own.find(task.task_id)
    assert running is not None
    assert (running.state, running.progress, running.result) == ("running", ["begun"], None)
    with pytest.raises(TaskRunning, match=task.task_id):
        own.start("proof", "api:ben", work)
    go_on.set()
    assert ended(own, task).result == {"found": 1}


def test_what_is_for_people_is_told_and_a_fault_is_in_the_log(engine: Engine) -> None:
    def refuse(_: Progress) -> dict[str, object]:
        raise ValueError("no room")

    own = Tasks(engine, "web-1")
    assert ended(own, own.start("backup", "api:ana", refuse, (ValueError,))).error == "no room"
    assert ended(own, own.start("backup", "api:ana", refuse)).error == "the log of control says what went wrong"


def test_every_control_shows_a_task_of_another_and_begins_none_of_its_kind_beside_it(engine: Engine) -> None:
    here, there, go_on = Tasks(engine, "web-1"), Tasks(engine, "web-2"), threading.Event()

    def work(progress: Progress) -> dict[str, object]:
        progress("begun")
        go_on.wait()
        return {"found": 1}

    task = here.start("proof", "api:ana", work)
    with pytest.raises(TaskRunning, match=task.task_id):
        there.start("proof", "api:ben", work)
    assert [(one.state, one.machine, one.by) for one in there.list()] == [("running", "web-1", "api:ana")]
    wait_for(lambda: getattr(there.find(task.task_id), "progress", None) == ["begun"], what="its progress")
    go_on.set()
    assert ended(there, task).result == {"found": 1}
    assert ended(there, there.start("proof", "api:ben", work)).machine == "web-2"


def test_a_task_whose_process_has_ended_is_said_to_have_failed_and_holds_up_no_other(engine: Engine) -> None:
    here, there = Tasks(engine, "web-1"), Tasks(engine, "web-2")
    TaskStore(engine).begin("tsk_gone", "proof", json.dumps(GONE).encode(), 5)
    with engine.begin() as connection:
        connection.execute(update(tasks).values(lease_until_us=1))
    for one in (here, there):
        found = one.find("tsk_gone")
        assert found is not None
        assert (found.state, found.result) == ("failed", None)
        assert "ran it, on web-3, has ended" in str(found.error)
    assert ended(here, here.start("proof", "api:ana", lambda _: {})).state == "done"


def test_the_newest_are_remembered(engine: Engine) -> None:
    store = TaskStore(engine)
    for number in range(7):
        assert store.begin(f"tsk_{number}", f"kind {number}", b"{}", 5) is None
    assert [one.task_id for one in store.list(100)] == [f"tsk_{number}" for number in (6, 5, 4, 3, 2)]


@pytest.mark.parametrize("told", [b"", b'{"other": 1}', b'{"task_id": "\xed\xa0\x80"}'])
def test_what_another_version_tells_in_words_of_its_own_is_left_out(engine: Engine, told: bytes) -> None:
    TaskStore(engine).begin("tsk_later", "proof of a later version", told, 5)
    own = Tasks(engine, "web-1")
    assert own.find("tsk_later") is None
    done = ended(own, own.start("proof", "api:ana", lambda _: {}))
    assert own.list() == [done]
