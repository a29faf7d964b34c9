"""Text for a cell of a CSV file that people open: nothing that somebody else wrote is run as a formula there."""

from __future__ import annotations

from typing import Final

# What a spreadsheet takes for the start of a formula, also in full width, and behind blanks, which some trim (OWASP,
# "CSV Injection").
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_CELL_BREAKS: Final = ("\t", "\r", "\n")


def guarded(text: str) -> str:
    """`text`, behind a single quote where a spreadsheet would run it."""
    is_formula = text.startswith(_CELL_BREAKS) or text.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if is_formula else text
