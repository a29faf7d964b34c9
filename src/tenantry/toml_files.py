"""TOML that somebody has written: what would take a parser's stack, or minutes, is told instead."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any, Final, cast

# A limit of a key of a tenant stands six deep.
DEPTH_MAX: Final = 20
# `tomllib` takes minutes for a dotted key of 100,000 parts (measured, 2026-11-29).
_LONG_KEY = re.compile(
    r"""(?:^|[\[{,])[ \t]*(?:(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){20}""", re.MULTILINE
)


class TooDeep(ValueError):
    """Nested more than 20 deep."""


def parse_toml(text: str) -> dict[str, Any]:
    """The document.

    Raises:
        tomllib.TOMLDecodeError: it is no TOML.
        TooDeep: tables and lists in it are nested without reason.
    """
    try:
        document = None if _LONG_KEY.search(text) else tomllib.loads(text)
    except RecursionError:
        document = None
    if document is None or is_deeper(document, DEPTH_MAX):
        raise TooDeep(f"nested more than {DEPTH_MAX} deep")
    return document


def is_deeper(document: object, depth_max: int) -> bool:
    """Whether tables and lists are nested more than `depth_max` deep. Without recursion, for which that is too deep."""
    level = [document]
    for _ in range(depth_max):
        level = [
            below
            for one in level
            if isinstance(one, dict | list)
            for below in cast("Iterable[object]", one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True
