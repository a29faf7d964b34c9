"""Invoices by command: files by their names, what an extra or an e-invoice lacks told before anything is issued."""

from __future__ import annotations

import importlib.util
import json
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tenantry.app import Processes
from tenantry.cli.main import build_cli
from tenantry.control import site as control_site
from tenantry.control.site import Site
from tenantry.storage.directory.invoices import INVOICE
from tests.unit.billing.offices import OnADay


@pytest.fixture(autouse=True)
def _at_the_site(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands open it, in December, in a folder of its own."""
    OnADay.day = date(2026, 12, 1)
    monkeypatch.setattr(control_site, "open_site", lambda settings: site)
    monkeypatch.chdir(tmp_path)


def run(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(build_cli(Processes()), words, input=stdin)


def test_a_file_is_of_the_format_that_its_name_or_the_option_says(tmp_path: Path) -> None:
    for name, begin in (("b.pdf", b"%PDF"), ("b.html", b"<!doctype"), ("b.json", b"{"), ("b.csv", b"number,")):
        done = run("invoice", "b", "--month", "2026-11", "--out", name)
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).read_bytes().startswith(begin)
    done = run("invoice", "b", "--month", "2026-11", "--format", "pdf")
    assert "Wrote preview-2026-11-b.pdf." in done.output
    assert run("invoice", "b", "--month", "2026-11", "--issue", "--yes", "--format", "pdf").exit_code == 0
    assert (tmp_path / "INV-2026-0001.pdf").read_bytes().startswith(b"%PDF")
    (tmp_path / "INV-2026-0001.pdf").unlink()
    assert run("invoices", "show", "INV-2026-0001", "--format", "pdf").output == "Wrote INV-2026-0001.pdf.\n"
    assert run("invoices", "show", "INV-2026-0001", "--format", "csv").output.startswith("number,line")


def test_a_name_that_ends_in_no_format_is_a_mistake_and_issues_nothing(site: Site, tmp_path: Path) -> None:
    for words in (["invoice", "b", "--month", "2026-11", "--issue", "--yes"], ["invoice", "b", "--month", "2026-11"]):
        done = run(*words, "--out", "b.docx")
        assert done.exit_code == 2
        assert "b.docx ends in no format: name one by --format (html" in done.output
    assert not (tmp_path / "b.docx").exists()
    assert site.directory.list_invoices() == []
    assert run("invoice", "b", "--month", "2026-11", "--issue", "--yes").exit_code == 0
    assert run("invoices", "show", "INV-2026-0001", "--out", "b.docx").exit_code == 2


def test_without_its_extra_a_format_says_how_to_get_it_and_nothing_is_issued(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there(name) if name != "typst" else None)
    done = run("invoice", "b", "--month", "2026-11", "--issue", "--yes", "--format", "pdf")
    assert done.exit_code == 2
    assert "pdf needs more: pip install 'tenantry[pdf]'" in done.output
    assert "tenantry[pdf]" in run("invoices", "show", "INV-2026-0001", "--format", "facturx").output
    assert site.directory.list_invoices() == []


def test_what_an_e_invoice_lacks_is_told_before_there_is_a_number(site: Site, tmp_path: Path) -> None:
    words = ("--month", "2026-11", "--issue", "--yes", "--format", "facturx")
    done = run("invoice", "b", *words)
    assert done.exit_code == 1
    assert "an e-invoice needs the agency's name" in done.output
    every = run("invoice", "--all", *words, "--out", "files", "--json")
    assert every.exit_code == 1
    assert [one["failed"] for one in json.loads(every.stdout)] == [True, True]
    assert site.directory.list_invoices() == []

    agency = ("--name", "Agency", "--country", "de", "--tax-id", "DE123456789", "--tax", "VAT=19")
    assert run("invoices", "details", *agency).exit_code == 0
    for slug in ("a", "b"):
        assert run("invoices", "details", slug, "--country", "fr", "--locale", "fr-fr").exit_code == 0
    assert run("invoice", "--all", *words, "--out", "files").exit_code == 0
    assert sorted(one.name for one in (tmp_path / "files").iterdir()) == [
        "INV-2026-0001.facturx.pdf",
        "INV-2026-0002.facturx.pdf",
    ]
    assert {one.document["locale"] for one in site.directory.list_invoices()} == {"fr_FR"}


def test_a_part_is_credited_when_its_total_was_agreed_to(site: Site) -> None:
    assert run("invoice", "b", "--month", "2026-11", "--issue", "--yes").exit_code == 0
    words = ("invoices", "credit", "INV-2026-0001", "--reason", "slow")
    asked = run(*words, "--amount", "12.50", stdin="n\n")
    assert asked.exit_code != 0
    assert [one.kind for one in site.directory.list_invoices()] == [INVOICE]
    done = run(*words, "--amount", "12.50", "--yes")
    assert "CN-2026-0001 gives back $12.50 of INV-2026-0001" in done.output
    assert "CN-2026-0002 gives back" in run(*words, "--line", "1", "--amount", "1", "--yes").output
    for wrong in (("--amount", "x"), ("--amount", "-1"), ("--line", "0")):
        assert run(*words, *wrong, "--yes").exit_code == 2
    assert "65.50 USD" in run(*words, "--amount", "99", "--yes").output
    assert "CN-2026-0003 takes back INV-2026-0001" in run(*words, "--yes").output


def test_a_logo_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>')
    done = run("invoices", "details", "--logo", "logo.svg")
    assert done.exit_code == 2
    assert "runs or moves: script" in done.output
