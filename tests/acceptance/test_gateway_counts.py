"""`gateway_processes` is another number after `tenantry restart`, or after `serve` was killed: nobody sees that."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tenantry.control.restarting import RestartFailed, ask_restart
from tenantry.ledger.journal import is_alive
from tests import postgresql
from tests.acceptance.test_gateway_processes import ASK
from tests.acceptance.test_hop import ask
from tests.spawner import spawn
from tests.stack import Stack, free_ports, listens, read_all, read_log, tenantry, wait_for

CLIENTS = 4
SLUGS = ("acme", "globex")
FIRST = 3
# Longer than a restart takes.
LONG = "chunks=50;chunk-ms=50;answer-bytes=10000"


class Site:
    """`tenantry serve`, whose `tenantry.toml` says how many gateways there are."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.stack = Stack(folder, **environ)
        self.log = folder / "serve.log"
        self.is_on_sqlite = not environ
        self.say(FIRST)
        self.process = self.stack.serve(self.log)
        self.wait_for_gateways(FIRST)
        # Not that of `serve`, which ends with it.
        port, self._upstream_folder = free_ports(1)[0], folder / "upstream"
        self._upstream_folder.mkdir()
        own = {"TENANTRY_DATA_DIR": str(self._upstream_folder), "TENANTRY_SANDBOX_PORT": str(port)}
        self._upstream = spawn("sandbox", env=os.environ | own, cwd=folder)
        wait_for(lambda: listens(port), what="the upstream")
        self.keys = {slug: self._tenant(slug, f"http://127.0.0.1:{port}") for slug in SLUGS}
        for key in self.keys.values():
            wait_for(lambda key=key: self._is_known(key), what="every gateway knowing the key")

    def _tenant(self, slug: str, upstream: str) -> str:
        directory = self.stack.site.directory
        directory.set_upstream("own", upstream)
        directory.set_tier("open", {"sessions_max": 1000, "requests_per_minute": None})
        directory.create_tenant(slug, slug, "open")
        directory.add_credential(slug, f"sandbox-{slug}", "own")
        directory.bind_credential(slug, slug)
        return directory.issue_key(slug, "test").text

    def billed(self) -> list[dict[str, Any]]:
        return [one for one in read_log(self._upstream_folder / "sandbox.log") if one["event"] == "begin"]

    def say(self, count: int | str) -> None:
        text = f'"{count}"' if isinstance(count, str) else str(count)
        (self.stack.folder / "tenantry.toml").write_text(f"gateway_processes = {text}\n")

    def _is_known(self, key: str) -> bool:
        """Asked as often as makes it likely that each gateway has been."""
        return all(self.stack.get(key, "/v1/models")[0] == 200 for _ in range(12))

    def gateways(self) -> set[int]:
        """The processes that accept: those of living journals which nobody has taken the place of."""
        return {int(run.rpartition("-")[2]) for run in self.runs() if self._listens(run)}

    def runs(self) -> list[str]:
        """The living gateways, those that end what they began too."""
        return sorted(
            path.parent.name for path in self.stack.settings.journal_dir.glob("*/lock") if is_alive(path.parent)
        )

    def _listens(self, run: str) -> bool:
        place = f"0100007F:{self.stack.port:04X}"
        pid = run.rpartition("-")[2]
        listening = {
            line.split()[9]
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if line.split()[1] == place and line.split()[3] == "0A"
        }
        held: set[str] = set()
        with contextlib.suppress(OSError):  # it has ended
            for one in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):  # a client's connection, which has ended meanwhile
                    held.add(os.readlink(one))
        return any(f"socket:[{inode}]" in held for inode in listening)

    def wait_for_gateways(self, count: int) -> None:
        wait_for(lambda: len(self.gateways()) == count, what=f"{count} gateways")

    def restart(self, count: int | str) -> subprocess.CompletedProcess[str]:
        self.say(count)
        return tenantry(self.stack, "restart")

    def kill_serve(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self.stack.serve(self.log)

    def stream(self, slug: str) -> socket.socket:
        """A stream that has begun."""
        client = self.stack.connect()
        client.sendall(ask(self.keys[slug], LONG, stream=True, max_tokens=32_000))
        got = b""
        while b"content_block_delta" not in got:
            more = client.recv(65536)
            assert more, got
            got += more
        return client

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._upstream.terminate()
        self._upstream.wait()
        self.stack.stop()


class Clients:
    """Of the SDK, each in a loop, without retries; every other one makes a connection for each request."""

    def __init__(self, site: Site) -> None:
        self.served = 0
        self.failures: list[BaseException] = []
        self._site = site
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def _work(self, number: int) -> None:
        slug = SLUGS[number % len(SLUGS)]
        headers = {"connection": "close"} if number >= CLIENTS // 2 else {}
        client = anthropic.Anthropic(
            base_url=f"http://127.0.0.1:{self._site.stack.port}/t/{slug}",
            api_key=self._site.keys[slug],
            max_retries=0,
            default_headers=headers,
        )
        try:
            while not self._stop.is_set():
                assert client.messages.create(**ASK).stop_reason == "end_turn"
                with client.messages.stream(**ASK) as answer:
                    assert answer.get_final_message().stop_reason == "end_turn"
                self.served += 1
        except BaseException as fault:  # noqa: BLE001 -- whatever it is, a client has seen something
            self.failures.append(fault)

    def go_on(self) -> None:
        """Wait until all have been served since, or one has failed."""
        at = self.served
        wait_for(lambda: self.failures or self.served >= at + 4 * CLIENTS, what="clients being served")
        assert self.failures == []


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    name, environ = f"counts_{os.getpid()}", dict[str, str]()
    if request.param == "postgresql":
        if postgresql.binaries() is None:
            pytest.skip("PostgreSQL is not installed")
        environ["TENANTRY_STORE_URL"] = postgresql.migrated_database(name)
    found = Site(tmp_path, **environ)
    yield found
    found.stop()
    if environ:
        postgresql.drop_database(name)


def test_fewer_and_more_gateways_take_effect_and_nobody_sees_it(site: Site) -> None:
    """Down to one, which grants by itself, and up again; and at a start, where `serve` was killed, too."""
    with Clients(site) as clients:
        clients.go_on()
        for count in (2, 1, FIRST) if site.is_on_sqlite else (1, FIRST):
            with site.stream("acme") as stream:
                done = site.restart(count)
                assert done.returncode == 0, done.stderr
                clients.go_on()
                if count == FIRST:
                    # Beside one that is by itself, and still streams, nobody else may grant. It lets go of the port a
                    # moment after it was replaced.
                    wait_for(lambda: len(site.gateways()) == 1 or len(site.runs()) == FIRST, what="one that accepts")
                assert b"event: message_stop" in read_all(stream)
            site.wait_for_gateways(count)
        if site.is_on_sqlite:
            site.say(2)
            site.kill_serve()
            site.wait_for_gateways(2)
            clients.go_on()
    assert clients.failures == []
    for slug in SLUGS:
        rows = site.stack.final_rows(slug)
        assert len({row["attempt_id"] for row in rows}) == len(rows)
        assert {row["outcome"] for row in rows} == {"settled"}
    assert sum(len(site.stack.rows(slug)) for slug in SLUGS) == len(site.billed())
    assert_wrong_numbers_are_told(site)


def assert_wrong_numbers_are_told(site: Site) -> None:
    """And change nothing."""
    before = site.gateways()
    for count in (0, "many", 10_000):
        site.say(count)
        with pytest.raises(RestartFailed, match=r"nothing was restarted: .*gateway_processes must be"):
            ask_restart(site.stack.settings.data_dir)
    assert site.gateways() == before
