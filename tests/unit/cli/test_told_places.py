"""What commands say of where things are, and what they call them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.cli.plans import named
from tenantry.cli.serving import database_words
from tenantry.settings import load_settings


@pytest.mark.sqlite
def test_init_says_where_the_books_are(tmp_path: Path) -> None:
    here = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path)})
    assert database_words(here) == f"database in {tmp_path}"
    there = replace(here, store_url="postgresql://tenantry@db.internal/tenantry")
    assert database_words(there) == "tables in postgresql://tenantry@db.internal/tenantry"


@pytest.mark.parametrize(
    ("term", "told"), [("fee_nanos", "fee"), ("markup_percent", "markup percent"), ("slots", "slots")]
)
def test_a_term_of_a_plan_is_named_for_people(term: str, told: str) -> None:
    assert named(term) == told
