"""Months that are over, added up once in a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantry.billing.months import Month
from tenantry.control.figures import margin_history
from tenantry.control.figures.margin_history import MONTHS_SHOWN, MarginHistory
from tenantry.control.figures.margins import Margins, month_margins
from tenantry.control.site import Site
from tests.unit.billing.offices import make_site


def test_a_month_that_is_known_and_fresh_is_not_added_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails at the fourth month: the first three are there, and the next one that asks begins behind them."""
    site, asked, fails_at = make_site(tmp_path), list[Month](), {4}

    def added_up(of: Site, month: Month) -> Margins:
        asked.append(month)
        if len(asked) in fails_at:
            raise OSError("the store is away")
        return month_margins(of, month)

    monkeypatch.setattr(margin_history, "month_margins", added_up)
    history = MarginHistory(site)
    known, is_whole = history.find(wait_seconds=60.0)
    assert (list(known), is_whole) == (sorted(asked[:3], key=str), False)
    known, is_whole = history.find(wait_seconds=60.0)
    assert is_whole
    assert len(known) == MONTHS_SHOWN - 1
    assert asked[4] == asked[3], "that which failed"
    assert sorted([*asked[:3], *asked[4:]], key=str) == list(known), "each once"
    history.find(wait_seconds=60.0)
    assert len(asked) == MONTHS_SHOWN
    site.engine.dispose()
