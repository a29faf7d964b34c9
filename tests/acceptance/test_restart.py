"""A restart drops no call, counts on exactly, and a gateway outlives who started it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest

from tests.stack import Stack, free_ports, parse, read_all, request, tenantry, wait_for

# More by hand: python -m bench.restarts
RESTARTS = 3
CALLS = 120
WORKERS = 4


class Serving:
    """`tenantry serve` on a site."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.log = stack.folder / "serve.log"
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tenantry", "serve"],
                env=os.environ | stack.environ,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                cwd=stack.folder,
            )

    def told(self, what: str) -> int:
        return self.log.read_text().count(what)

    def wait(self, what: str, count: int = 1, seconds: float = 60.0) -> None:
        wait_for(lambda: self.told(what) >= count, seconds, what)

    def gateway(self) -> int:
        """The process that serves."""
        return gateways(self.stack)[-1]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)


def gateways(stack: Stack) -> list[int]:
    """The living gateways of a site, the one that began last at the end."""
    runs = sorted(path.parent.name for path in stack.settings.journal_dir.glob("*/lock"))
    pids = [int(run.rpartition("-")[2]) for run in runs]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in status(pid)]


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    stack = Stack(tmp_path, TENANTRY_DRAIN_SECONDS="3")
    serving = Serving(stack)
    try:
        serving.wait("serving on")
        yield serving
    finally:
        serving.stop()
        for pid in gateways(stack):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        stack.stop()


class Callers:
    """Threads that call with the stock SDK, without its retries, until they are told to stop."""

    def __init__(self, stack: Stack, key: str, streams: bool = True) -> None:
        self.failed: list[str] = []
        self.done = 0
        self._stop = threading.Event()
        self._url = f"http://127.0.0.1:{stack.port}"
        self._key = key
        self._streams = streams
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(WORKERS)]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        client = anthropic.Anthropic(base_url=self._url, api_key=self._key, max_retries=0, timeout=60)
        scenario = {"x-sandbox-scenario": "chunks=4;chunk-ms=10"}
        turn = number
        while not self._stop.is_set():
            turn += 1
            try:
                fields = {"model": "claude-sonnet-5-5", "max_tokens": 64, "extra_headers": scenario}
                said = [{"role": "user", "content": "hi"}]
                if self._streams and turn % 2:
                    with client.messages.stream(messages=said, **fields) as stream:
                        assert stream.get_final_message().stop_reason
                else:
                    assert client.messages.create(messages=said, **fields).content
            except Exception as error:
                self.failed.append(f"{type(error).__name__}: {error}")
            self.done += 1
        client.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_no_call_fails_while_the_gateway_is_replaced_again_and_again(served: Serving) -> None:
    stack = served.stack
    key = stack.tenant("acme")
    stack.site.directory.set_budgets("acme", {"month": 10**12})
    wait_for(lambda: stack.message(key)[0] == 200, 20, "an answer")
    callers, pids = Callers(stack, key), {served.gateway()}
    try:
        for _ in range(RESTARTS):
            done = callers.done
            said = tenantry(stack, "restart")
            assert said.returncode == 0, said.stderr + served.log.read_text()
            pids.add(served.gateway())
            wait_for(lambda before=done: callers.done > before + CALLS // RESTARTS, 60, "calls after a restart")
    finally:
        callers.stop()
    assert callers.failed == []
    assert len(pids) == RESTARTS + 1
    wait_for(lambda: len(gateways(stack)) == 1, 20, "the old gateways' end")
    wait_for(lambda: len(stack.rows("acme")) == len(stack.billed()), 20, "the rows")
    assert {row["outcome"] for row in stack.rows("acme")} == {"settled"}
