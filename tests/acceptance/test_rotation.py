"""The master key is rotated under traffic, and killed with SIGKILL on the way: no call notices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

from tenantry.storage.key_files import KeyFiles
from tests.stack import Stack, tenantry, wait_for

# Runs the command and ends itself with SIGKILL at the call of that name and number, of all that change files.
DIES = """
import os, signal, sys
from tenantry.storage import key_files
from tenantry.storage.directory import master_key
from tenantry.app import main
where, number = sys.argv[1], int(sys.argv[2])
holder = {"commit": (master_key, "_seal_addresses"), "link": (os, "link"), "replace": (os, "replace"),
          "fsync": (os, "fsync"), "place": (key_files.KeyFiles, "take_place")}[where]
real, seen = getattr(*holder), [0]
def dies(*args, **named):
    seen[0] += 1
    if seen[0] == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **named)
setattr(*holder, dies)
sys.argv = ["tenantry", "keys", "master", "rotate", "--yes"]
main()
"""
MOMENTS = (("fsync", 1), ("link", 1), ("commit", 1), ("place", 1), ("link", 2), ("replace", 1), ("fsync", 3))


class Traffic:
    """Calls again and again, over new connections; what was not 200."""

    def __init__(self, stack: Stack, key: str) -> None:
        self.stack, self.key = stack, key
        self.count, self.failed = 0, list[object]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                status = self.stack.message(self.key)[0]
            except OSError as error:
                self.failed.append(error)
                continue
            self.count += 1
            if status != 200:
                self.failed.append(status)

    def goes_on(self) -> None:
        before = self.count
        wait_for(lambda: self.count >= before + 3, what="three more calls")


def rotate_and_die(stack: Stack, where: str, number: int) -> int:
    words = [sys.executable, "-c", DIES, where, str(number)]
    return subprocess.run(words, env=os.environ | stack.environ, cwd=stack.folder, timeout=60, check=False).returncode


def check(stack: Stack) -> dict[str, dict[str, object]]:
    return {one["check"]: one for one in json.loads(tenantry(stack, "doctor", "--json").stdout)}


def test_kill_9_at_any_moment_of_a_rotation_under_traffic_costs_no_call(own_stack: Stack) -> None:
    stack = own_stack.start()
    key = stack.tenant("acme", secret="sandbox-canary-acme")
    files = KeyFiles(stack.settings.master_key_file)
    with Traffic(stack, key) as traffic:
        for number, (where, call) in enumerate(MOMENTS):
            assert rotate_and_die(stack, where, call) == -signal.SIGKILL, where
            traffic.goes_on()
            # What was running follows the directory still, and new secrets are read by it.
            later = stack.tenant(f"late-{number}", secret=f"sandbox-canary-late-{number}")
            assert stack.message(later)[0] == 200
            if files.next_path.exists():
                assert "keys master rotate" in str(check(stack)["master key's rotation"]["mend"])
            assert check(stack)["database's master key"]["ok"]
            traffic.goes_on()
        done = tenantry(stack, "keys", "master", "rotate", "--yes")
        assert done.returncode == 0, done.stderr
        traffic.goes_on()
    assert traffic.failed == []
    assert not files.next_path.exists()
    assert tenantry(stack, "audit", "--verify").returncode == 0
    for name in ("gateway", "control"):
        stack.kill(name, signal.SIGTERM)
    stack.start("gateway", "control")
    assert stack.message(key)[0] == 200
    secrets = {entry["credential"] for entry in stack.billed()}
    assert len(secrets) == 1 + len(MOMENTS)


def test_rotations_one_after_the_other_under_traffic(own_stack: Stack) -> None:
    stack = own_stack.start()
    key = stack.tenant("acme", secret="sandbox-canary-acme")
    with Traffic(stack, key) as traffic:
        for _ in range(3):
            done = tenantry(stack, "keys", "master", "rotate", "--yes", "--json")
            told = json.loads(done.stdout)
            assert told["new"] != told["old"]
            traffic.goes_on()
    assert traffic.failed == []
    asked = tenantry(stack, "keys", "master", "rotate")
    assert (asked.returncode, "repeat with --yes" in asked.stderr) == (2, True)


def test_an_address_that_was_written_by_hand_gets_no_request(own_stack: Stack) -> None:
    stack = own_stack.start()
    key = stack.tenant("acme", secret="sandbox-canary-acme")
    assert stack.message(key)[0] == 200
    with stack.site.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE upstreams SET base_url = 'http://127.0.0.1:9'")
        connection.exec_driver_sql("UPDATE meta SET value = value + 1 WHERE name = 'directory_version'")
    told = lambda: "another address" in (stack.folder / "gateway.log").read_text()  # noqa: E731
    wait_for(told, what="the gateway's word")
    assert stack.message(key)[0] == 200  # by the last directory that could be read
    assert not check(stack)["upstream sandbox's address"]["ok"]
    refused = tenantry(stack, "credentials", "check", "acme")
    assert (refused.returncode, "does not open for http://127.0.0.1:9" in refused.stderr) == (1, True)
