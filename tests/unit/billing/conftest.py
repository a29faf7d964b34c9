"""A site with three tenants, two plans, and a day that is set."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from tenantry.control.site import Site
from tests.unit.billing.offices import OnADay, make_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture(autouse=True)
def _first_day() -> Iterator[None]:
    OnADay.day = date(2026, 11, 1)
    yield
    OnADay.day = date(2026, 11, 1)
