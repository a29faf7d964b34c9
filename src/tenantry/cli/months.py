"""The option --month of commands that bill or look at what was billed."""

from __future__ import annotations

from tenantry.billing.months import BadMonth, Month, read_month
from tenantry.cli.context import USAGE, fail


def month_option(text: str | None, default: Month) -> Month:
    """The month that was named, or the default; exit 2 where it is none."""
    try:
        return read_month(text) if text is not None else default
    except BadMonth as error:
        raise fail(str(error), USAGE) from None
