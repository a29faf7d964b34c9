"""Metrics as text that Prometheus reads (exposition format 0.0.4). Written here: it is a page of rules, and no library
that knows them costs control nothing at its start.

What is no number comes from people, clients and upstreams, and stands in quotation marks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tenantry.domain.histograms import Histogram

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
NANOS: Final = 1_000_000_000
MICROS: Final = 1_000_000

Labels = Mapping[str, str]


class Page:
    """The text, family by family: a name and its help once, then its samples."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._name = ""

    def family(self, name: str, kind: str, told: str) -> None:
        """`kind`: counter, gauge or histogram. Its samples follow."""
        self._name = name
        self._lines += (f"# HELP {name} {told}", f"# TYPE {name} {kind}")

    def sample(self, number: int | str, labels: Labels | None = None, suffix: str = "") -> None:
        self._lines.append(f"{self._name}{suffix}{_written(labels or {})} {number}")

    def histogram(self, found: Histogram, labels: Labels | None = None) -> None:
        """Buckets in seconds, each with all below it."""
        labels, below = labels or {}, 0
        for bound_us, count in zip((*found.bounds_us, None), found.counts, strict=True):
            below += count
            bound = "+Inf" if bound_us is None else shifted(bound_us, MICROS)
            self.sample(below, {**labels, "le": bound}, "_bucket")
        self.sample(shifted(found.sum_us, MICROS), labels, "_sum")
        self.sample(below, labels, "_count")

    def text(self) -> bytes:
        return ("\n".join(self._lines) + "\n").encode()


def shifted(number: int, unit: int) -> str:
    """An integer of a small unit as a decimal of the large one, exactly: no float touches money."""
    sign, digits = ("-", -number) if number < 0 else ("", number)
    whole, rest = divmod(digits, unit)
    places = len(str(unit)) - 1
    return f"{sign}{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")


def _written(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(text)}"' for name, text in labels.items()]) + "}"


def _escaped(text: str) -> str:
    """Backslash, quotation mark and line feed as the format wants them; other control characters by their code."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "".join([one if one.isprintable() else f"\\\\u{ord(one):04x}" for one in text])
