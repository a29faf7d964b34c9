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
_XHTML: Final = "{http://www.w3.org/1999/xhtml}"
# Of SVG 1.1: what runs, or brings another language in.
_RUNNING: Final = ("script", "foreignObject", "handler", "animate", "set", "iframe")
_LOADS: Final = re.compile(r"url\(\s*['\"]?(?!#|data:)|@import|expression\(|image-set\(|\bsrc\(", re.IGNORECASE)
# A picture within one, as drawing programs put it there.
_INNER: Final = re.compile(r"data:image/(?:png|jpe?g);base64,")
# Markers of JPEG's frames (ITU T.81, table B.1), without those of tables: DHT, JPG, DAC.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ELSEWHERE: Final = "the SVG loads something from elsewhere"


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


def _require_png(data: bytes) -> int:
    """Its pixels, as those below."""
    if data[12:16] != b"IHDR" or data[-8:-4] != b"IEND":
        raise BadPicture("the PNG is cut off")
    return _require_size(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))


def _require_jpeg(data: bytes) -> int:
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


def _require_size(width: int, height: int) -> int:
    if not width or not height or width * height > PIXELS_MAX:
        raise BadPicture(f"a logo has {PIXELS_MAX // 1_000_000} million pixels at most, not {width} x {height}")
    return width * height


def _require_svg(data: bytes) -> None:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise BadPicture("the SVG has a document type or entities; leave them out")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 -- without a document type there is nothing to expand or load
    except (ElementTree.ParseError, ValueError) as error:
        raise BadPicture(f"the SVG cannot be read: {error}") from None
    if root.tag != f"{_SVG}svg":
        raise BadPicture("it is no SVG")
    if b"<?xml-stylesheet" in data:  # the parser passes it over
        raise BadPicture(_ELSEWHERE)
    pixels = sum(_require_still(one) for one in root.iter())
    if pixels > PIXELS_MAX:
        raise BadPicture(f"a logo has {PIXELS_MAX // 1_000_000} million pixels at most, also those within it together")


def _require_still(one: ElementTree.Element) -> int:
    """The pixels of the pictures that it has within it."""
    name = str(one.tag).rpartition("}")[2]
    links = [value for key, value in one.items() if key.rpartition("}")[2] == "href"]
    if (
        name.startswith(_RUNNING)
        or str(one.tag).startswith(_XHTML)
        or any(key.lower().startswith("on") for key, _ in one.items())
    ):
        raise BadPicture(f"the SVG has what runs or moves: {name}")
    texts = (*one.attrib.values(), *one.itertext()) if name == "style" else (*one.attrib.values(), one.text or "")
    # Style sheets may write each letter as an escape.
    is_escaped = any("\\" in text for text in (one.get("style", ""), *(texts if name == "style" else ())))
    if is_escaped or any(_LOADS.search(text) for text in texts):
        raise BadPicture(_ELSEWHERE)
    return sum(_inner_pixels(link) for link in links if not link.startswith("#"))


def _inner_pixels(link: str) -> int:
    """Of a picture within one, which is unpacked too where that is drawn."""
    head = _INNER.match(link)
    if head is None:
        raise BadPicture(_ELSEWHERE)
    try:
        data = base64.b64decode(link[head.end() :])
    except ValueError:
        raise BadPicture("a picture within the SVG cannot be read") from None
    return _require_png(data) if data.startswith(b"\x89PNG\r\n\x1a\n") else _require_jpeg(data)
