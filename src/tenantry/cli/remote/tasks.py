"""What takes long at a control elsewhere: begun, and looked after until it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tenantry.cli.remote.api import Api, ServerFailed

# The first looks come fast, for what takes no time; then one a second.
_WAIT_SECONDS: Final = 0.05
_WAIT_SECONDS_MAX: Final = 1.0
RUNNING: Final = "running"


def followed(
    api: Api,
    *path: str,
    body: object = None,
    line: Callable[[str], None] = lambda line: None,
    came: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """The result of a task that is begun by a POST. `line` is given each line of its progress, `came` how far it is.

    Raises: ServerFailed: it failed, or its control was started anew meanwhile. KeyboardInterrupt: it goes on there.
    """
    task: dict[str, Any] = api.write("POST", *path, body=body)
    told, wait = 0, _WAIT_SECONDS
    try:
        while True:
            for one in task["progress"][told:]:
                line(one)
            told = len(task["progress"])
            if task["share"] is not None:
                came(task["share"])
            if task["state"] != RUNNING:
                break
            api.wait(wait)
            wait = min(2 * wait, _WAIT_SECONDS_MAX)
            task = api.get("tasks", task["task_id"])
    except KeyboardInterrupt:
        words = f"interrupted; the {task['kind']} goes on at the machine of control ({task['task_id']})"
        raise KeyboardInterrupt(words) from None
    if task["error"] is not None:
        raise ServerFailed(task["error"])
    return task["result"]
