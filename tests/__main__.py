"""Runs the tests: `python -m tests [WORDS OF PYTEST]...`, as `make test` does.

A machine that is busy with something else makes a test fail now and then that is right. So when a few tests have
failed, they are run once more, alone; the run is green if all of them pass then. What passed only alone is told at the
end, with the words of its first failure: it has a race, in itself or in what it tests, and is to be mended. What fails
twice is red. So are more failures than a few, a file that cannot be collected and a worker that died, at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

# More are no accident: their second run would take long, and say nothing.
FAILED_MAX = 5


class SecondChance:
    """A plugin of the process that the tests are run from: it sees what all workers report."""

    def __init__(self) -> None:
        # As it was for the first run: `tests/conftest.py` takes out what is a setting of the tests alone.
        self._environ = dict(os.environ)
        self._is_broken = False
        self._unsteady: dict[str, str] = {}  # the words of the first failure, by test

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._is_broken |= report.failed

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object) -> None:
        self._is_broken |= error is not None

    @pytest.hookimpl(trylast=True)  # when the workers have ended
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        terminal: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        reports = [*terminal.stats.get("failed", ()), *terminal.stats.get("error", ())]
        failed = {one.nodeid: one.longreprtext for one in reversed(reports)}
        if session.exitstatus != pytest.ExitCode.TESTS_FAILED or self._is_broken or len(failed) > FAILED_MAX:
            return
        terminal.ensure_newline()
        terminal.section(f"{len(failed)} failed, and are run once more, alone")
        if not self._pass_alone(session.config, list(failed)):
            return
        self._unsteady = failed
        for kind in ("failed", "error"):
            terminal.stats.pop(kind, None)
        passed = terminal.stats.setdefault("passed", [])
        known = {one.nodeid for one in passed}
        passed += [one for one in {one.nodeid: one for one in reports}.values() if one.nodeid not in known]
        session.testsfailed = 0
        session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for nodeid, words in self._unsteady.items():
            terminalreporter.write_sep("!", f"UNSTEADY: {nodeid}", red=True, bold=True)
            terminalreporter.write_line(words)
        if self._unsteady:
            count = len(self._unsteady)
            terminalreporter.write_sep("!", f"UNSTEADY: {count} passed only when run alone. Mend them.", red=True)
            for nodeid in self._unsteady:
                terminalreporter.write_line(f"UNSTEADY {nodeid}", red=True)

    def _pass_alone(self, config: pytest.Config, nodeids: list[str]) -> bool:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *nodeids]
        capture: Any = config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled():
            sys.stdout.flush()
            return subprocess.run(command, env=self._environ, cwd=config.rootpath, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:], plugins=[SecondChance()]))
