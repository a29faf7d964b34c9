"""What months brought and cost, for a chart over months: months that are over are added up once in a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from tenantry.billing.months import Month, month_before
from tenantry.control.figures.beside import Beside
from tenantry.control.figures.margins import Margins, month_margins
from tenantry.control.site import Site

MONTHS_SHOWN: Final = 12
# A month that is over changes by what is booked late, corrected, or agreed on afterwards; a page says as of when it is.
MONTH_REMEMBERED_SECONDS: Final = 300.0
WAITED_SECONDS: Final = 0.3
log = logging.getLogger("tenantry.control")


class MarginHistory:
    """The whole months before the running one, the newest first, added up beside by one at a time.

    A page shows those that are known, and asks again for the rest.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._beside = Beside("margins")
        self._found: dict[Month, tuple[float, Margins]] = {}

    def find(self, wait_seconds: float = WAITED_SECONDS) -> tuple[Mapping[Month, Margins], bool]:
        """By month, from old to new, and whether these are all of them."""
        wanted = self._wanted()
        if not all(self._is_fresh(month) for month in wanted):
            self._beside.begin(partial(self._add_up, wanted)).join(wait_seconds)
        known = {month: self._found[month][1] for month in sorted(wanted, key=str) if month in self._found}
        return known, len(known) == len(wanted)

    def _wanted(self) -> list[Month]:
        found, day = list[Month](), self._site.directory.today()
        while len(found) < MONTHS_SHOWN - 1:
            found.append(month_before(day))
            day = found[-1].first
        return found

    def _is_fresh(self, month: Month) -> bool:
        return month in self._found and time.monotonic() < self._found[month][0]

    def _add_up(self, wanted: list[Month]) -> None:
        try:
            for month in wanted:
                if not self._is_fresh(month):
                    self._found[month] = (time.monotonic() + MONTH_REMEMBERED_SECONDS, month_margins(self._site, month))
        except (SQLAlchemyError, OSError) as error:
            log.warning("margins could not be added up: %s", error)
