"""Which pictures may be a logo: small ones, whole, that load nothing and run nothing."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final
from xml.etree import ElementTree

# It goes into every page; a logo of a letterhead has some KB.
LOGO_BYTES_MAX: Final = 200_000
# What 200 KB may unpack to: 64 MB of memory where it is drawn.
PIXELS_MAX: Final = 16_000_000
_SVG: Final = "{http://www.w3.org/2000/svg}"
# Of SVG 1.1: what runs, or brings another language in.
_RUNNING: Final = ("script", "foreignObject", "handler", "animate", "set", "iframe")
_LOADS: Final = re.compile(r"url\(\s*['\"]?(?!#|data:)|@import|expression\(", re.IGNORECASE)
# Markers of JPEG's frames (ITU T.81, table B.1), without those of tables: DHT, JPG, DAC.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class BadPicture(ValueError):
    """A file that can be no logo; the message says why."""


def as_data_url(data: bytes) -> str:
    """Raises: BadPicture."""
    if len(data) > LOGO_BYTES_MAX:
        raise BadPicture(f"a logo has {LOGO_BYTES_MAX // 1000} KB at most")
    kind = _kind(data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def read_data_url(url: str) -> str:
    """Such a URL made by others, as `as_data_url` makes one of the picture in it. Raises: BadPicture."""
    head, comma, text = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise BadPicture("it is no data: URL in base 64, such as data:image/png;base64,iVBORw0KGgo...")
    try:
        return as_data_url(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise BadPicture("what is in the data: URL is no base 64") from None


def _kind(data: bytes) -> str:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        _require_png(data)
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        _require_jpeg(data)
        return "image/jpeg"
    if b"<svg" in data:
        _require_svg(data)
        return "image/svg+xml"
    raise BadPicture("it is no PNG, JPEG or SVG")


def _require_png(data: bytes) -> None:
    if data[12:16] != b"IHDR" or data[-8:-4] != b"IEND":
        raise BadPicture("the PNG is cut off")
    _require_size(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))


def _require_jpeg(data: bytes) -> None:
    for marker, segment in _segments(data):
        if marker in _FRAMES and b"\xff\xd9" in data[-64:]:
            return _require_size(int.from_bytes(segment[3:5]), int.from_bytes(segment[1:3]))
    raise BadPicture("the JPEG is cut off")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Those before the first scan, each with its marker."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4])
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _require_size(width: int, height: int) -> None:
    if not width or not height or width * height > PIXELS_MAX:
        raise BadPicture(f"a logo has {PIXELS_MAX // 1_000_000} million pixels at most, not {width} x {height}")


def _require_svg(data: bytes) -> None:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise BadPicture("the SVG has a document type or entities; leave them out")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 -- without a document type there is nothing to expand or load
    except (ElementTree.ParseError, ValueError) as error:
        raise BadPicture(f"the SVG cannot be read: {error}") from None
    if root.tag != f"{_SVG}svg":
        raise BadPicture("it is no SVG")
    for one in root.iter():
        _require_still(one)


def _require_still(one: ElementTree.Element) -> None:
    name = str(one.tag).rpartition("}")[2]
    links = [value for key, value in one.items() if key.rpartition("}")[2] == "href"]
    if name.startswith(_RUNNING) or any(key.lower().startswith("on") for key, _ in one.items()):
        raise BadPicture(f"the SVG has what runs or moves: {name}")
    if any(not link.startswith(("#", "data:image/")) for link in links) or any(
        _LOADS.search(text) for text in (*one.attrib.values(), one.text or "")
    ):
        raise BadPicture("the SVG loads something from elsewhere")
