"""`tenantry serve`: starts gateway, control and, where used, the sandbox; restarts what dies; stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from tenantry.child import Child
from tenantry.control.restarting import RestartDoor, ServeRuns
from tenantry.control.site import SANDBOX, Site, bring_upstreams, ensure_sandbox_credential, open_site
from tenantry.gateway.listening import BACKLOG, CannotListen
from tenantry.setting_checks import reached_at
from tenantry.settings import Settings, SettingsError
from tenantry.starting import socket_for_serve

log = logging.getLogger("tenantry.serve")

# A gateway that has ended, and does not serve after so long, will not: what is wrong stands in the log.
_START_SECONDS_MAX = 20.0
# Control and sandbox of a `serve` that was killed end by themselves, within about a second.
_LEAVE_SECONDS_MAX = 10.0
_LOOK_SECONDS = 0.05
# A gateway starts in about a second; one that reads long journals of one that died must not keep control from starting.
_ALONE_SECONDS_MAX = 5.0
# Control's last round of booking.
_CONTROL_STOP_SECONDS = 30.0
_IS_STOPPING = "nothing was restarted: `tenantry serve` is stopping"
# Only the sandbox on this machine ever sees it, and it opens nothing.
_SANDBOX_CREDENTIAL = "sandbox-credential-of-this-machine"


class Supervisor:
    """The `serve` command. `greet`, for a site that is tried out, makes its tenant and says how to use it.

    `settings_now` reads them anew, for a restart; it raises SettingsError.
    """

    def __init__(
        self, settings: Settings, settings_now: Callable[[], Settings], greet: Callable[[Site], str] | None = None
    ) -> None:
        self._settings = settings
        self._settings_now = settings_now
        self._greet = greet
        self._listener: socket.socket | None = None
        self._children: dict[str, Child] = {}  # but for gateways
        self._gateways: list[Child] = []
        self._surplus: list[Child] = []  # gateways whose place others have taken; some end what they began
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._turn = asyncio.Lock()  # of restarts
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self) -> int:
        loop, settings = asyncio.get_running_loop(), self._settings
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        site = open_site(settings)
        try:
            with RestartDoor(settings.data_dir) as door:
                listener = await self._listen(site)
                if listener is None:
                    return 1
                with listener:
                    return await self._serve(site, listener, door)
        except ServeRuns as error:
            log.error("%s", error)
            return 1
        finally:
            site.engine.dispose()

    def _on_signal(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def _listen(self, site: Site) -> socket.socket | None:
        """The gateway's listening socket; None when it, or another port, is not to be had, which is told."""
        settings = self._settings
        place = settings.gateway_host, settings.gateway_port
        try:
            listener = await socket_for_serve(*place, settings.data_dir, settings.journal_dir, self._stop)
        except CannotListen as error:
            log.error("%s", error)
            return None
        is_adopted = bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        others = [("control", settings.control_host, settings.control_port)]
        if self._uses_sandbox(site):
            others.append(("sandbox", "127.0.0.1", settings.sandbox_port))
        until = time.monotonic() + (_LEAVE_SECONDS_MAX if is_adopted else 0.0)
        for name, host, port in others:
            while await asyncio.to_thread(_listens, host, port):
                if time.monotonic() > until:
                    log.error("%s: something listens on %s:%d already; stop it, or set another port", name, host, port)
                    listener.close()
                    return None
                await asyncio.sleep(_LOOK_SECONDS)
        listener.listen(BACKLOG)  # from here on connections wait for a gateway to accept them
        return listener

    async def _serve(self, site: Site, listener: socket.socket, door: RestartDoor) -> int:
        loop, settings = asyncio.get_running_loop(), self._settings
        for words in bring_upstreams(settings, site.directory):
            log.warning("%s", words)
        with_sandbox = self._prepare_sandbox(site)
        # Stopped in this order: the drain's last round comes after the gateway's last line.
        self._listener = listener
        self._start_gateways(_count(settings))
        self._children = {name: Child(name) for name in ("control", *(["sandbox"] if with_sandbox else []))}
        if with_sandbox:
            self._children["sandbox"].start()
        self._do(self._start_control())
        loop.add_signal_handler(signal.SIGHUP, lambda: self._do(self._restart()))
        door.open(self._restart)
        code = 0 if await self._wait_started() else 1
        if code == 0 and not self._stop.is_set():
            await self._tell_started(site)
            await self._stop.wait()
            log.info("stopping; requests in flight get up to %g s", settings.drain_seconds)
        gateways = [*self._gateways, *self._surplus]
        stopping = [asyncio.create_task(one.stop(settings.drain_seconds + 5, self._hurry)) for one in gateways]
        await asyncio.sleep(0)  # from here on none of them is started again
        listener.close()  # else who comes while streams end would wait for nobody
        await asyncio.gather(*stopping)
        async with self._turn:  # a restart that was under way has seen that, and starts nothing more
            pass
        for child in self._children.values():
            await child.stop(settings.drain_seconds + 5, self._hurry)
        return code

    def _start_gateways(self, count: int) -> None:
        """Start as many as are missing."""
        for seat in range(len(self._gateways), count):
            child = Child("gateway", self._listener, self._settings.data_dir, seat, count)
            self._gateways.append(child)
            child.start()

    async def _start_control(self) -> None:
        """Clients come first: what is not needed to serve them starts when the gateway serves, or takes long to."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gateways[0].ready.wait(), _ALONE_SECONDS_MAX)
        if not self._stop.is_set():
            self._children["control"].start()

    async def _tell_started(self, site: Site) -> None:
        settings = self._settings
        if "sandbox" in self._children:
            await self._wait_for("sandbox", "127.0.0.1", settings.sandbox_port)
        if self._greet is not None:
            print(await asyncio.to_thread(self._greet, site), flush=True)
        else:
            log.info("serving on %s", settings.public_url)
        if await asyncio.to_thread(_lacks_owner, site):
            url = settings.control_url
            log.info("Nobody can sign in to the control room at %s yet: `tenantry keys people link` shows a link", url)
        self._do(self._wait_for("control", settings.control_host, settings.control_port))

    def _do(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _restart(self) -> str:
        """Replace the gateway without a gap, then start control anew. What came of it, in words; "": all is well.

        Where there are several, one after the other; `gateway_processes` says how many there are from then on. Who asks
        while another restart is under way waits for its end, and is given one of its own, by the settings of then.
        """
        async with self._turn:
            if self._stop.is_set():
                problem = _IS_STOPPING
            else:
                try:
                    problem = await self._replace_gateways(_count(self._settings_now()))
                except SettingsError as error:
                    problem = f"nothing was restarted: {'; '.join(error.problems)}"
            if problem:
                log.error("%s", problem)
                return problem
            log.info("the new gateway serves; now control is stopped, to be started anew")
            self._do(self._children["control"].renew(_CONTROL_STOP_SECONDS))
            return ""

    async def _replace_gateways(self, count: int) -> str:
        """By `count` of them, who take the places of those that are too many as well. What went wrong, or nothing."""
        staying, surplus = self._gateways[:count], self._gateways[count:]
        if count != len(self._gateways):
            log.info("gateway_processes is %d from now on; it was %d", count, len(self._gateways))
        for one in surplus:
            one.leave_to_others()
        for gateway in staying:
            gateway.seats = count
            log.info("starting a new %s, which takes the place of the one that serves", gateway.name)
            is_replaced = await gateway.replace()
            if self._stop.is_set():
                return _IS_STOPPING
            if not is_replaced:
                for one in surplus:
                    one.stay()
                return f"the new {gateway.name} ended before it served; the log says why"
        self._gateways = staying
        self._surplus = [one for one in (*self._surplus, *surplus) if one.has_lives]
        self._start_gateways(count)
        return ""

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

    async def _wait_started(self) -> bool:
        """Wait until the gateway serves, however long it reads its journals. False: it ends again and again."""
        gateway, until = self._gateways[0], time.monotonic() + _START_SECONDS_MAX
        while not gateway.ready.is_set() and not self._stop.is_set():
            if gateway.ends and time.monotonic() > until:
                log.error("the gateway does not serve after %g s; see above", _START_SECONDS_MAX)
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    async def _wait_for(self, name: str, host: str, port: int) -> None:
        """Wait until a process listens. That it is slow is told, and stops nobody else."""
        until, is_told = time.monotonic() + _START_SECONDS_MAX, False
        while not self._stop.is_set() and not await asyncio.to_thread(_listens, host, port):
            if not is_told and time.monotonic() > until:
                is_told = True
                log.error(
                    "%s: nothing listens on %s:%d after %g s; see above. The gateway serves",
                    name,
                    host,
                    port,
                    _START_SECONDS_MAX,
                )
            await asyncio.sleep(_LOOK_SECONDS)


def _count(settings: Settings) -> int:
    """How many gateways; 0 in the settings: one for each core that this process may use."""
    return settings.gateway_processes or len(os.sched_getaffinity(0))


def _lacks_owner(site: Site) -> bool:
    """False too where the store cannot be asked: a hint is not worth an end of what serves."""
    try:
        return not site.directory.has_owner()
    except (SQLAlchemyError, OSError):
        return False


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((reached_at(host), port), timeout=1).close()
    except OSError:
        return False
    return True
