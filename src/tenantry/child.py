"""A process that `tenantry serve` keeps alive: started again when it ends or freezes, replaced without a gap."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

from tenantry.domain.pulse import LOOK_SECONDS, STEADY_SECONDS, Pulse
from tenantry.gateway.listening import LISTENER, SEAT, SEATS
from tenantry.kernel import DISK_SLEEP, TRACED, state_of
from tenantry.running import HEARTBEAT, READY, REPLACED, SUPERVISED, TELL_STACKS
from tenantry.starting import STARTING, hold_starting

log = logging.getLogger("tenantry.serve")

# For a child to write where its threads are.
_LAST_WORDS_SECONDS = 0.5
# Ending these helps nobody: a debugger wants them so, and a disk that does not answer holds them until it does.
_SPARED = {TRACED: "a debugger holds it", DISK_SLEEP: "it waits for a disk"}
_RESTART_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
# One that has served may be needed: clients wait for it meanwhile.
_SERVED_RESTART_SECONDS_MAX = 0.5
# A child that lived this long starts again with the shortest wait.
_STEADY_SECONDS = 30.0
# What a child that was told twice to stop has for its last words.
_HURRY_SECONDS = 1.0
_READ_BYTES = 4096
# Children need no credential from the environment: theirs are in the store. The sockets of systemd are for `serve`.
_NOT_FOR_CHILDREN = frozenset(
    {"ANTHROPIC_API_KEY", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", LISTENER, SEAT, SEATS, STARTING}
)


class Life:
    """One process, from its start to its end.

    `ready`: it has said that it serves. `over`: it has ended, or another process has taken its place.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, beats: int, pulse: Pulse) -> None:
        self.ready = asyncio.Event()
        self.over = asyncio.Event()
        self.was_frozen = False
        self.is_renewed = False  # it is stopped, for another one to be started
        self.process = process
        self._name = name
        self._beats = beats
        self._pulse = pulse
        self._spared = ""
        os.set_blocking(beats, False)
        asyncio.get_running_loop().add_reader(beats, self._on_beat)
        self._watching = asyncio.create_task(self._watch())
        self._ending = asyncio.create_task(self._end())

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        await asyncio.shield(self._ending)
        return self.process.returncode or 0

    async def _end(self) -> None:
        await self.process.wait()
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        self._on_beat()  # its last words
        asyncio.get_running_loop().remove_reader(self._beats)
        os.close(self._beats)
        self.over.set()

    def _on_beat(self) -> None:
        try:
            said = os.read(self._beats, _READ_BYTES)
        except BlockingIOError:
            return
        if not said:  # its end is about to be told
            asyncio.get_running_loop().remove_reader(self._beats)
        if READY in said:
            self.ready.set()
        if REPLACED in said:
            self.over.set()
        self._pulse.beat()
        self._spared = ""

    async def _watch(self) -> None:
        """End it when it has stopped beating; its keeper starts another one."""
        before = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            elapsed, before = now - before, now
            if not self._pulse.is_frozen(elapsed):
                continue
            state = state_of(self.process.pid)
            if state in _SPARED:
                if state != self._spared:
                    log.error("%s says nothing: %s", self._name, _SPARED[state])
                self._spared = state
                self._pulse.excuse()
                continue
            self.was_frozen = True
            log.critical(
                "%s is frozen: for %g s it has said nothing. It is ended, and started again",
                self._name,
                self._pulse.limit,
            )
            self.send(TELL_STACKS)
            await asyncio.sleep(_LAST_WORDS_SECONDS)
            self.send(signal.SIGKILL)
            return

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def stop(self, seconds: float, hurry: asyncio.Event) -> None:
        """SIGTERM, and after `seconds` SIGKILL. When `hurry` is set, both at once, but for a moment."""
        if self.process.returncode is not None:
            return
        self.send(signal.SIGTERM)
        if await self._ends_within(seconds, hurry):
            return
        if hurry.is_set():
            self.send(signal.SIGTERM)
            if await self._ends_within(_HURRY_SECONDS, asyncio.Event()):
                return
        else:
            log.error("%s did not stop in %g s and is killed", self._name, seconds)
        self.send(signal.SIGKILL)
        await self.ended()

    async def _ends_within(self, seconds: float, unless: asyncio.Event) -> bool:
        waits = [asyncio.create_task(self.ended()), asyncio.create_task(unless.wait())]
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        return waits[0] in done


class Child:
    """One process, kept alive until told to stop.

    `listener` is given to it, to be accepted from; `data_dir` is where it says until when it only starts. `seat`: which
    it is of `seats` that share the listener.
    """

    def __init__(
        self,
        name: str,
        listener: socket.socket | None = None,
        data_dir: Path | None = None,
        seat: int = 0,
        seats: int = 1,
    ) -> None:
        self.name = name if seat == 0 else f"{name} {seat + 1}"
        self.seats = seats
        self._command = name
        self._seat = seat
        self._is_surplus = False
        self.life: Life | None = None
        self.ready = asyncio.Event()  # it has served
        self.ends = 0  # how often in a row it has ended, of itself
        self._listener = listener
        self._data_dir = data_dir
        self._lives: set[Life] = set()  # those that have not ended, replaced ones too
        self._coming: asyncio.Task[Life | None] | None = None
        self._stopping = False
        self._frozen = 0  # how often in a row it was ended for its silence
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while not self._stopping:
            started, frozen = time.monotonic(), self._frozen
            self.life = await self._begin()
            code = await self._outlived()
            if self._stopping or self._is_surplus:
                return
            if self.life.is_renewed:
                self.ends = 0
                log.info("%s has stopped, and is started anew", self.name)
                continue
            self._frozen += self.life.was_frozen
            lived = time.monotonic() - started
            if self._frozen == frozen and lived > STEADY_SECONDS:
                self._frozen = 0
            self.ends = 0 if lived > _STEADY_SECONDS and self._frozen == frozen else self.ends + 1
            wait = _RESTART_SECONDS[min(max(0, self.ends - 1), len(_RESTART_SECONDS) - 1)]
            if self.life.ready.is_set():
                wait = min(wait, _SERVED_RESTART_SECONDS_MAX)
            log.error("%s %s; starting it again in %g s", self.name, _how(code), wait)
            await asyncio.sleep(wait)

    async def _outlived(self) -> int:
        """Wait until the process that counts is over, whichever that is by then; its exit code."""
        while True:
            life = self.life
            if life is None:
                return 0
            await life.over.wait()
            if self._coming is not None:
                await asyncio.wait([self._coming])
            if self.life is life:
                return life.process.returncode or 0

    async def _begin(self) -> Life:
        """Start a process."""
        beats, its_end = os.pipe()
        given = {HEARTBEAT: str(its_end), SEAT: str(self._seat), SEATS: str(self.seats)}
        descriptors = [its_end]
        if self._listener is not None:
            given[LISTENER] = str(self._listener.fileno())
            descriptors.append(self._listener.fileno())
        starting = hold_starting(self._data_dir) if self._data_dir is not None else None
        if starting is not None:
            given[STARTING] = str(starting)
            descriptors.append(starting)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tenantry",
                self._command,
                stdin=asyncio.subprocess.PIPE,
                env=_environment() | given,
                pass_fds=descriptors,
                start_new_session=True,
            )
        except BaseException:
            os.close(beats)
            raise
        finally:
            os.close(its_end)
            if starting is not None:
                os.close(starting)
        life = Life(self.name, process, beats, Pulse(self._frozen))
        self._lives.add(life)
        asyncio.create_task(self._follow(life))  # noqa: RUF006 -- the life holds what it waits for, and it ends with it
        return life

    async def _follow(self, life: Life) -> None:
        waits = [asyncio.create_task(life.ready.wait()), asyncio.create_task(life.ended())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        waits[0].cancel()
        if life.ready.is_set():
            self.ready.set()
        await waits[1]
        self._lives.discard(life)

    async def replace(self) -> bool:
        """Start another process beside the one that runs; True when it serves and that one has given way.

        False: it has ended before that, and the one that ran goes on, or is started again.
        """
        if self._coming is None:
            self._coming = asyncio.create_task(self._come())
        try:
            return await asyncio.shield(self._coming) is not None
        finally:
            self._coming = None

    async def _come(self) -> Life | None:
        if self._stopping:
            return None
        life = await self._begin()
        if self._stopping:  # `stop` has not seen it
            await life.stop(_HURRY_SECONDS, asyncio.Event())
            return None
        waits = [asyncio.create_task(life.ready.wait()), asyncio.create_task(life.ended())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        if not life.ready.is_set():
            return None
        self.life = life
        return life

    def leave_to_others(self) -> None:
        """Its place is about to be taken by another child's process: when that has come, none is started for it."""
        self._is_surplus = True

    def stay(self) -> None:
        """Nobody has taken its place, or not for good: it is kept alive as before."""
        self._is_surplus = False
        if not self._stopping and self._keeper is not None and self._keeper.done():
            self.start()

    @property
    def has_lives(self) -> bool:
        """Whether some process of it runs, one that was replaced too."""
        return bool(self._lives)

    async def renew(self, seconds: float) -> None:
        """Stop the process that runs; its keeper starts it again."""
        if self.life is not None and self.life.process.returncode is None:
            self.life.is_renewed = True
            await self.life.stop(seconds, asyncio.Event())

    async def stop(self, seconds: float, hurry: asyncio.Event) -> None:
        """SIGTERM to every process of it, and after `seconds` SIGKILL; at once when `hurry` is set."""
        self._stopping = True
        await asyncio.gather(*(life.stop(seconds, hurry) for life in list(self._lives)))
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)


def _how(code: int) -> str:
    """In words, how a process has ended that nobody had told to."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"was ended by signal {-code}"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN} | {SUPERVISED: "1"}
