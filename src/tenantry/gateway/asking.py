"""How a gateway of several asks the store beside requests: in threads, and what it says of a store that is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from tenantry.domain.repeats import Repeats

log = logging.getLogger("tenantry.gateway")
T = TypeVar("T")


class Asking:
    """Two threads, and one of its own for the lease: that must not stand behind an opening which reads a large
    ledger."""

    def __init__(self) -> None:
        self._renewer = ThreadPoolExecutor(1, "lease")
        self._asker = ThreadPoolExecutor(2, "cells")

    async def ask(self, ask: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._asker, ask)

    async def ask_of_lease(self, ask: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._renewer, ask)

    def close(self) -> None:
        for one in (self._renewer, self._asker):
            one.shutdown(wait=False, cancel_futures=True)


class Fault:
    """A fault that comes again and again, told once: a store that is away in a line, what is ours with its trace."""

    def __init__(self, words: str, now: Callable[[], float]) -> None:
        self._words = words
        self._now = now
        self._repeats = Repeats()

    @contextmanager
    def noted(self) -> Generator[None]:
        """What fails in here is told and goes no further."""
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            if self._is_news(error):
                log.error("%s: %s", self._words, _line(error))
        except Exception as error:
            if self._is_news(error):
                log.exception(self._words)
        else:
            if self._repeats.count and (count := self._repeats.went_well(self._now())):
                log.warning("all is well again; %d times %s", count, self._words)

    def _is_news(self, error: Exception) -> bool:
        return self._repeats.came(f"{type(error).__name__}: {_line(error)}", self._now())


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
