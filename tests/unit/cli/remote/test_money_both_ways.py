"""Prices, plans, invoices, the ledger and exports: through `--server` as on the store itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tenantry.billing.months import month_before
from tenantry.domain.prices import load_default_prices
from tenantry.storage.directory.plans import Agreed
from tests.unit.cli.remote.control import listening
from tests.unit.cli.remote.ways import changed_alike, make, read_alike, refused_alike, run
from tests.unit.ledger.books import MODEL, attempt, book
from tests.unit.web.api_site import Served

LAST = str(month_before(datetime.now(ZoneInfo("UTC")).date()))
NEXT_YEAR = f"{datetime.now(ZoneInfo('UTC')).year + 1}-01-01"
SHIPPED = load_default_prices().version

READ = [
    "prices list",
    "prices show claude-haiku-4-5",
    "prices history",
    "prices history claude-haiku-4-5",
    "plans list",
    "plans show pro",
    "plans simulate acme --plan unused --months 2",
    "plans examples",
    "margin",
    f"margin --month {LAST}",
    "invoice acme",
    f"invoice acme --month {LAST}",
    "invoice --all",
    "invoices list",
    "invoices verify",
    "invoices details",
    "invoices details acme",
    "ledger verify",
    "ledger quarantine",
    "ledger show req_1",
    f"ledger recompute --price-version {SHIPPED}",
    f"ledger recompute --price-version {SHIPPED} --tenant acme --month {LAST}",
    f"export --month {LAST} --out files",
    f"export --month {LAST} --tenant acme --format json --out files",
]
WRITTEN = [
    "prices set claude-new-1 --input 2 --output 9",
    "prices set claude-new-1 --input 2 --output 9",
    f"prices set claude-new-1 --output 10 --fast 2 --from {NEXT_YEAR}",
    f"prices set {MODEL} --output 30 --from {LAST}-01 --yes --source list",
    "prices import ../prices.json --yes",
    "prices import ../prices.json --yes --json",
    "prices rule none",
    "prices rule none",
    "prices rule same-family",
    "prices history",
    "plans set studio --fee 179 --slots 5 --included 100 --markup 20",
    "plans set studio --fee 179",
    f"plans set studio --fee 199 --from {NEXT_YEAR}",
    "plans set capped --fee 20 --included 10 --overage block",
    "plans set slow --included 10 --overage throttle --throttle-tier standard",
    "plans set fair --fee 5 --fair-use --overage block",
    "plans show studio",
    "plans assign globex studio --slots 1",
    "plans assign globex studio --slots 1",
    "plans assign acme none",
    "plans assign globex none --from 2090-01-01",
    "plans examples --add",
    "plans remove slow",
    "plans list",
    "invoices details --name Agency --address 'Street 1\\nTown' --country de --tax VAT=19 --logo ../logo.png",
    "invoices details acme --currency EUR --rate 0.92 --locale de_DE --vat-category ae --country FR",
    "invoices details acme --tax none --json",
    f"invoice globex --month {LAST} --format html",
    "invoice --all --format html --out previews",
    f"invoice acme --month {LAST} --issue --yes",
    f"invoice --all --month {LAST} --issue --yes --format csv --out billed",
    f"invoice --all --month {LAST} --issue --yes --json",
    "invoices show INV-{year}-0001",
    "invoices show INV-{year}-0001 --json",
    "invoices show INV-{year}-0001 --format csv",
    "invoices show INV-{year}-0001 --out first.html",
    "invoices list --tenant acme",
    "invoices credit INV-{year}-0001 --reason slow --amount 1.50 --yes",
    "invoices credit INV-{year}-0001 --reason wrong --yes",
    "invoices list --json",
    "invoices verify",
    "ledger quarantine --retry",
    "ledger quarantine --settle --yes --json",
    "ledger recompute --price-version own-1 --prices ../table.json",
    "ledger recompute --price-version own-1 --prices ../table.json --book --yes",
    "ledger recompute --price-version own-1 --prices ../table.json --book --yes --json",
    "ledger show req_1",
]
REFUSED = [
    "prices show claude-nothing",
    "prices show a/b",
    "prices set claude-new-9 --input 2",
    "prices set claude-new-9",
    "prices set claude-haiku-4-5 --input x",
    "prices set claude-haiku-4-5 --input 3 --from sometime",
    "prices set claude-haiku-4-5 --input 9 --from 2020-01-01",
    "prices import no-such-file.json",
    "prices rule sideways",
    "plans show nothing",
    "plans set pro",
    "plans set UPPER --fee 3",
    "plans set pro --fee much",
    "plans set pro --overage throttle",
    "plans set pro --from sometime --fee 3",
    "plans assign acme nothing",
    "plans assign nobody pro",
    "plans simulate acme --plan nothing",
    "plans simulate nobody --plan pro",
    "plans remove pro",
    "plans remove nothing",
    "margin --month 2026-13",
    "invoice",
    "invoice nobody",
    "invoice acme --month sometime",
    "invoice acme --month 2999-01 --issue --yes",
    "invoice acme --month 2020-01",
    f"invoice acme --month {LAST} --issue",
    "invoice acme --format docx",
    "invoice acme --out acme.docx",
    "invoice --all --format html",
    "invoices show INV-9",
    "invoices credit INV-9 --reason x --yes",
    "invoices credit INV-9 --reason x --amount much",
    "invoices details nobody",
    "invoices details --currency euro",
    "invoices details --currency XXZ",
    "invoices details --currency EUR",
    "invoices details --country Germany",
    "invoices details --vat-category X",
    "invoices details --due-days 999",
    "invoices details --tax VAT",
    "invoices details --logo no-such-file.png",
    "invoices details acme --series A",
    "ledger show req_nothing",
    "ledger recompute --price-version 1999-01-01",
    f"ledger recompute --price-version {SHIPPED} --tenant nobody",
    f"ledger recompute --price-version {SHIPPED} --month 2026-13",
    "ledger recompute --price-version x --prices no-such-file.json",
    "export",
    "export --week 2026-10",
    "export --month 2026-13",
    "export --week 2026-W99",
    f"export --month {LAST} --tenant nobody",
]
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (1).to_bytes(4) * 2 + b"\x08\0\0\0\0" + b"\0" * 4 + b"IEND" + b"\0" * 4


def prepared(folder: Path) -> Iterator[Served]:
    """Both tenants are on a plan since last month, in which they used something."""
    for one in make(folder):
        first = date.fromisoformat(f"{LAST}-01")
        one.ids["year"] = str(datetime.now(ZoneInfo("UTC")).year)
        at_us = int(datetime(first.year, first.month, 9, tzinfo=ZoneInfo("UTC")).timestamp()) * 1_000_000
        for slug in ("acme", "globex"):
            one.site.directory.assign_plan(slug, Agreed("pro", first))
        ids = [one.site.directory.get_tenant(slug).tenant_id for slug in ("acme", "globex")]
        some = [attempt(number, at_us + number, ids[number % 2]) for number in range(6)]
        book(one.site.engine, folder / "run", some)
        yield one


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For what changes nothing."""
    yield from prepared(tmp_path_factory.mktemp("still") / "one")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    yield from prepared(tmp_path / "one")


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Served]:
    yield from prepared(tmp_path / "two")


def test_what_is_read_is_equal_to_the_byte(still: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(still) as server:
        read_alike(READ, still, server)


def test_what_is_refused_is_told_alike_and_ends_alike(
    still: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(still) as server:
        refused_alike(REFUSED, still, server)


def test_what_is_changed_is_told_alike(
    api: Served, second: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prices.json").write_text(
        json.dumps({"models": {"claude-new-2": _price("1"), "claude-new-1": _price("3")}})
    )
    table = {
        "version": "own-1",
        "web_search_per_1000": "10",
        "batch_multiplier": "0.5",
        "us_inference_multiplier": "1.1",
    }
    (tmp_path / "table.json").write_text(json.dumps(table | {"models": {MODEL: _price("4")}}))
    (tmp_path / "logo.png").write_bytes(PNG)
    with listening(second) as server:
        for command in WRITTEN:
            changed_alike(command, (api, second), server, tmp_path, monkeypatch)
    files = [_files(tmp_path / one) for one in ("here", "there")]
    assert files[1] == files[0]
    assert {"first.html", "billed", "previews"} <= {name.split("/")[0] for name in files[0]}


def test_exported_files_are_the_same_to_the_byte(
    still: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(still) as server:
        for out, address in (("here", None), ("there", server)):
            done = run(["export", "--month", LAST, "--out", out], still, address)
            assert done.exit_code == 0, done.output
    assert _files(tmp_path / "there") == _files(tmp_path / "here")
    assert len(_files(tmp_path / "here")) == 3


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _price(base: str) -> dict[str, str]:
    return {"input": base, "output": "50", "cache_write_5m": "1.25", "cache_write_1h": "2", "cache_read": "0.1"}
