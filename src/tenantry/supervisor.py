"""`tenantry serve`: starts gateway, control and, where used, the sandbox; restarts what dies; stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from tenantry.control.kernel import DISK_SLEEP, TRACED, state_of
from tenantry.control.site import SANDBOX, Site, bring_upstreams, ensure_sandbox_credential, open_site
from tenantry.domain.pulse import LOOK_SECONDS, STEADY_SECONDS, Pulse
from tenantry.running import HEARTBEAT, SUPERVISED, TELL_STACKS
from tenantry.settings import Settings

log = logging.getLogger("tenantry.serve")

# For a child to write where its threads are.
_LAST_WORDS_SECONDS = 0.5
# Ending these helps nobody: a debugger wants them so, and a disk that does not answer holds them until it does.
_SPARED = {TRACED: "a debugger holds it", DISK_SLEEP: "it waits for a disk"}
_RESTART_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
# A child that lived this long starts again with the shortest wait.
_STEADY_SECONDS = 30.0
_START_SECONDS_MAX = 20.0
# Only the sandbox on this machine ever sees it, and it opens nothing.
_SANDBOX_CREDENTIAL = "sandbox-credential-of-this-machine"


class _Child:
    """One process, kept alive until told to stop."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._frozen = 0  # how often in a row it was ended for its silence
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        failures = 0
        while not self._stopping:
            started, frozen = time.monotonic(), self._frozen
            code = await self._run()
            if self._stopping:
                return
            lived = time.monotonic() - started
            if self._frozen == frozen and lived > STEADY_SECONDS:
                self._frozen = 0
            failures = 0 if lived > _STEADY_SECONDS and self._frozen == frozen else failures + 1
            wait = _RESTART_SECONDS[min(failures, len(_RESTART_SECONDS) - 1)]
            log.error("%s ended with %d; starting it again in %g s", self.name, code, wait)
            await asyncio.sleep(wait)

    async def _run(self) -> int:
        """Start it and watch it until it has ended; its exit code."""
        beats, its_end = os.pipe()
        try:
            process = self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tenantry",
                self.name,
                stdin=asyncio.subprocess.PIPE,
                env=_environment() | {HEARTBEAT: str(its_end)},
                pass_fds=(its_end,),
                start_new_session=True,
            )
        except BaseException:
            os.close(beats)
            raise
        finally:
            os.close(its_end)
        watch = asyncio.create_task(self._watch(process, beats))
        try:
            return await process.wait()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            os.close(beats)

    async def _watch(self, process: asyncio.subprocess.Process, beats: int) -> None:
        """End a child that has stopped beating; the keeper starts it again."""
        pulse, spared, before = Pulse(self._frozen), "", time.monotonic()
        os.set_blocking(beats, False)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(BlockingIOError):
                if os.read(beats, 4096):
                    pulse.beat()
                    spared = ""
            now = time.monotonic()
            elapsed, before = now - before, now
            if not pulse.is_frozen(elapsed):
                continue
            state = state_of(process.pid)
            if state in _SPARED:
                if state != spared:
                    log.error("%s says nothing: %s", self.name, _SPARED[state])
                spared = state
                pulse.excuse()
                continue
            self._frozen += 1
            log.critical(
                "%s is frozen: for %g s it has said nothing. It is ended, and started again", self.name, pulse.limit
            )
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(TELL_STACKS)
                await asyncio.sleep(_LAST_WORDS_SECONDS)
                process.kill()
            return

    async def stop(self, seconds: float) -> None:
        """SIGTERM, and after `seconds` SIGKILL."""
        self._stopping = True
        process = self.process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), seconds)
            except TimeoutError:
                log.error("%s did not stop in %g s and is killed", self.name, seconds)
                process.kill()
                await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)


def _environment() -> dict[str, str]:
    """Children need no credential from the environment: theirs are in the store."""
    kept = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
    return kept | {SUPERVISED: "1"}


class Supervisor:
    """The `serve` command. `greet`, for a site that is tried out, makes its tenant and says how to use it."""

    def __init__(self, settings: Settings, greet: Callable[[Site], str] | None = None) -> None:
        self._settings = settings
        self._greet = greet
        self._children: list[_Child] = []

    async def run(self) -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        settings = self._settings
        site = open_site(settings)
        ports = [
            ("gateway", settings.gateway_host, settings.gateway_port),
            ("control", settings.control_host, settings.control_port),
        ]
        if self._uses_sandbox(site):
            ports.append(("sandbox", "127.0.0.1", settings.sandbox_port))
        for name, host, port in ports:
            if _listens(host, port):
                log.error(
                    "%s: something listens on %s:%d already; stop what listens there, or set another port",
                    name,
                    host,
                    port,
                )
                return 1
        bring_upstreams(settings, site.directory)
        with_sandbox = self._prepare_sandbox(site)
        # Stopped in this order: the drain's last round comes after the gateway's last line.
        names = ["gateway", "control", *(["sandbox"] if with_sandbox else [])]
        self._children = [_Child(name) for name in names]
        for child in reversed(self._children):
            child.start()
        code = 0 if await self._wait_started(stop) else 1
        if code == 0 and self._greet is not None:
            print(await asyncio.to_thread(self._greet, site), flush=True)
        elif code == 0:
            log.info("serving on %s", settings.public_url)
        if code == 0:
            await stop.wait()
            log.info("stopping; requests in flight get up to %g s", settings.drain_seconds)
        for child in self._children:
            await child.stop(settings.drain_seconds + 5)
        site.engine.dispose()
        return code

    def _uses_sandbox(self, site: Site) -> bool:
        """Whether the sandbox has to run: it has a credential, or the demo will make one."""
        demo = self._greet is not None and not os.environ.get("ANTHROPIC_API_KEY")
        return demo or any(row.name == SANDBOX for row in site.directory.list_credentials())

    def _prepare_sandbox(self, site: Site) -> bool:
        """Bring its credential up to date where somebody uses it. Whether it has to run."""
        used = any(row.credential == SANDBOX for row in site.directory.list_tenants())
        base_url = f"http://127.0.0.1:{self._settings.sandbox_port}"
        if used or (self._greet is not None and not os.environ.get("ANTHROPIC_API_KEY")):
            ensure_sandbox_credential(site, base_url, _SANDBOX_CREDENTIAL)
            return True
        return self._uses_sandbox(site)

    async def _wait_started(self, stop: asyncio.Event) -> bool:
        settings = self._settings
        ports = [(settings.gateway_host, settings.gateway_port), (settings.control_host, settings.control_port)]
        if any(child.name == "sandbox" for child in self._children):
            ports.append(("127.0.0.1", settings.sandbox_port))
        deadline = time.monotonic() + _START_SECONDS_MAX
        for host, port in ports:
            while not await asyncio.to_thread(_listens, host, port):
                if stop.is_set():
                    return True
                if time.monotonic() > deadline:
                    log.error("nothing listens on %s:%d after %g s; see above", host, port, _START_SECONDS_MAX)
                    return False
                await asyncio.sleep(0.05)
        return True


def _listens(host: str, port: int) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- compared, not bound
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
