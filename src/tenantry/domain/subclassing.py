"""What a compiled class says so that interpreted code, such as a double, may inherit from it (decision 0008)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    T = TypeVar("T")

    def mypyc_attr(**_: bool) -> Callable[[type[T]], type[T]]:
        """Read by mypyc when it compiles the class; nothing at run time."""
        return lambda cls: cls
