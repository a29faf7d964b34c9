"""Chance, named by a seed: the same names draw the same numbers on every machine."""

from __future__ import annotations

from random import Random


def chance(*names: object) -> Random:
    """A generator of its own for what is named."""
    return Random("/".join(map(str, names)))  # noqa: S311 -- repeats a run, keeps no secret
