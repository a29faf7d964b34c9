"""Money: integers of nano-dollars (1 USD = 1,000,000,000). No float ever touches money."""

from __future__ import annotations

import re
from decimal import Decimal

NANOS_PER_USD = 1_000_000_000
# A billion dollars: above any client's bill, and several of them still fit a column of 64 bits.
AMOUNT_NANOS_MAX = 1_000_000_000 * NANOS_PER_USD
_AMOUNT = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,9}))?")


class BadAmount(ValueError):
    """An amount is dollars above 0 as a plain decimal, such as 50 or 12.50, with nine places at most."""


def read_amount(text: str) -> int:
    """An amount that somebody typed, in nano-dollars.

    Raises:
        BadAmount: it is not a number, not above 0, finer than a nano-dollar, or more than a billion dollars.
    """
    nanos = read_usd(text)
    check_amount(nanos)
    return nanos


def read_usd(text: str) -> int:
    """Dollars that somebody wrote, in nano-dollars; 0 too. Exponents, separators and other digits are no amount.

    Raises:
        BadAmount: it is not a plain decimal, or finer than a nano-dollar.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise BadAmount(f"{(BadAmount.__doc__ or '').rstrip('.')}, not {text[:40]!r}")
    return int(found.group(1)) * NANOS_PER_USD + int((found.group(2) or "").ljust(9, "0"))


def check_amount(nanos: int) -> None:
    """Raises: BadAmount."""
    if nanos <= 0:
        raise BadAmount(f"an amount must be above 0, not {format_usd(nanos)}")
    if nanos > AMOUNT_NANOS_MAX:
        raise BadAmount(f"an amount must be at most {format_usd(AMOUNT_NANOS_MAX)}")


def usd_to_nanos(amount: Decimal | str) -> int:
    """Dollars, as a decimal, in nano-dollars.

    Raises:
        ValueError: not a number, or finer than a nano-dollar.
    """
    try:
        nanos = Decimal(amount) * NANOS_PER_USD
    except ArithmeticError as error:
        raise ValueError(f"{amount!r} is not an amount of dollars") from error
    if not nanos.is_finite() or nanos != nanos.to_integral_value():
        raise ValueError(f"{amount!r} is not a whole number of nano-dollars")
    return int(nanos)


def format_usd(nanos: int, places_min: int = 2) -> str:
    """Nano-dollars as exact dollars: `$0.000114`, with `places_min` decimal places or as many as it takes."""
    sign = "-" if nanos < 0 else ""
    whole, rest = divmod(abs(nanos), NANOS_PER_USD)
    places = f"{rest:09d}".rstrip("0").ljust(places_min, "0")
    return f"{sign}${whole:,}.{places}"
