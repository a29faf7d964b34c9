"""A logo is small, whole, and neither runs nor loads anything."""

from __future__ import annotations

import base64
import zlib

import pytest

from tenantry.domain.pictures import LOGO_BYTES_MAX, BadPicture, as_data_url, read_data_url

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">{}</svg>'


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    frame = b"\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x01\x01\x11\x00"
    tables = b"\xff\xe0\x00\x04ab" + b"\xff\xc4\x00\x03x"
    return b"\xff\xd8" + tables + b"\xff\xc0" + (len(frame) + 2).to_bytes(2) + frame + b"\xff\xd9"


def inner(data: bytes) -> str:
    """A picture as drawing programs put it into another."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(20, 10), "image/png"),
        (jpeg(20, 10), "image/jpeg"),
        (SVG.format('<defs><path id="a" d="M0 0h9"/></defs><use xlink:href="#a"/>').encode(), "image/svg+xml"),
        (SVG.format(f'<image xlink:href="{inner(png(20, 10))}"/>').encode(), "image/svg+xml"),
        (SVG.format("<style>g { fill: url(#a) }</style>").encode(), "image/svg+xml"),
    ],
)
def test_pictures_are_taken_as_what_they_are(data: bytes, kind: str) -> None:
    assert as_data_url(data) == f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no PNG, JPEG or SVG"),
        (b"GIF89a", "no PNG, JPEG or SVG"),
        (png(20, 10)[:-5], "cut off"),
        (png(40_000, 40_000), "16 million pixels"),
        (png(0, 10), "16 million pixels"),
        (jpeg(60_000, 60_000), "16 million pixels"),
        (jpeg(20, 10)[:-2], "cut off"),
        (b"\x89PNG\r\n\x1a\n" + bytes(LOGO_BYTES_MAX), "200 KB"),
        (b"<svg", "cannot be read"),
        (b"<html><svg/></html>", "no SVG"),
        (b'<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG.format("&a;").encode(), "document type"),
        (SVG.format("<script>x()</script>").encode(), "runs or moves: script"),
        (SVG.format("<foreignObject/>").encode(), "runs or moves"),
        (SVG.format('<path onload="x()"/>').encode(), "runs or moves"),
        (SVG.format('<image xlink:href="//example.com/a.png"/>').encode(), "loads something"),
        (SVG.format('<image href="file:///etc/passwd"/>').encode(), "loads something"),
        (SVG.format("<style>@import 'x.css';</style>").encode(), "loads something"),
        (SVG.format('<path style="fill:url(https://example.com/a)"/>').encode(), "loads something"),
        (SVG.format("<style>@\\69mport 'https://example.com/x';</style>").encode(), "loads something"),
        (SVG.format("<style><g/>@import 'https://example.com/x';</style>").encode(), "loads something"),
        (SVG.format("<style>g{background:image-set('https://example.com/x' 1x)}</style>").encode(), "loads something"),
        (b'<?xml-stylesheet href="https://example.com/x.css"?>' + SVG.format("").encode(), "loads something"),
        (SVG.format('<img xmlns="http://www.w3.org/1999/xhtml" src="//example.com/a"/>').encode(), "runs or moves"),
        (SVG.format('<image href="data:image/svg+xml,x"/>').encode(), "loads something"),
        (SVG.format(f'<image href="{inner(png(40_000, 40_000))}"/>').encode(), "16 million pixels"),
        (SVG.format(f'<image href="{inner(png(3_000, 3_000))}"/>' * 2).encode(), "those within it together"),
        (SVG.format('<image href="data:image/png;base64,no"/>').encode(), "cut off|cannot be read"),
    ],
)
def test_what_is_large_broken_or_alive_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadPicture, match=why):
        as_data_url(data)


def test_a_data_url_of_others_is_looked_into() -> None:
    """What it says it is counts for nothing: what is in it does."""
    told = base64.b64encode(png(20, 10)).decode()
    assert read_data_url(f"data:image/jpeg;base64,{told}") == as_data_url(png(20, 10))


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64," + base64.b64encode(b"GIF89a").decode(),
        "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode(),
        "data:image/png;base64," + base64.b64encode(png(20, 10) + b"\0" * LOGO_BYTES_MAX).decode(),
        "data:image/png;base64,no base 64",
        "data:image/png,plain",
        "https://agency.example/logo.png",
        "data:image/svg+xml;base64," + base64.b64encode(SVG.format("<script/>").encode()).decode(),
    ],
)
def test_a_data_url_of_what_can_be_no_logo_is_refused(url: str) -> None:
    with pytest.raises(BadPicture):
        read_data_url(url)
