"""Which form of Tenantry runs: its hot path compiled, or the same files interpreted (decision 0008)."""

from __future__ import annotations

from importlib import resources

from tenantry.domain import prices

_HOW = "install it with a C compiler at hand for the compiled form, which takes less CPU (docs/installation.md)"
_HOW_HERE = "`make compiled` makes the compiled form, which takes less CPU (docs/installation.md)"


def is_compiled() -> bool:
    return not (prices.__file__ or "").endswith(".py")


def describe_form() -> str:
    """The form, why it is that one, and how to get the other."""
    told = resources.files("tenantry").joinpath("form.txt")
    why = told.read_text().strip() if told.is_file() else ""
    if is_compiled():
        return f"{why or 'compiled'}; TENANTRY_COMPILE=no at its installation makes it interpreted"
    if not why:
        return f"interpreted, as it runs from its source; {_HOW_HERE}"
    return f"{why}; {_HOW}"
