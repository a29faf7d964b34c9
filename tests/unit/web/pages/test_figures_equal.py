"""One ledger, one sum: what a page says is what the commands say and what the export adds up to, to the nano-dollar."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.ledger.adjustments import Scope, book_adjustments
from tests.browser import Answer, Browser, signed_in
from tests.spawner import run
from tests.unit.ledger.books import PRICES, attempt, book, random_attempts

MONTH = "2026-11"


@pytest.fixture
def tenants(site: Site, tmp_path: Path) -> dict[str, str]:
    """Their ids, with a random ledger behind them."""
    ids = {one.slug: one.tenant_id for one in site.directory.list_tenants()}
    names = {"tnt_a": ids["acme"], "tnt_b": ids["globex"]}
    keys = {one.slug: one.key_id for one in site.directory.list_keys()}
    moved: list[Any] = []
    for begun, end in random_attempts(seed=21, count=300, days=26):
        slug = "acme" if begun.tenant_id == "tnt_a" else "globex"
        moved.append(attempt(len(moved), end.ended_at_us, names[begun.tenant_id], key=keys[slug], **_end(end)))
    book(site.engine, tmp_path, moved)
    book_adjustments(site.engine, PRICES, Scope())
    return ids


def _end(end: Any) -> dict[str, Any]:
    return {name: getattr(end, name) for name in ("outcome", "usage", "cost_nanos", "model_served", "error")}


def command(site: Site, *words: str) -> Any:
    environ = {"TENANTRY_DATA_DIR": str(site.settings.data_dir), "TENANTRY_TIME_ZONE": site.settings.time_zone}
    done = run(*words, "--json", env=os.environ | environ, cwd=site.settings.data_dir)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def nanos(answer: Answer, mark: str) -> int:
    """The sum that stands in the element `mark`."""
    found = re.search(rf'id="{mark}"[^>]*><data class="usd" value="(-?\d+)"', answer.text)
    assert found is not None, answer.text[-3000:]
    return int(found[1])


def exported(browser: Browser, path: str) -> int:
    answer = browser.get(path)
    assert answer.status == 200, answer.shown
    return sum(int(row["cost_nanos"] or 0) for row in csv.DictReader(io.StringIO(answer.text, newline="")))


@pytest.mark.parametrize("slug", ["acme", "globex"])
def test_page_command_and_export_say_the_same_of_a_client(
    app: Starlette, site: Site, tenants: dict[str, str], slug: str
) -> None:
    browser = signed_in(app, site)
    told = command(site, "usage", slug, "--month", MONTH)
    page = browser.get(f"/tenants/{slug}?month={MONTH}")
    assert nanos(page, "month-cost") == told["cost_nanos"] > 0
    rows = browser.get(f"/requests?tenant={slug}&from={MONTH}&to={MONTH}")
    assert nanos(rows, "selection-cost") == told["cost_nanos"]
    assert exported(browser, f"/requests.csv?tenant={slug}&from={MONTH}&to={MONTH}") == told["cost_nanos"]
    assert exported(browser, f"/exports/make?period={MONTH}&tenant={slug}&form=csv") == told["cost_nanos"]
    for model in told["models"]:
        shown = browser.get(f"/requests?tenant={slug}&model={model['model']}&from={MONTH}&to={MONTH}")
        assert nanos(shown, "selection-cost") == model["cost_nanos"]


def test_the_whole_site_is_the_sum_of_its_clients(app: Starlette, site: Site, tenants: dict[str, str]) -> None:
    browser = signed_in(app, site)
    whole = sum(command(site, "usage", slug, "--month", MONTH)["cost_nanos"] for slug in tenants)
    assert nanos(browser.get(f"/requests?from={MONTH}&to={MONTH}"), "selection-cost") == whole
    assert exported(browser, f"/exports/make?period={MONTH}&form=csv") == whole
    margin = command(site, "margin", "--month", MONTH)
    assert margin["total"]["now"]["cost_nanos"] == whole


def test_the_csv_of_a_selection_has_the_lines_of_the_export(
    app: Starlette, site: Site, tenants: dict[str, str]
) -> None:
    browser = signed_in(app, site)
    selection = browser.get(f"/requests.csv?from={MONTH}&to={MONTH}").text.splitlines()
    export = browser.get(f"/exports/make?period={MONTH}&form=csv").text.splitlines()
    assert selection[0] == export[0]
    assert selection[1:] == export[:0:-1]
    assert len(selection) > 200


def test_lines_of_a_cost_add_up_to_it(app: Starlette, site: Site, tenants: dict[str, str], tmp_path: Path) -> None:
    from tenantry.control.figures.story import cost_lines, story_of
    from tenantry.domain.usage import Usage
    from tests.unit.ledger.books import START_US

    usage = Usage(input_tokens=1200, cache_write_5m_tokens=30, cache_read_tokens=900, output_tokens=77)
    cost = PRICES.plain_cost(usage, "claude-haiku-5-5", START_US)
    one = attempt(9001, START_US, tenants["acme"], usage=usage, cost_nanos=cost, price_version=PRICES.version)
    odd = attempt(
        9002, START_US, tenants["acme"], usage=usage, cost_nanos=(cost or 0) + 5, price_version=PRICES.version
    )
    book(site.engine, tmp_path, [one, odd], "story")
    [chapter] = story_of(site, "req_9001")
    assert [line.count for line in chapter.lines] == [1200, 30, 900, 77]
    assert sum(line.nanos for line in chapter.lines) == cost
    [other] = story_of(site, "req_9002")
    assert sum(line.nanos for line in cost_lines(other.row, PRICES)) == (cost or 0) + 5
    assert "output tokens" in signed_in(app, site).get("/requests/req_9001").shown
