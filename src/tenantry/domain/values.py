"""How values that are made for every request are declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A dataclass that is never changed once made.

    The type checker holds that. At run time nothing does, for a frozen dataclass takes five times as long to make
    (`object.__setattr__` for each field), and a request makes a dozen values.
    """
    return dataclass(slots=True)(cls)
