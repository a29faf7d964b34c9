"""The composition root: builds the processes and hands them to the command line. The only file that sees everything."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Generator
from typing import Any

import uvicorn
import uvloop

from tenantry.cli.main import build_cli
from tenantry.control.alerting import Courier
from tenantry.control.background import Chore, drain_until, first_death, repeat_until
from tenantry.control.exporting import Exporter
from tenantry.control.presence import SiteReplaced, present
from tenantry.control.site import Site, bring_upstreams, open_site
from tenantry.domain.alerts import with_classic
from tenantry.domain.prices import load_default_prices
from tenantry.domain.printable import printable
from tenantry.domain.pulse import BEAT_SECONDS
from tenantry.gateway.serving import serve_gateway
from tenantry.ledger.alerts import open_watch
from tenantry.ledger.booking import Drain
from tenantry.ledger.outbox import Outbox
from tenantry.sandbox.server import serve_sandbox
from tenantry.settings import Settings
from tenantry.supervisor import HEARTBEAT, SUPERVISED, TELL_STACKS, Supervisor
from tenantry.web.api import control_app

# A threshold is to be told within two seconds of the row that passed it.
ALERT_WATCH_SECONDS = 0.5
ALERT_DELIVERY_SECONDS = 0.5
# A week or a month ends at most once in this time.
EXPORT_SECONDS = 60.0


class Processes:
    """The long-running commands. Each returns its exit code."""

    def gateway(self, settings: Settings) -> int:
        return _run(settings, serve_gateway(settings.gateway))

    def control(self, settings: Settings) -> int:
        try:
            with present(settings):
                return _run(settings, _serve_control(settings))
        except SiteReplaced as error:
            print(f"tenantry: {error}", file=sys.stderr)
            return 1

    def sandbox(self, settings: Settings, host: str, port: int) -> int:
        return _run(settings, _serve_sandbox(settings, host, port))

    def serve(self, settings: Settings, demo: bool) -> int:
        return _run(settings, Supervisor(settings, demo).run())


def main() -> None:
    """The `tenantry` command."""
    build_cli(Processes())()


def _run(settings: Settings, process: Coroutine[Any, Any, int]) -> int:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    # Its migrations are announced by `init`; opening the store is not news.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().call_soon(_follow_parent, runner.get_loop())
        return runner.run(process)


class _Plain(logging.Formatter):
    """What clients and upstreams said does nothing to the terminal that shows the log."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), "\n\t")


def _follow_parent(loop: asyncio.AbstractEventLoop) -> None:
    """A supervised process holds a pipe to its supervisor as stdin; when that ends, so does the process."""
    if os.environ.get(SUPERVISED) != "1":
        return

    def on_input() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(0, on_input)
    faulthandler.register(TELL_STACKS)
    descriptor = int(os.environ[HEARTBEAT])
    os.set_blocking(descriptor, False)
    # Not at once: what a process does before it serves may take its time.
    loop.call_later(BEAT_SECONDS, _beat, loop, descriptor)


def _beat(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Only a loop that goes on calls this."""
    with contextlib.suppress(OSError):  # the supervisor does not look at this moment, or is gone
        os.write(descriptor, b".")
    loop.call_later(BEAT_SECONDS, _beat, loop, descriptor)


class _ControlServer(uvicorn.Server):
    """Signals are this module's business: the drain has a last round to make after the web server ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def _serve_control(settings: Settings) -> int:
    site = open_site(settings)
    bring_upstreams(settings, site.directory)
    stop = _stop_on_signals()
    drain = Drain(site.engine, settings.journal_dir, load_default_prices())
    config = uvicorn.Config(
        control_app(site),
        settings.control_host,
        settings.control_port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
    )
    server = _ControlServer(config)
    web = asyncio.create_task(server.serve())
    caught_up = asyncio.Event()
    booking = asyncio.create_task(drain_until(stop, drain, caught_up))
    courier = Courier(Outbox(site.engine), site.directory, _now_us)
    chores = [asyncio.create_task(repeat_until(stop, chore)) for chore in _chores(site, courier)]
    exporting = Chore("exports", EXPORT_SECONDS, Exporter(site.engine, settings).step)
    chores.append(asyncio.create_task(repeat_until(stop, exporting, caught_up)))
    named = {web: "the web server", booking: "the booking of journals"} | dict.fromkeys(chores, "a chore")
    failed = await first_death(stop, named)
    stop.set()
    courier.stop()
    server.should_exit = True
    await asyncio.gather(web, booking, *chores, return_exceptions=failed)
    site.engine.dispose()
    return 1 if failed else 0


def _chores(site: Site, courier: Courier) -> list[Chore]:
    settings = site.settings
    thresholds = with_classic(settings.usage_alert_threshold_percent)
    watch = open_watch(site.engine, settings.zone, thresholds, settings.data_dir, settings.journal_dir, _now_us)
    return [
        Chore("the watch for alerts", ALERT_WATCH_SECONDS, watch.step),
        Chore("the delivery of alerts", ALERT_DELIVERY_SECONDS, courier.step),
    ]


def _now_us() -> int:
    return time.time_ns() // 1000


async def _serve_sandbox(settings: Settings, host: str, port: int) -> int:
    await serve_sandbox(host, port, settings.data_dir / "sandbox.log", stop=_stop_on_signals())
    return 0


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
