"""The option --month of commands that bill or look at what was billed."""

from __future__ import annotations

from tenantry.billing.months import BadMonth, Month, read_month
from tenantry.cli.context import USAGE, fail


def month_option(text: str | None) -> Month | None:
    """The month that was named; exit 2 where it is none."""
    try:
        return read_month(text) if text is not None else None
    except BadMonth as error:
        raise fail(str(error), USAGE) from None
