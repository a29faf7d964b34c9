"""Money that was really spent stays in the books, however an answer ends. The upstream's own log is the judge."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tenantry.storage.directory.tenants import TenantChange
from tests.stack import Stack, tenantry, wait_for
from tests.storm.accounting import add_tenant, booked_nanos, wait_for_rows
from tests.storm.clients import Answer, Leaving, ask, ask_all
from tests.storm.upstream import PRICES, Upstream

NANOS = 10**9
OPUS_FAST = {"model": "claude-opus-5", "speed": "fast", "stream": True, "max_tokens": 64_000}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("money")).start("gateway", "control")
    yield running
    running.stop()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.close()


def once(site: Stack, key: str, script: dict[str, Any] | None = None, **fields: Any) -> Answer:
    return asyncio.run(ask(site.port, key, script, **fields))


def test_thinking_that_is_not_shown_is_booked_when_the_client_leaves_and_the_budget_holds(
    site: Stack, upstream: Upstream
) -> None:
    """$0.30; each round thinks for 1.2 s, unseen, and is left. All rounds together would be more than the budget."""
    budget = 300_000_000
    key = add_tenant(site, "hidden", upstream, budget_nanos=budget)
    site.site.directory.set_tenant("hidden", TenantChange(disconnect="cancel"))
    script = {
        "hidden_ms": 60_000,
        "hidden_tokens_per_second": 390,
        "truth": {"speed": "fast"},
    }
    for number in range(16):
        answer = once(site, key, script, leaving=Leaving("after-head", is_reset=True, ms=1200), **OPUS_FAST)
        assert answer.left
        if len(upstream.asked) == number:
            break  # refused: what is left does not hold another one
        wait_for_rows(site, "hidden", number + 1)
    else:
        raise AssertionError("the budget refused nobody")
    wait_for(lambda: all(one.nanos for one in upstream.asked), what="the upstream's bills")
    assert booked_nanos(site, "hidden") >= upstream.billed_nanos()
    assert upstream.billed_nanos() <= budget


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_thinking_that_is_not_shown_is_booked_when_the_upstream_breaks_off(
    site: Stack, upstream: Upstream, how: str
) -> None:
    slug = f"broken-thought-{how}"
    key = add_tenant(site, slug, upstream)
    script = {"hidden_ms": 1500, "hidden_tokens_per_second": 140, "cut": "between", "at": 1, "how": how}
    assert once(site, key, script, stream=True, max_tokens=8000).error is not None
    wait_for_rows(site, slug, 1)
    assert booked_nanos(site, slug) >= upstream.billed_nanos() > 0


@pytest.mark.parametrize("cut", ["between", "mid-event", "before-stop"])
def test_dense_text_of_a_stream_that_breaks_off_is_booked_at_no_less_than_its_bill(
    site: Stack, upstream: Upstream, cut: str
) -> None:
    slug = f"dense-{cut}"
    key = add_tenant(site, slug, upstream)
    script = {"cut": cut, "events": 12, "at": 10, "chars": 300}
    assert once(site, key, script, stream=True, max_tokens=8000).error is not None
    wait_for_rows(site, slug, 1)
    assert booked_nanos(site, slug) >= upstream.billed_nanos() > 0


@pytest.mark.parametrize("is_reset", [True, False], ids=["rst", "fin"])
def test_an_answer_that_is_not_streamed_and_whose_client_left_is_booked_though_it_never_comes(
    site: Stack, upstream: Upstream, is_reset: bool
) -> None:
    slug = f"left-{is_reset}".lower()
    key = add_tenant(site, slug, upstream, upstream_settings={"answer_seconds": 2.0})
    script = {"cut": "after-body", "how": "hang", "bills": True}
    assert once(site, key, script, leaving=Leaving("after-body", is_reset, 300)).left
    wait_for_rows(site, slug, 1)
    assert booked_nanos(site, slug) >= upstream.billed_nanos() > 0


UNUSUAL: dict[str, tuple[dict[str, Any], bool]] = {
    "lone-surrogate": ({"text_json": "\\ud83d"}, False),
    "lone-surrogate-stream": ({"text_json": "\\ud83d"}, True),
    "bytes-that-are-no-text": ({"text_json": "\ud83d"}, False),
    "bytes-that-are-no-text-stream": ({"text_json": "\ud83d"}, True),
    "bom": ({"bom": True}, False),
    "deep": ({"deep": 5000}, False),
    "type-in-capitals": ({"content_type": "Application/JSON; Charset=UTF-8"}, False),
    "type-in-capitals-stream": ({"content_type": "Text/Event-Stream"}, True),
    "event-without-space": ({"event_field": "event:"}, True),
    "names-in-text": ({"text_json": "event: message_delta event: error message_stop"}, True),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_answer_costs_what_it_says(site: Stack, upstream: Upstream, name: str) -> None:
    script, stream = UNUSUAL[name]
    key = add_tenant(site, name, upstream)
    assert once(site, key, script, stream=stream).status == 200
    row = wait_for_rows(site, name, 1)[0]
    assert (row["cost_nanos"], row["outcome"]) == (upstream.billed_nanos(), "settled")
    assert row["stop_reason"] == "end_turn"


def test_text_that_holds_the_name_of_an_event_is_counted_when_the_stream_breaks_off(
    site: Stack, upstream: Upstream
) -> None:
    key = add_tenant(site, "names-cut", upstream)
    text = "event: message_delta " * 20
    script = {"text_json": text, "chars": len(text), "events": 9, "at": 8, "cut": "between"}
    assert once(site, key, script, stream=True, max_tokens=8000).error is not None
    wait_for_rows(site, "names-cut", 1)
    assert booked_nanos(site, "names-cut") >= upstream.billed_nanos() > 0


@pytest.mark.parametrize("count", [3.5, "31", -31, None, [31], True], ids=str)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_count_that_is_no_count_does_not_make_an_answer_free(
    site: Stack, upstream: Upstream, count: Any, stream: bool
) -> None:
    slug = f"odd-{'stream' if stream else 'whole'}-{[3.5, '31', -31, None, [31], True].index(count)}"
    key = add_tenant(site, slug, upstream)
    assert once(site, key, {"usage": {"output_tokens": count}}, stream=stream).status == 200
    wait_for_rows(site, slug, 1)
    assert booked_nanos(site, slug) >= upstream.billed_nanos() > 0


@pytest.mark.parametrize("script", [{"length": -40}, {"length": 40}, {"cut": "after-head"}, {"cut": "mid-event"}])
def test_a_whole_answer_that_is_cut_short_is_booked_at_no_less_than_its_bill(
    site: Stack, upstream: Upstream, script: dict[str, Any]
) -> None:
    slug = "short-" + str(script.get("length", script.get("cut"))).replace("-40", "less").replace("40", "more")
    key = add_tenant(site, slug, upstream)
    once(site, key, script)
    wait_for_rows(site, slug, 1)
    assert booked_nanos(site, slug) >= upstream.billed_nanos() > 0


def in_flight(site: Stack, key: str, scripts: list[dict[str, Any]], upstream: Upstream, **fields: Any) -> None:
    """Send requests that are answered slowly, and kill the gateway in the middle of them all."""

    async def run() -> None:
        asked = [
            asyncio.create_task(ask(site.port, key, script, **(fields | {"stream": not script.get("delay_ms")})))
            for script in scripts
        ]
        await asyncio.to_thread(wait_for, lambda: len(upstream.asked) >= len(scripts))
        await asyncio.sleep(1.5)
        site.kill("gateway")
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(run())


def test_a_killed_gateway_without_budgets_books_what_was_billed(own_stack: Stack, upstream: Upstream) -> None:
    site = own_stack.start("gateway", "control")
    key = add_tenant(site, "killed", upstream)
    streams: list[dict[str, Any]] = [{"events": 200, "gap_ms": 20, "chars": 60} for _ in range(8)]
    hidden: list[dict[str, Any]] = [{"hidden_ms": 20_000, "hidden_tokens_per_second": 140} for _ in range(4)]
    whole: list[dict[str, Any]] = [{"delay_ms": 4000, "bills": True} for _ in range(4)]
    in_flight(site, key, streams + hidden + whole, upstream, max_tokens=8000)
    site.start("gateway")
    wait_for_rows(site, "killed", 16)
    wait_for(lambda: all(one.nanos for one in upstream.asked), what="the upstream's bills")
    assert booked_nanos(site, "killed") >= upstream.billed_nanos()
    bills = {one.request_id: one.nanos for one in upstream.asked}
    for row in site.rows("killed"):
        assert row["cost_nanos"] >= bills.get(row["upstream_request_id"], 0), row


def test_recomputing_at_the_same_prices_changes_nothing_whatever_the_outcome(
    own_stack: Stack, upstream: Upstream
) -> None:
    site = own_stack.start("gateway", "control")
    fast = {"truth": {"speed": "fast", "inference_geo": "us"}}
    scripts: list[tuple[dict[str, Any], bool]] = [
        ({}, False),
        (fast, False),
        (fast, True),
        (fast | {"cut": "between"}, True),
        (fast | {"cut": "before-stop"}, True),
        (fast | {"cut": "mid-event"}, False),
        (fast | {"hidden_ms": 500, "cut": "between"}, True),
        ({"cut": "after-body"}, False),
        ({"status": 529}, False),
        ({"bom": True}, False),
        ({"usage": {"output_tokens": "31"}}, False),
        ({"truth": {"server_tool_use": {"web_search_requests": 2}}}, True),
    ]
    for number, (script, stream) in enumerate(scripts):
        # Each on a credential of its own: so many faults in a row would open its breaker.
        key = add_tenant(site, f"same-{number}", upstream)
        once(site, key, script, stream=stream, model="claude-opus-5")
    in_flight(
        site,
        add_tenant(site, "same", upstream),
        [fast | {"events": 200, "gap_ms": 20, "chars": 60}] * 3,
        upstream,
        model="claude-opus-5",
        speed="fast",
    )
    site.start("gateway")
    wait_for(lambda: sum(row["outcome"] == "orphaned" for row in site.rows("same")) == 3, what="the orphans")
    done = tenantry(site, "ledger", "recompute", "--price-version", PRICES.version, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["difference_nanos"], report["changes"]) == (0, [])


def test_a_restart_does_not_forget_what_attempts_without_a_price_may_have_cost(
    own_stack: Stack, upstream: Upstream
) -> None:
    site = own_stack.start("gateway", "control")
    key = add_tenant(site, "unpriced", upstream, budget_nanos=20_000_000)
    fields = {"model": "claude-nobody-knows-9"}
    statuses: list[int | None] = []
    while 402 not in statuses and len(statuses) < 60:
        statuses.append(once(site, key, **fields).status)
    assert statuses[-1] == 402
    assert 200 in statuses
    wait_for_rows(site, "unpriced", len(statuses) - 1)
    site.kill("gateway")
    site.start("gateway")
    assert [once(site, key, **fields).status for _ in range(3)] == [402] * 3


def test_an_alert_of_a_threshold_is_armed_again_when_the_amount_changes(site: Stack, upstream: Upstream) -> None:
    key = add_tenant(site, "rearmed", upstream)

    def thresholds() -> int:
        listed = json.loads(tenantry(site, "alerts", "list", "--tenant", "rearmed", "--json").stdout)
        return sum(row["kind"] == "budget_threshold" for row in listed)

    site.site.directory.set_budgets("rearmed", {"month": 1000}, "soft")
    assert wait_for(lambda: once(site, key).status == 200)
    wait_for(lambda: thresholds() == 3, what="the first three")
    site.site.directory.set_budgets("rearmed", {"month": 100 * NANOS}, "soft")
    site.site.directory.set_budgets("rearmed", {"month": 2000}, "soft")
    assert once(site, key).status == 200
    wait_for(lambda: thresholds() == 6, what="three more")


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_cell_that_begins_with_spaces_and_then_a_formula_is_quoted(
    site: Stack, upstream: Upstream, start: str, tmp_path: Path
) -> None:
    slug = f"formula-{'=+-@'.index(start)}"
    key = add_tenant(site, slug, upstream)
    assert once(site, key, model=f"  {start}1+1").status == 200
    wait_for_rows(site, slug, 1)
    month = datetime.now(UTC).strftime("%Y-%m")
    done = tenantry(site, "export", "--month", month, "--tenant", slug, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    [file] = tmp_path.glob("*.csv")
    [row] = csv.DictReader(file.read_text("utf-8").splitlines())
    shown = [value for value in row.values() if f"{start}1+1" in value]
    assert shown
    assert all(value.startswith("'") for value in shown)


def dearer_prices(folder: Path) -> Path:
    """The installed prices times a hundred."""
    document = json.loads(resources.files("tenantry.domain").joinpath("prices.json").read_bytes())
    document["version"] = "dearer"
    for model in document["models"].values():
        for prices in (model, *model.get("tiers", []), *model.get("history", [])):
            for name in ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output"):
                if name in prices:
                    prices[name] = str(Decimal(prices[name]) * 100)
    file = folder / "dearer.json"
    file.write_text(json.dumps(document))
    return file


def test_an_adjustment_reaches_the_running_budget_at_once(site: Stack, upstream: Upstream, tmp_path: Path) -> None:
    key = add_tenant(site, "adjusted", upstream, budget_nanos=10_000_000)
    assert once(site, key).status == 200
    wait_for_rows(site, "adjusted", 1)
    assert once(site, key).status == 200
    wait_for_rows(site, "adjusted", 2)
    words = ["ledger", "recompute", "--price-version", "dearer", "--prices", str(dearer_prices(tmp_path))]
    done = tenantry(site, *words, "--tenant", "adjusted", "--book", "--yes")
    assert done.returncode == 0, done.stderr
    assert booked_nanos(site, "adjusted") > 10_000_000
    wait_for(lambda: once(site, key).status == 402, what="the budget to know of the adjustment")


def test_an_excess_of_one_answer_tightens_what_may_still_start(site: Stack, upstream: Upstream) -> None:
    """Answers that cost far more than their hold: after the first of them nothing more may start."""
    key = add_tenant(site, "excess", upstream, budget_nanos=NANOS)
    script = {"truth": {"iterations": [_step("compaction", 180_000, 9_000), _step("message", 25, 31)]}}

    async def run() -> list[Answer]:
        return await ask_all(60, lambda _: ask(site.port, key, script, max_tokens=64), 60)

    answers = asyncio.run(run())
    served = sum(answer.is_served for answer in answers)
    wait_for_rows(site, "excess", served)
    assert booked_nanos(site, "excess") == upstream.billed_nanos()
    assert once(site, key, script).status == 402


def _step(kind: str, input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {"type": kind, "input_tokens": input_tokens, "output_tokens": output_tokens}
