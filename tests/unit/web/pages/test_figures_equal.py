"""One ledger, one sum: what a page says is what the commands say and what the export adds up to, to the nano-dollar."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.attempts import Outcome, RefusalCount, Tally
from tenantry.domain.plans import EXAMPLE_PLANS
from tenantry.domain.proof import PROOF_IDS
from tenantry.ledger.adjustments import Scope, book_adjustments
from tenantry.ledger.tallies import book_tallies
from tenantry.storage.directory.plans import Agreed
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
    settings = site.settings
    environ = {"TENANTRY_DATA_DIR": str(settings.data_dir), "TENANTRY_STORE_URL": settings.store_url}
    environ["TENANTRY_TIME_ZONE"] = settings.time_zone
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


def test_a_plan_that_begins_later_is_not_shown_as_the_one_of_today(app: Starlette, site: Site) -> None:
    for name in ("pro", "team"):
        site.directory.set_plan(name, EXAMPLE_PLANS[name])
    site.directory.assign_plan("acme", Agreed("pro"))
    later = site.directory.today() + timedelta(days=40)
    site.directory.assign_plan("acme", Agreed("team", later))
    browser = signed_in(app, site)
    told = {one["plan"]: [on["slug"] for on in one["tenants"]] for one in command(site, "plans", "list")}
    assert told == {"pro": ["acme"], "team": []}
    rows = re.findall(r'<th scope="row"><a href="/plans/(\w+)">.*?</tr>', browser.get("/plans").text)
    assert rows == ["pro", "team"]
    of_pro, of_team = re.findall(r'<a href="/plans/\w+">.*?</tr>', browser.get("/plans").text)
    assert "/tenants/acme" in of_pro
    assert "nobody" in of_team
    assert f"pro, team from {later.isoformat()}" in browser.get("/tenants/acme").shown
    assert '<option value="pro" selected' in browser.get("/tenants/acme/plan").text


def test_little_money_is_not_shown_as_none(app: Starlette, site: Site, tmp_path: Path) -> None:
    """The day's bar says what its number says."""
    [acme] = [one.tenant_id for one in site.directory.list_tenants() if one.slug == "acme"]
    now_us = time.time_ns() // 1000
    book(site.engine, tmp_path, [attempt(1, now_us, acme, cost_nanos=1_436_800)])
    browser = signed_in(app, site)
    for path in ("/", "/tenants", "/tenants/acme"):
        told = re.findall(r'(?:<title>|aria-label=")([^<"]*\$[^<"]*)', browser.get(path).text)
        assert any("$0.0014368" in one for one in told), (path, told)


def refuse(site: Site, reason: str, counts: dict[str, int]) -> None:
    at_us = time.time_ns() // 1000
    with site.engine.begin() as connection:
        told = [RefusalCount(tenant_id, reason, count, at_us) for tenant_id, count in counts.items()]
        book_tallies(connection, reason, [Tally(told, [])])


def browser_rows(browser: Browser, table: str) -> dict[str, str]:
    """The rows of a table of the first page, by their heads."""
    _, rest = browser.get("/").text.split(f'aria-label="{table}"', 1)
    found: dict[str, str] = {}
    for row in re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", rest.split("</table>")[0]):
        head, told = row.split("</th>", 1)
        found[head] = " ".join(unescape(re.sub(r"<[^>]*>", " ", told)).split()).replace(" ,", ",")
    return found


def test_refusals_of_clients_that_left_are_not_put_on_those_who_are_there(app: Starlette, site: Site) -> None:
    [acme] = [one.tenant_id for one in site.directory.list_tenants() if one.slug == "acme"]
    refuse(site, "tenant_disabled", {acme: 1, "tnt_gone": 279})
    refuse(site, "key_not_active", {"": 3})
    page = browser_rows(signed_in(app, site), "Refusals")
    assert page["tenant disabled"].startswith("acme and clients that left 280 ")
    assert page["key not active"].startswith("nobody's key 3 ")


def test_a_client_that_is_refused_for_its_budget_now_needs_attention(app: Starlette, site: Site) -> None:
    """Also long before the budget is spent: what a request may cost has to fit, and a large one does not."""
    [acme] = [one.tenant_id for one in site.directory.list_tenants() if one.slug == "acme"]
    assert "did not fit" not in signed_in(app, site).get("/").shown
    refuse(site, "budget", {acme: 2})
    page = signed_in(app, site).get("/")
    assert "2 requests of acme did not fit what is left of its budget" in page.shown
    assert 'href="/tenants/acme/budget"' in page.text


def test_what_the_isolation_proof_used_is_in_no_figure_of_clients_and_on_a_line_of_its_own(
    app: Starlette, site: Site, tmp_path: Path
) -> None:
    """Clients and proof together are the ledger, on the page, by command and in the API."""
    [acme] = [one.tenant_id for one in site.directory.list_tenants() if one.slug == "acme"]
    now_us = time.time_ns() // 1000
    proof = f"{PROOF_IDS}0123abcd-own"
    site.directory.create_tenant("probe-0123abcd-own", "Isolation probe (throw-away)", "standard", proof)
    unpriced = {"cost_nanos": None, "outcome": Outcome.UNPRICED, "model_served": "claude-of-the-proof"}
    rows = [attempt(1, now_us, acme, cost_nanos=5000), attempt(2, now_us, proof, cost_nanos=70)]
    book(site.engine, tmp_path, [*rows, attempt(3, now_us, proof, **unpriced)])
    refuse(site, "key_not_active", {proof: 41})
    browser = signed_in(app, site)
    today = browser.get("/")
    assert nanos(today, "spend-today") == nanos(today, "spend-month") == 5000
    assert "its own clients sent 2 requests today, $0.00000007" in today.shown
    for word in ("No price is known", "41", "probe-"):
        assert word not in today.shown
    table = browser.get("/tenants")
    assert "the isolation proof, $0.00000007" in table.shown
    assert "probe-" not in table.shown
    day = site.directory.today().isoformat()
    sums: dict[str, int] = {}
    for how in ("", "only", "with"):
        path = f"?from={day}&to={day}&proof={how}"
        sums[how] = nanos(browser.get(f"/requests{path}"), "selection-cost")
        assert exported(browser, f"/requests.csv{path}") == sums[how]
    assert sums == {"": 5000, "only": 70, "with": 5070}
    hidden = browser.get(f"/requests?from={day}&to={day}")
    assert "Not among them: 2 requests of the isolation proof, $0.00000007" in hidden.shown
    assert "What the isolation proof sent is not shown" in browser.get("/requests").shown
    assert "req_2" not in hidden.text
    told = command(site, "usage", "--all")
    assert [one["tenant"] for one in told["tenants"]] == ["acme"]
    assert [told[name]["cost_nanos"] for name in ("clients", "proof", "ledger")] == [5000, 70, 5070]
    margin = command(site, "margin")
    assert (margin["total"]["now"]["cost_nanos"], margin["proof_nanos"], margin["list_nanos"]) == (5000, 70, 5070)
