"""`gateway_processes = 3`: one port, one store, three gateways, and the promises of one; with the `anthropic` SDK."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import anthropic
import httpx
import pytest

from tests.stack import Stack, wait_for

ASK = {"model": "claude-sonnet-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
GATEWAYS = 3
SLUGS = ("acme", "globex", "initech")
CALLERS = 64
BUDGET_CALLS = 50


class Serving:
    """`tenantry serve` with three gateways, and three tenants, each with a credential of its own."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder, TENANTRY_GATEWAY_PROCESSES=str(GATEWAYS))
        self.log = folder / "serve.log"
        self.process = self.stack.serve(self.log)
        wait_for(lambda: len(self.gateways()) == GATEWAYS, what="three gateways serving")
        limits = {"sessions_max": 1000, "queue_depth_max": 1000}
        self.keys = {slug: self.stack.tenant(slug, secret=f"sandbox-{slug}", **limits) for slug in SLUGS}
        for slug in SLUGS:
            wait_for(lambda slug=slug: self.is_known(slug), what="every gateway knowing the key")

    def gateways(self) -> list[int]:
        """The processes of the gateways that accept."""
        count = self.log.read_text().count("gateway listening") if self.log.exists() else 0
        found = _children(self.process.pid, "gateway")
        return found if count >= len(found) else []

    @cache  # noqa: B019 -- there is one of these, and a client takes longer to make than a call
    def client(self, slug: str, retries: int = 0) -> anthropic.Anthropic:
        """One whose every request is a connection of its own: whichever gateway accepts it."""
        return anthropic.Anthropic(
            base_url=f"http://127.0.0.1:{self.stack.port}/t/{slug}",
            api_key=self.keys[slug],
            max_retries=retries,
            default_headers={"connection": "close"},
        )

    def is_known(self, slug: str) -> bool:
        """Asked as often as makes it likely that each gateway has been."""
        key = self.keys[slug]
        return all(self.stack.get(key, "/v1/models")[0] == 200 for _ in range(4 * GATEWAYS))

    def is_open(self, slug: str) -> bool:
        try:
            for _ in range(2 * GATEWAYS):
                self.call(slug, self.client(slug), stream=False)
        except anthropic.APIStatusError:
            return False
        return True

    def call(self, slug: str, client: anthropic.Anthropic, *, stream: bool) -> None:
        """Raises: anthropic.APIError."""
        if stream:
            with client.messages.stream(**ASK) as answer:
                assert answer.get_final_message().stop_reason == "end_turn"
        else:
            assert client.messages.create(**ASK).stop_reason == "end_turn"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.stack.stop()


def _children(pid: int, command: str) -> list[int]:
    """The processes that `pid` has started and that run that command."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError, IndexError):
                continue
            if parent == pid and command.encode() in words:
                found.append(int(folder.name))
    return sorted(found)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    found = Serving(tmp_path_factory.mktemp("gateways"))
    yield found
    found.stop()


def test_a_budget_worth_fifty_calls_is_met_to_the_call_over_three_gateways(serving: Serving) -> None:
    """At its end, every gateway has answered for a tenant, and each tenant was granted for by one of them."""
    stack = serving.stack
    for slug in SLUGS:
        serving.call(slug, serving.client(slug), stream=False)
    price = stack.final_rows("acme")[0]["cost_nanos"]
    cap = price * BUDGET_CALLS
    for slug in SLUGS:
        stack.site.directory.set_budgets(slug, {"month": cap}, "hard")
    stack.follow()
    served, lock = dict.fromkeys(SLUGS, 0), threading.Lock()

    def work(number: int) -> None:
        slug = SLUGS[number % len(SLUGS)]
        client = serving.client(slug, retries=5)
        while True:
            try:
                serving.call(slug, client, stream=number % 2 == 0)
            except anthropic.APIStatusError as refusal:
                if refusal.body["error"]["type"] != "billing_error":  # type: ignore[index]
                    continue
                return
            with lock:
                served[slug] += 1

    with ThreadPoolExecutor(CALLERS) as pool:
        for done in [pool.submit(work, number) for number in range(CALLERS)]:
            done.result()
    for slug in SLUGS:
        rows = stack.final_rows(slug)
        assert sum(row["cost_nanos"] for row in rows) <= cap
        assert served[slug] + 1 <= BUDGET_CALLS
        assert len({row["attempt_id"] for row in rows}) == len(rows)
    total = sum(len(stack.rows(slug)) for slug in SLUGS)
    assert total == len(stack.billed())


def test_a_gateway_that_is_killed_under_load_costs_retries_at_most(serving: Serving) -> None:
    stack = serving.stack
    for slug in SLUGS:
        stack.site.directory.set_budgets(slug, {"month": None}, "hard")
    for slug in SLUGS:
        wait_for(lambda slug=slug: serving.is_open(slug), what="every gateway knowing that there is no budget")
    before = len(stack.billed())
    stop, served, failures = threading.Event(), [0], list[BaseException]()

    def work(number: int) -> None:
        slug = SLUGS[number % len(SLUGS)]
        client = serving.client(slug, retries=20)
        while not stop.is_set():
            try:
                serving.call(slug, client, stream=number % 2 == 0)
                served[0] += 1
            except anthropic.APIStatusError as refusal:
                # An `error` event in the middle of a stream has the status of its head.
                if refusal.status_code not in (200, 429) and refusal.status_code < 500:
                    failures.append(refusal)
                    return
            except (anthropic.APIError, httpx.TransportError):
                pass  # its stream broke off
            except BaseException as fault:  # noqa: BLE001 -- whatever is no error of the SDK's is a fault
                failures.append(fault)
                return

    with ThreadPoolExecutor(12) as pool:
        working = [pool.submit(work, number) for number in range(12)]
        wait_for(lambda: served[0] >= 12, what="calls being served")
        for _ in range(2):
            os.kill(serving.gateways()[0], signal.SIGKILL)
            at = served[0]
            wait_for(lambda at=at: served[0] >= at + 24, what="calls being served after the kill")
            wait_for(lambda: len(serving.gateways()) == GATEWAYS, what="another gateway serving")
        stop.set()
        for one in working:
            one.result()
    assert failures == []
    rows = [row for slug in SLUGS for row in stack.final_rows(slug)]
    assert len({row["attempt_id"] for row in rows}) == len(rows)
    # What was killed between its line in the journal and its first byte has a row, and was not billed.
    assert len(rows) >= len(stack.billed()) > before


def test_one_of_several_shares_the_store_also_where_the_settings_say_one_by_the_time_it_is_started_again(
    tmp_path: Path,
) -> None:
    stack = Stack(tmp_path, TENANTRY_GATEWAY_PROCESSES="1", TENANTRY_SEATS="2")
    try:
        stack.start("gateway")
        assert [one.state for one in stack.site.directory.list_gateways()] == ["lives"]
    finally:
        stack.stop()
