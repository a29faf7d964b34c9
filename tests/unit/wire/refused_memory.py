"""Calls of compiled functions while one allocation after the other is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


def outcomes_as_memory_is_refused(
    function: Callable[..., Any], arguments: tuple[object, ...], most: int
) -> Iterator[Any]:
    """What it tells with its first allocation refused, its second, and so on, where it is no `MemoryError`."""
    testcapi = pytest.importorskip("_testcapi", reason="this Python was built without its own test modules")
    for refused in range(1, most):
        testcapi.set_nomemory(refused, refused + 1)
        try:
            told = function(*arguments)
        except MemoryError:
            continue
        finally:
            testcapi.remove_mem_hooks()
        yield told
