"""Lists in pages: a cursor says behind which item the next one begins, so that what comes in between moves nothing.

A cursor is opaque: it holds the key of the last item and what was asked for, under a keyed hash of the site's. Behind
other filters, or made up, it is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar, cast

import msgspec

from tenantry.web.answers import Refused
from tenantry.web.api.operations import Call, Struct

T = TypeVar("T")
PAGE_MAX: Final = 1000
_SEAL_BYTES: Final = 12
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
        raw = base64.urlsafe_b64decode(query.cursor.encode("ascii") + b"==")
        seal, text = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:].decode()
        if seal != _seal(call, query, text):
            raise ValueError
        return cast("list[Any]", json.loads(text))
    except (ValueError, binascii.Error):
        raise Refused(
            400, "this is no cursor of this list: take `next` of a page that was asked for with the same filters"
        ) from None


def _cursor(call: Call, query: Paged, key: Any) -> str:
    text = json.dumps(_listed(key))
    return base64.urlsafe_b64encode(_seal(call, query, text) + text.encode()).decode().rstrip("=")


def _listed(key: Any) -> list[Any]:
    return list(cast("tuple[Any, ...]", key)) if isinstance(key, tuple) else [key]


def _seal(call: Call, query: Paged, text: str) -> bytes:
    filters = {name: value for name, value in msgspec.structs.asdict(query).items() if name not in ("limit", "cursor")}
    asked = json.dumps([call.request.url.path, filters, text], sort_keys=True, default=str)
    return call.site.vault.fingerprint(f"cursor {asked}")[:_SEAL_BYTES]
