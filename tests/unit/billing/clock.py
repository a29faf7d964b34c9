"""The time at which corrections are booked."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest


class Clock:
    """In the place of the module `time`, of which they use one function."""

    def __init__(self) -> None:
        self.day = date(2026, 11, 1)

    def time_ns(self) -> int:
        """At noon of the day."""
        return int(datetime(self.day.year, self.day.month, self.day.day, 12, tzinfo=UTC).timestamp()) * 10**9


def set_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tenantry.ledger.adjustments.time", clock)
    return clock
