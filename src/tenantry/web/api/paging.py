"""Lists in pages: a cursor says behind which item the next one begins, so that what comes in between moves nothing.

A cursor is concealed: it holds the key of the last item, which may be the number of a row and would tell how many rows
the whole site has, and is bound to what was asked for. Behind other filters, or made up, it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar, cast

import msgspec

from tenantry.storage.vault import SecretUnreadable
from tenantry.web.answers import Refused
from tenantry.web.api.operations import Call, Struct

T = TypeVar("T")
PAGE_MAX: Final = 1000
_CURSOR_CHARS_MAX: Final = 2000


class Paged(Struct):
    """What every list takes."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX, description="So many at most.")] = 100
    cursor: Annotated[str, msgspec.Meta(max_length=_CURSOR_CHARS_MAX, description="`next` of a page.")] | None = None


class Page(msgspec.Struct, Generic[T]):
    """`next` is the cursor of the next page; None: this is the last."""

    data: list[T]
    next: str | None = None


def page_of(call: Call, query: Paged, items: Sequence[T], key: Callable[[T], Any]) -> Page[T]:
    """A page of items that are all at hand, in the order of `key`, which no two share."""
    after = read_cursor(call, query)
    left = items if after is None else [one for one in items if _listed(key(one)) > after]
    return next_page(call, query, left, key)


def next_page(call: Call, query: Paged, found: Sequence[T], key: Callable[[T], Any]) -> Page[T]:
    """A page of what was found behind the cursor: one more than `limit` says that there is another."""
    shown = list(found[: query.limit])
    more = len(found) > query.limit
    return Page(shown, _cursor(call, query, key(shown[-1])) if more else None)


def read_cursor(call: Call, query: Paged) -> list[Any] | None:
    """The key of the last item before the page. Raises Refused: 400."""
    if query.cursor is None:
        return None
    try:
        return cast("list[Any]", json.loads(call.site.vault.reveal(query.cursor, _context(call, query))))
    except SecretUnreadable:
        raise Refused(
            400, "this is no cursor of this list: take `next` of a page that was asked for with the same filters"
        ) from None


def _cursor(call: Call, query: Paged, key: Any) -> str:
    return call.site.vault.conceal(json.dumps(_listed(key)), _context(call, query))


def _listed(key: Any) -> list[Any]:
    return list(cast("tuple[Any, ...]", key)) if isinstance(key, tuple) else [key]


def _context(call: Call, query: Paged) -> str:
    filters = {name: value for name, value in msgspec.structs.asdict(query).items() if name not in ("limit", "cursor")}
    return "cursor " + json.dumps([call.request.url.path, filters], sort_keys=True, default=str)
