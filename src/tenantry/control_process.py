"""The control process: the admin API, and the background work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Generator
from importlib import import_module
from typing import TYPE_CHECKING

import uvicorn

from tenantry.control.alerting import SEND_SECONDS_MAX
from tenantry.control.background import Chore, drain_until, ended_within, first_death, repeat_until
from tenantry.control.courier import Courier
from tenantry.control.exporting import Exporter
from tenantry.control.leading import Leaders, StoreLeader, leaders_of
from tenantry.control.live_everywhere import TOLD_SECONDS, Teller
from tenantry.control.metrics import Metrics
from tenantry.control.naming import Names
from tenantry.control.own_certificate import TLS_SECONDS, OwnCertificate
from tenantry.control.site import Site, bring_upstreams, host, open_site
from tenantry.control.status.looking import LOOK_SECONDS, Watch
from tenantry.domain.alerts import with_classic
from tenantry.domain.prices import load_default_prices
from tenantry.domain.wall import SteadyTime
from tenantry.ledger.alerts import open_watch
from tenantry.ledger.booking import Drain
from tenantry.ledger.metering import Booked
from tenantry.ledger.outbox import Outbox
from tenantry.running import leave, stop_on_signals
from tenantry.setting_values import OFF
from tenantry.settings import Settings
from tenantry.storage.changes import StoreChanges
from tenantry.storage.custody import note_master_key
from tenantry.storage.in_use import StoreUse
from tenantry.web.app import control_app
from tenantry.web.connections import BoundedProtocol

if TYPE_CHECKING:
    from tenantry.control.tracing import Tracing

# A threshold is to be told within two seconds of the row that passed it. Whole multiples of `DRAIN_SECONDS`: what is
# due at one moment wakes the process once.
ALERT_WATCH_SECONDS = 0.4
ALERT_DELIVERY_SECONDS = 0.4
log = logging.getLogger("tenantry.control")

# The date in an answer's head has seconds.
DATE_SECONDS = 1.0
# What a page of this month needs is read before somebody opens it; then it is a look at what came since.
WARM_SECONDS = 60.0
# A week or a month ends at most once in this time.
EXPORT_SECONDS = 60.0
# So long pages and chores that are under way have to end, and what is new in journals to be booked. An alert that is
# being sent has time of its own; `docker stop` kills after 10 s, and what was killed is done after the next start.
STOP_SECONDS_MAX = 5.0
SENT_LOOK_SECONDS = 0.05
# A tenant whose invoice failed is tried again as often; a month that is done costs two look-ups.
ROUND_SECONDS = 60.0


class TracesMissing(Exception):
    """traces_endpoint is set, and what sends traces is not installed: pip install 'tenantry[traces]'"""


class _ControlServer(uvicorn.Server):
    """Signals are this module's business: the drain has a last round to make after the web server ends."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            log.info("control listening on %s:%d", self.config.host, self.config.port)

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Uvicorn's own looks ten times a second whether it is to end, and each tenth time sets the date of answers."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DATE_SECONDS):
                    await self._ending.wait()


async def serve_control(settings: Settings) -> int:
    site = open_site(settings)
    use = StoreUse(site.engine)
    note_master_key(site.engine, site.vault.master)
    for words in bring_upstreams(settings, site.directory):
        log.warning("%s", words)
    stop = stop_on_signals()
    booked = Booked(settings.metrics_tenants_max)
    names = Names(site.engine)
    tracing = _tracing(settings, names)
    watchers = [booked.add] if tracing is None else [booked.add, tracing.add]
    drain = Drain(site.engine, settings.journal_dir, load_default_prices(), watchers)
    app = control_app(site, Metrics(site.engine, settings.journal_dir, booked, names))
    certificate = _certificate(settings)
    config = uvicorn.Config(
        app,
        settings.control_host,
        settings.control_port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        http=BoundedProtocol,
        ws="none",
        ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
        proxy_headers=False,  # web/proxies.py, for those alone that the settings name
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it says of starting and stopping, we say
    server = _ControlServer(config)
    web = asyncio.create_task(server.serve())
    leaders = leaders_of(site, host())
    leaders.begin()
    caught_up = asyncio.Event()
    booking = asyncio.create_task(drain_until(stop, drain, caught_up, leaders.booking.leads))
    watched, delivered = StoreChanges(site.engine), StoreChanges(site.engine)
    courier = Courier(Outbox(site.engine), site.directory, _now_us, changes=delivered)
    chores = [asyncio.create_task(repeat_until(stop, chore)) for chore in _chores(site, courier, watched, leaders)]
    time_of_day = SteadyTime(time.monotonic_ns, _now_us)

    def is_time() -> bool:
        return leaders.site.leads() and time_of_day.is_now()

    exporting = Chore("exports", EXPORT_SECONDS, Exporter(site.engine, settings).step, is_time)
    warming = Chore(
        "the sums of past days",
        WARM_SECONDS,
        lambda: app.state.figures.days.warm(site.engine, _now_us(), lambda: not stop.is_set()),
        lambda: caught_up.is_set() or not leaders.booking.leads(),  # what is being booked is read when it is
    )
    chores.append(asyncio.create_task(repeat_until(stop, warming)))
    if isinstance(leaders.site, StoreLeader):
        teller = Teller(site.engine, leaders.site.control_id, settings.journal_dir)
        chores.append(asyncio.create_task(repeat_until(stop, _telling(teller, leaders))))
    scheduled = [exporting, *_on_schedule(site, leaders, is_time)]
    chores += [asyncio.create_task(repeat_until(stop, chore, caught_up)) for chore in scheduled]
    if certificate is not None:
        chores.append(asyncio.create_task(repeat_until(stop, Chore("the certificate", TLS_SECONDS, certificate.step))))
    named = {web: "the web server", booking: "the booking of journals"} | dict.fromkeys(chores, "a chore")
    named |= leaders.keeping(stop)
    failed = await first_death(stop, named)
    stop.set()
    courier.stop()
    app.state.live.close()  # pages that watch: their answers would not end by themselves
    server.end()
    left = await ended_within(STOP_SECONDS_MAX, named, raises=not failed)
    await _sent(courier)
    await asyncio.to_thread(leaders.resign)
    if left:
        log.warning("stopped while these went on: %s", ", ".join(left))
        leave(1 if failed else 0)
    if tracing is not None:
        await asyncio.to_thread(tracing.close)
    watched.close()
    delivered.close()
    use.close()
    site.engine.dispose()
    log.info("stopped")
    return 1 if failed else 0


def _telling(teller: Teller, leaders: Leaders) -> Chore:
    """To controls of other machines, where there are any."""
    return Chore(
        "what other machines are told",
        TOLD_SECONDS,
        teller.step,
        lambda: leaders.booking.leads() and leaders.live() > 1 and teller.is_due(),
    )


async def _sent(courier: Courier) -> None:
    """Alerts that are being sent. Not in a thread: those may all be taken by what does not end."""
    until = time.monotonic() + SEND_SECONDS_MAX
    while not courier.wait(0.0) and time.monotonic() < until:  # noqa: ASYNC110 -- its threads tell of it, no task
        await asyncio.sleep(SENT_LOOK_SECONDS)


def _tracing(settings: Settings, names: Names) -> Tracing | None:
    """Where traces go, loaded only where they are wanted. Raises: TracesMissing."""
    if settings.traces_endpoint is None:
        return None
    try:
        tracing = import_module("tenantry.control.tracing")
    except ModuleNotFoundError as error:
        raise TracesMissing(f"{(TracesMissing.__doc__ or '').strip()} ({error})") from None
    return tracing.Tracing(tracing.otlp_exporter(settings.traces_endpoint), names.of)


def _certificate(settings: Settings) -> OwnCertificate | None:
    """What the address is served with. Raises: BadCertificate."""
    if settings.control_tls_certificate is None or settings.control_tls_key is None:
        return None
    return OwnCertificate(settings.control_tls_certificate, settings.control_tls_key)


def _chores(site: Site, courier: Courier, changes: StoreChanges, leaders: Leaders) -> list[Chore]:
    """Alerts: what gateways and disks of this machine say, by who books its journals; the rest by the site's leader."""
    is_here, is_leading = leaders.booking.leads, leaders.site.leads
    settings = site.settings
    thresholds = with_classic(settings.usage_alert_threshold_percent)
    watch = open_watch(
        site.engine, settings.zone, thresholds, settings.data_dir, settings.journal_dir, _now_us, changes, is_leading
    )
    return [
        Chore("the watch for alerts", ALERT_WATCH_SECONDS, watch.step, lambda: is_here() and watch.is_due()),
        Chore(
            "the delivery of alerts",
            ALERT_DELIVERY_SECONDS,
            courier.step,
            lambda: is_leading() and courier.is_due(),
        ),
    ]


def _on_schedule(site: Site, leaders: Leaders, is_time: Callable[[], bool]) -> list[Chore]:
    """Looks for the status page, invoices and summaries, where the settings want them: what renders the latter takes
    some megabytes, and is loaded for that alone.
    """
    found: list[Chore] = []
    if site.settings.status_page:
        watch = Watch(site)
        found.append(
            Chore("the status page", LOOK_SECONDS, watch.step, lambda: leaders.site.leads() and watch.is_due())
        )
    if site.settings.invoice_schedule != OFF:
        rounds = import_module("tenantry.control.rounds").InvoiceRounds(site)
        found.append(Chore("the round of invoices", ROUND_SECONDS, rounds.step, is_time))
    if site.settings.summary_schedule != OFF:
        summaries = import_module("tenantry.control.summaries").Summaries(site)
        found.append(Chore("the weekly summaries", ROUND_SECONDS, summaries.step, is_time))
    return found


def _now_us() -> int:
    return time.time_ns() // 1000
