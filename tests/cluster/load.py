"""Clients that go on whatever happens to the site, and remember what they were told."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.storm.clients import ANSWER_SECONDS_MAX, Answer, Leaving, ask

# What a client does after an answer that is none, before it tries again.
AGAIN_SECONDS = 0.05
_NUMBERS = itertools.count()


@dataclass(slots=True)
class Call:
    """One request. Times are seconds of the monotonic clock; `status` is None where no whole answer came."""

    slug: str
    tag: str
    began: float
    ended: float
    status: int | None
    error: str | None
    is_served: bool
    left: bool


def record(slug: str, tag: str, began: float, answer: Answer) -> Call:
    status = answer.status if answer.complete else None
    return Call(slug, tag, began, time.monotonic(), status, answer.error, answer.is_served, answer.left)


async def call(port: int, slug: str, key: str, script: dict[str, Any], **fields: Any) -> Call:
    """One request, under a tag of its own that the upstream sees."""
    tag, began = f"{slug}-{next(_NUMBERS)}", time.monotonic()
    try:
        answer = await ask(port, key, {"tag": tag, **script}, **fields)
    except OSError:  # nobody listens there
        answer = Answer()
    return record(slug, tag, began, answer)


class Load:
    """So many clients for each of the tenants in `keys`, at the ports by turns, in a thread of their own.

    Some of their requests are streamed, some clients leave in the middle: the seed says which. Who has no answer after
    `patience` seconds leaves, too.
    """

    def __init__(
        self,
        ports: Sequence[int],
        keys: dict[str, str],
        clients: int,
        seed: int,
        patience: float = ANSWER_SECONDS_MAX,
    ) -> None:
        self.calls: list[Call] = []
        self._ports, self._keys, self._clients, self._seed, self._patience = ports, keys, clients, seed, patience
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing new is asked; returns when everybody has an answer."""
        self._stopping.set()
        self._thread.join()

    def served(self, slugs: Sequence[str], since: float) -> Call | None:
        """The answer that came first of those to requests of these tenants that began after `since`."""
        found = [one for one in list(self.calls) if one.is_served and one.slug in slugs and one.began >= since]
        return min(found, key=lambda one: one.ended, default=None)

    async def _run(self) -> None:
        work = [self._work(slug, number) for slug in self._keys for number in range(self._clients)]
        await asyncio.gather(*work)

    async def _work(self, slug: str, number: int) -> None:
        source = random.Random(f"{self._seed}-{slug}-{number}")
        while not self._stopping.is_set():
            port = self._ports[source.randrange(len(self._ports))]
            script = {"gap_ms": source.choice((0, 5, 20)), "delay_ms": source.choice((0, 10, 50))}
            leaving = Leaving("mid-stream") if source.random() < 0.05 else None
            stream = leaving is not None or source.random() < 0.5
            key, most = self._keys[slug], self._patience
            done = await call(port, slug, key, script, leaving=leaving, stream=stream, seconds_max=most)
            self.calls.append(done)
            if not done.is_served:
                await asyncio.sleep(AGAIN_SECONDS)
