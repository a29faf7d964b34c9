"""What was probably meant by a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, names: Iterable[str], otherwise: str) -> str:
    """The end of a message: the nearest of `names`, or `otherwise` where none is near."""
    near = difflib.get_close_matches(name.lower(), names, 1)
    return f"did you mean {near[0]}?" if near else otherwise
