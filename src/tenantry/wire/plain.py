"""Plain requests and answers: read by `_plain.c` where that was built, else by the same in Python.

What these functions do is told in `plain_in_python`.
"""

from __future__ import annotations

try:
    from tenantry.wire._plain import (  # pyright: ignore[reportMissingModuleSource] -- its source is C
        plain_answer,
        plain_request,
    )
except ImportError:  # nobody has built it
    from tenantry.wire.plain_in_python import plain_answer, plain_request

__all__ = ["plain_answer", "plain_request"]
