"""Money: integers of nano-dollars (1 USD = 1,000,000,000). No float ever touches money."""

from __future__ import annotations

from decimal import Decimal

NANOS_PER_USD = 1_000_000_000


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
