"""What Prometheus is told, from what is known anyhow: what was booked, the live records of the gateways, the store.

Nothing is counted for it on a request's way but what the gateway itself adds to each. Names stay bounded
(`ledger.metering`). No value is a secret or of a prompt; costs and tenants' slugs are an agency's own business.
"""

from __future__ import annotations

import platform
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, func, select

from tenantry import __version__
from tenantry.control.exposition import MICROS, NANOS, Page, shifted
from tenantry.control.form import is_compiled
from tenantry.control.naming import Names
from tenantry.domain.histograms import OWN_BOUNDS_US, Histogram
from tenantry.ledger.lag import booking_lag
from tenantry.ledger.live import LiveGateway, read_live
from tenantry.ledger.metering import Booked
from tenantry.storage.tables import refusals

# Who is counted apart is decided anew so often.
CHOICE_SECONDS: Final = 3600.0


class Metrics:
    """The page that Prometheus scrapes. One call at a time: it remembers what gateways have told, which begin at 0."""

    def __init__(self, engine: Engine, journal_dir: Path, booked: Booked, names: Names | None = None) -> None:
        self._engine = engine
        self._names = names or Names(engine)
        self._journal_dir = journal_dir
        self._booked = booked
        self._chosen_at = time.monotonic()
        self._added = Histogram(OWN_BOUNDS_US)
        self._told: dict[str, tuple[list[int], int]] = {}  # what each gateway had added when it was looked at last

    def page(self) -> bytes:
        if time.monotonic() - self._chosen_at > CHOICE_SECONDS:
            self._chosen_at = time.monotonic()
            self._booked.choose_tenants()
        page = Page()
        page.family("tenantry_build_info", "gauge", "The version that runs.")
        form = "compiled" if is_compiled() else "interpreted"
        page.sample(1, {"version": __version__, "python": platform.python_version(), "form": form})
        self._names.refresh()
        with self._booked.lock:
            self._tell_booked(page)
        self._tell_refusals(page)
        self._tell_live(page)
        self._tell_lag(page)
        return page.text()

    # What was booked

    def _tell_booked(self, page: Page) -> None:
        """Since this process began: Prometheus takes a start at 0 for what it is."""
        booked, called = self._booked, self._names.of
        page.family("tenantry_booked_rows_total", "counter", "Attempts booked into the ledger.")
        page.sample(booked.rows)
        page.family(
            "tenantry_requests_total", "counter", "Requests that went upstream, by the end of their first attempt."
        )
        for (tenant, outcome), count in sorted(booked.requests.items()):
            page.sample(count, {"tenant": called(tenant), "outcome": outcome})
        page.family("tenantry_retries_total", "counter", "Further attempts of requests whose first one failed.")
        for tenant, count in sorted(booked.retries.items()):
            page.sample(count, {"tenant": called(tenant)})
        page.family("tenantry_attempts_total", "counter", "Attempts, by how they were booked.")
        for (upstream, outcome), count in sorted(booked.attempts.items()):
            page.sample(count, {"upstream": called(upstream), "outcome": outcome})
        page.family("tenantry_upstream_errors_total", "counter", "Attempts that failed for the upstream's sake.")
        for (upstream, reason), count in sorted(booked.errors.items()):
            page.sample(count, {"upstream": called(upstream), "reason": reason})
        page.family("tenantry_tokens_total", "counter", "Tokens, by class as the upstream told them.")
        for (tenant, model, kind), count in sorted(booked.tokens.items()):
            page.sample(count, {"tenant": called(tenant), "model": model, "class": kind.removesuffix("_tokens")})
        page.family("tenantry_cost_dollars_total", "counter", "Cost at list price, without later corrections.")
        for (tenant, model), nanos in sorted(booked.cost_nanos.items()):
            page.sample(shifted(nanos, NANOS), {"tenant": called(tenant), "model": model})
        page.family(
            "tenantry_queue_wait_seconds", "histogram", "Of requests that had to wait: how long for their turn."
        )
        page.histogram(booked.queue_waits)
        page.family("tenantry_attempt_seconds", "histogram", "From an attempt's beginning to its end.")
        for streaming, found in booked.durations.items():
            page.histogram(found, {"streaming": "true" if streaming else "false"})
        page.family("tenantry_first_token_seconds", "histogram", "Of streams: from the beginning to the first byte.")
        for upstream, found in sorted(booked.first_tokens.items()):
            page.histogram(found, {"upstream": called(upstream)})

    def _tell_refusals(self, page: Page) -> None:
        """Of all gateways that ever ran: the store has the totals."""
        counts: Counter[tuple[str, str]] = Counter()
        query = select(refusals.c.tenant_id, refusals.c.reason, func.sum(refusals.c["count"])).group_by(
            refusals.c.tenant_id, refusals.c.reason
        )
        with self._engine.connect() as connection:
            for tenant_id, reason, count in connection.execute(query):
                counts[self._booked.tenant(tenant_id), reason] += int(count)
        page.family("tenantry_refusals_total", "counter", "Requests that the gateway refused, by reason.")
        for (tenant, reason), count in sorted(counts.items()):
            page.sample(count, {"tenant": self._names.of(tenant), "reason": reason})

    # What goes on now

    def _tell_live(self, page: Page) -> None:
        gateways = [one for one in read_live(self._journal_dir) if one.told is not None and one.is_fresh]
        page.family("tenantry_gateways", "gauge", "Gateways that live and tell what they do.")
        page.sample(len(gateways))
        self._tell_tenants(page, gateways)
        self._tell_health(page, gateways)
        self._add(gateways)
        page.family(
            "tenantry_added_seconds", "histogram", "What the gateway adds before a request's first byte upstream."
        )
        page.histogram(self._added)

    def _tell_tenants(self, page: Page, gateways: Iterable[LiveGateway]) -> None:
        called = self._names.of
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        shares: dict[str, int] = {}
        for gateway in gateways:
            for tenant_id, line in gateway.told.lines.items() if gateway.told is not None else ():
                tenant = self._booked.tenant(tenant_id)
                sums["sessions"][tenant] += line.sessions
                sums["waiting"][tenant] += line.waiting
                sums["held"][tenant] += line.held_nanos
                if line.budget_percent is not None:
                    shares[tenant] = max(shares.get(tenant, 0), line.budget_percent)
        page.family("tenantry_sessions", "gauge", "Requests in flight.")
        for tenant, count in sorted(sums["sessions"].items()):
            page.sample(count, {"tenant": called(tenant)})
        page.family("tenantry_queue_depth", "gauge", "Requests that wait for their turn.")
        for tenant, count in sorted(sums["waiting"].items()):
            page.sample(count, {"tenant": called(tenant)})
        page.family("tenantry_held_dollars", "gauge", "Money that is held for requests in flight.")
        for tenant, nanos in sorted(sums["held"].items()):
            page.sample(shifted(nanos, NANOS), {"tenant": called(tenant)})
        told = "The share of its budget that has been spent, of the one nearest to its end; of others, the largest."
        page.family("tenantry_budget_used_ratio", "gauge", told)
        for tenant, percent in sorted(shares.items()):
            page.sample(shifted(percent, 100), {"tenant": called(tenant)})

    def _tell_health(self, page: Page, gateways: Iterable[LiveGateway]) -> None:
        heads = [one.told.head for one in gateways if one.told is not None]
        down = {name.partition(" ")[0] for head in heads for name in head.health.upstreams_down}
        page.family(
            "tenantry_upstream_up", "gauge", "0 while its breaker is open in a gateway, for one credential or all."
        )
        for name in self._names.upstreams():
            page.sample(0 if name in down else 1, {"upstream": name})
        page.family("tenantry_credentials_dead", "gauge", "Credentials that are of no use: refused, or out of money.")
        page.sample(len({name for head in heads for name in head.health.credentials_dead}))
        page.family(
            "tenantry_journal_works", "gauge", "0 while a gateway cannot write its journal, and refuses everything."
        )
        page.sample(int(all(head.health.journal_works for head in heads)))
        page.family("tenantry_directory_followed", "gauge", "0 while a gateway cannot read changes from the store.")
        page.sample(int(not any(head.health.directory_fault for head in heads)))
        page.family("tenantry_loop_lag_seconds", "gauge", "The longest that a gateway's event loop came late, lately.")
        page.sample(shifted(max([head.loop_lag_us for head in heads], default=0), MICROS))

    def _add(self, gateways: Iterable[LiveGateway]) -> None:
        """Each gateway counts from its own start; the sum over those that came and went only grows."""
        told: dict[str, tuple[list[int], int]] = {}
        for gateway in gateways:
            if gateway.told is None or not gateway.told.head.added:
                continue
            counts, sum_us = told[gateway.run_id] = gateway.told.head.added, gateway.told.head.added_us
            before, before_us = self._told.get(gateway.run_id, ([0] * len(counts), 0))
            if len(before) == len(counts):
                self._added.grow([new - old for new, old in zip(counts, before, strict=True)], sum_us - before_us)
        self._told = told

    def _tell_lag(self, page: Page) -> None:
        lag = booking_lag(self._engine, self._journal_dir)
        page.family("tenantry_journal_lag_attempts", "gauge", "Attempts that have ended and are not booked yet.")
        page.sample(lag.attempts)
        page.family("tenantry_journal_lag_bytes", "gauge", "What their lines take in the journals.")
        page.sample(lag.journal_bytes)
        page.family("tenantry_journal_lag_seconds", "gauge", "How long ago the oldest of them ended.")
        late_us = max(0, time.time_ns() // 1000 - lag.oldest_us) if lag.oldest_us is not None else 0
        page.sample(shifted(late_us, MICROS))
