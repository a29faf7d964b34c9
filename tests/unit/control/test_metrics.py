"""The page for Prometheus: every number is what the books and the gateways say, and every line can be read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.control.exposition import Page, shifted
from tenantry.control.metrics import Metrics
from tenantry.control.site import Site, open_site
from tenantry.domain.attempts import Outcome, RefusalCount, Tally
from tenantry.domain.histograms import OWN_BOUNDS_US, Histogram
from tenantry.domain.prices import load_default_prices
from tenantry.domain.proof import PROOF_IDS
from tenantry.domain.usage import Usage
from tenantry.ledger.booking import Drain
from tenantry.ledger.journal import JournalWriter
from tenantry.ledger.live import LIVE_FILE, LiveFile, LiveHead, LiveHealth, LiveTenant, encode_line
from tenantry.ledger.metering import Booked
from tenantry.settings import load_settings
from tests.template import init_from_template
from tests.unit.ledger.books import Attempt, attempt

# The exposition format 0.0.4, line by line.
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"([a-z_]+)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9]+(?:\.[0-9]+)?)")
COMMENT = re.compile(r"# (?:HELP ([a-z_]+) .+|TYPE ([a-z_]+) (?:counter|gauge|histogram))")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")})
    init_from_template(settings)
    made = open_site(settings)
    yield made
    made.engine.dispose()


class Scene:
    """A journal that is booked, and the page of it."""

    def __init__(self, site: Site, tenants_max: int = 50) -> None:
        self.booked = Booked(tenants_max)
        self.metrics = Metrics(site.engine, site.settings.journal_dir, self.booked)
        self.drain = Drain(site.engine, site.settings.journal_dir, load_default_prices(), [self.booked.add])
        self.writer = JournalWriter(site.settings.journal_dir, "gateway")

    def book(self, *attempts: Attempt) -> None:
        for begun, end in attempts:
            self.writer.begin(begun)
            self.writer.end(end)
        self.writer.flush()
        self.drain.step()

    def read(self) -> dict[str, str]:
        """The samples of the page by their name and labels; each line has to be one of the format."""
        return read_page(self.metrics.page())


def read_page(page: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    family = ""
    for line in page.decode().splitlines():
        if line.startswith("#"):
            comment = COMMENT.fullmatch(line)
            assert comment is not None, line
            family = comment[1] or comment[2]
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        assert sample[1].startswith(family), line
        name = line.rpartition(" ")[0]
        assert name not in found, f"{name} stands twice"
        found[name] = sample[3]
    return found


def first(number: int, tenant: str = "tnt_a", **changes: object) -> Attempt:
    begun, end = attempt(number, tenant=tenant, **changes)
    attempt_id = f"att_{number}_1"
    return replace(begun, attempt_id=attempt_id), replace(end, attempt_id=attempt_id)


def test_what_was_booked_is_told_to_the_nano_dollar(site: Site) -> None:
    acme = site.directory.create_tenant("acme", "Acme", "standard")
    scene = Scene(site)
    begun, end = first(1, acme, cost_nanos=1_234_567_891, usage=Usage(5, 6, 7, 8, 9))
    waited = replace(first(2, acme)[0], queue_wait_us=1_500_000), first(2, acme, cost_nanos=9)[1]
    failed = first(3, acme, status=529, outcome=Outcome.VOIDED, cost_nanos=0, usage=Usage(), error="overloaded_error")
    begun_again = replace(failed[0], attempt_id="att_3_2")
    again = begun_again, replace(end, attempt_id="att_3_2", cost_nanos=0, usage=Usage(output_tokens=1))
    scene.book((begun, end), waited, failed, again)
    told = scene.read()
    model = "claude-haiku-5-5"
    assert told[f'tenantry_cost_dollars_total{{tenant="acme",model="{model}"}}'] == "1.2345679"
    assert told['tenantry_requests_total{tenant="acme",outcome="settled"}'] == "2"
    assert told['tenantry_requests_total{tenant="acme",outcome="voided"}'] == "1"
    assert told['tenantry_retries_total{tenant="acme"}'] == "1"
    assert told['tenantry_upstream_errors_total{upstream="ups_1",reason="http_529"}'] == "1"
    assert told[f'tenantry_tokens_total{{tenant="acme",model="{model}",class="cache_write_1h"}}'] == "7"
    assert told["tenantry_booked_rows_total"] == "4"
    assert told['tenantry_queue_wait_seconds_bucket{le="1"}'] == "0"
    assert told['tenantry_queue_wait_seconds_bucket{le="2"}'] == "1"
    assert told["tenantry_queue_wait_seconds_sum"] == "1.5"
    assert told["tenantry_journal_lag_attempts"] == "0"
    with site.engine.connect() as connection:
        waits = connection.exec_driver_sql("SELECT queue_wait_us FROM ledger ORDER BY entry_id").scalars().all()
    assert waits == [None, 1_500_000, None, None]


def test_tenants_beyond_the_setting_are_counted_together_and_those_that_ask_most_apart(site: Site) -> None:
    scene = Scene(site, tenants_max=2)
    scene.book(*(first(number, f"tnt_{number % 5}") for number in range(50)))
    told = scene.read()
    named = [name for name in told if name.startswith("tenantry_requests_total")]
    assert len(named) == 3
    assert told['tenantry_requests_total{tenant="(other)",outcome="settled"}'] == "30"
    scene.book(*(first(100 + number, "tnt_4") for number in range(20)))
    scene.booked.choose_tenants()
    scene.book(first(200, "tnt_4"), first(201, "tnt_3"))
    told = scene.read()
    assert told['tenantry_requests_total{tenant="tnt_4",outcome="settled"}'] == "1"
    assert told['tenantry_requests_total{tenant="(other)",outcome="settled"}'] == "51"  # a counter never falls


def test_names_that_clients_and_upstreams_make_up_stay_few_and_in_their_quotation_marks(site: Site) -> None:
    scene = Scene(site)
    evil = 'x"} 1\nevil_metric{a="\\'
    scene.book(*(first(number, model_served=f"{evil}{number}", error=f"{evil}{number}") for number in range(200)))
    told = scene.read()
    models = [name for name in told if name.startswith("tenantry_cost_dollars_total")]
    assert len(models) == 51
    assert not any(name.startswith("evil") for name in told)
    assert not any("upstream_errors" in name for name in told)


def test_what_gateways_tell_is_added_up_and_only_grows(site: Site) -> None:
    acme = site.directory.create_tenant("acme", "Acme", "standard")
    scene = Scene(site)
    live = LiveFile(scene.writer.folder / LIVE_FILE)
    health = LiveHealth(upstreams_down=["anthropic"], credentials_dead={"first": None})
    line = LiveTenant(acme, time.time(), 3, 2, held_nanos=5, budget_percent=71)
    counts = [0] * len(OWN_BOUNDS_US) + [0]
    counts[1] = 4
    live.write(LiveHead(time.time(), health, counts, 300, 12_000), {acme: encode_line(line)})
    told = scene.read()
    assert told['tenantry_sessions{tenant="acme"}'] == "3"
    assert told['tenantry_queue_depth{tenant="acme"}'] == "2"
    assert told['tenantry_held_dollars{tenant="acme"}'] == "0.000000005"
    assert told['tenantry_budget_used_ratio{tenant="acme"}'] == "0.71"
    assert told["tenantry_credentials_dead"] == "1"
    assert told["tenantry_loop_lag_seconds"] == "0.012"
    assert told['tenantry_added_seconds_bucket{le="0.0001"}'] == "4"
    assert told['tenantry_added_seconds_bucket{le="0.00005"}'] == "0"
    assert told['tenantry_upstream_up{upstream="anthropic"}'] == "0"
    live.close()
    scene.writer.close()  # the gateway is gone: its sum stays
    told = scene.read()
    assert told["tenantry_gateways"] == "0"
    assert told["tenantry_added_seconds_count"] == "4"


def test_refusals_are_those_of_all_gateways(site: Site) -> None:
    scene = Scene(site)
    scene.writer.tally(Tally([RefusalCount("tnt_a", "budget_reached", 7, 1)], []))
    scene.writer.flush()
    scene.drain.step()
    assert scene.read()['tenantry_refusals_total{tenant="tnt_a",reason="budget_reached"}'] == "7"


def test_decimals_are_exact() -> None:
    assert [shifted(number, 10**9) for number in (0, 1, 10**9, 1_500_000_000, -5)] == [
        "0",
        "0.000000001",
        "1",
        "1.5",
        "-0.000000005",
    ]
    assert shifted(10**30 + 1, 10**9) == "1000000000000000000000.000000001"


def test_buckets_hold_all_below_them() -> None:
    found = Histogram((10, 20))
    for value in (10, 11, 20, 21, 5):
        found.add(value)
    page = Page()
    page.family("x_seconds", "histogram", "Of a test.")
    page.histogram(found)
    told = read_page(page.text())
    assert [told[f'x_seconds_bucket{{le="{bound}"}}'] for bound in ("0.00001", "0.00002", "+Inf")] == ["2", "4", "5"]
    assert told["x_seconds_sum"] == "0.000067"


def test_what_isolation_proofs_sent_is_counted_as_one_however_many_there_were(site: Site) -> None:
    """Each has tenants and an upstream of its own: they would take the places of clients and real upstreams."""
    scene = Scene(site, tenants_max=1)
    proofs = [attempt(one, tenant=f"{PROOF_IDS}{one:08x}-own") for one in range(60)]
    proofs = [(replace(begun, upstream_id=f"ups_{begun.tenant_id}"), end) for begun, end in proofs]
    scene.book(*proofs, attempt(99))
    told = scene.read()
    assert told['tenantry_attempts_total{upstream="(isolation proof)",outcome="settled"}'] == "60"
    assert told['tenantry_cost_dollars_total{tenant="tnt_a",model="claude-haiku-5-5"}'] == "0.000001099"
    assert not any("probe-" in name for name in told)
    assert told['tenantry_attempts_total{upstream="ups_1",outcome="settled"}'] == "1"
