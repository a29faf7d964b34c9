"""The report as one self-contained page: no script, nothing loaded, readable without colour."""

from __future__ import annotations

import os
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from tenantry.control.isolation.findings import Report

_PAGES = Environment(
    loader=PackageLoader("tenantry.control.isolation", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def as_html(report: Report) -> str:
    """The page. What was tried and seen came over the wire, so everything is escaped."""
    return _PAGES.get_template("report.html.j2").render(report=report)


def write_report(report: Report, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        OSError: it cannot be written there.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(as_html(report), "utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
