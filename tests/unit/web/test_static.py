"""Files that pages are made with: as they were published, kept for good, and in the wheel."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.web.pages_base.static import static_route, static_url
from tests.browser import Browser

STATIC = Path(str(files("tenantry.web").joinpath("static")))
VENDOR = STATIC / "vendor"


def noted() -> dict[str, tuple[str, str, str, str]]:
    """Package, version, licence and hash of each file, as NOTICE has them."""
    rows = [line.split() for line in (VENDOR / "NOTICE").read_text().splitlines() if line.count(" ") >= 4]
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows if len(row) == 5 and row[0] != "file"}


def static_names() -> list[str]:
    """Every file that is served: NOTICE, without a type, is none."""
    return sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*.*"))


def test_what_others_wrote_is_as_it_was_published() -> None:
    found = noted()
    assert set(found) == {"pico.min.css", "htmx.min.js"}
    for name, (_, version, licence, digest) in found.items():
        body = (VENDOR / name).read_bytes()
        assert hashlib.sha256(body).hexdigest() == digest, name
        assert licence in ("MIT", "0BSD")
        assert version[0].isdigit()
        assert b"sourceMappingURL" not in body
    licences = {path.name for path in VENDOR.glob("LICENSE.*")}
    assert licences == {"LICENSE.pico.txt", "LICENSE.htmx.txt"}


def test_a_file_is_kept_for_good_under_a_name_with_its_hash() -> None:
    browser = Browser(Starlette(routes=[static_route()]))
    for name in static_names():
        answer = browser.get(static_url(name))
        assert answer.status == 200
        assert answer.header("cache-control") == "public, max-age=31536000, immutable"
        assert answer.header(
            "content-type",
        ) in {
            "text/css; charset=utf-8",
            "text/javascript; charset=utf-8",
            "image/svg+xml",
            "text/plain; charset=utf-8",
        }
        assert browser.get(f"/static/{name}").status == 404, "not under a name that means another file later"


@pytest.mark.parametrize("path", ["../app.py", "%2e%2e/app.py", "vendor/../../app.py", "/etc/passwd", "", "vendor"])
def test_nothing_else_is_served(path: str) -> None:
    assert Browser(Starlette(routes=[static_route()])).get(f"/static/{path}").status == 404
