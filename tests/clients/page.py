"""docs/conformance.md: written from what was run, and read again to see what got worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.clients.catalog import ROOT
from tests.clients.cells import COLUMNS

PAGE: Final = ROOT / "docs" / "conformance.md"

HEAD: Final = """\
# Clients

Which clients work with a gateway of ours, as they came from their registries on {date}. `make test-clients`
installs the current version of each into `.clients/`, runs it against a real gateway with the sandbox behind it,
and writes this page; where a cell got worse it leaves the page as it is and ends with exit code 1. The settings are
those of the client guide, whose examples it runs too.

"""

FOOT: Final = """
* **works**: it did what the column says, and the gateway saw it: an answer, a stream, a tool's result, a count, a
  list of models.
* **at rate limit**: the first answer is 429 with `retry-after`. **waits, works**: it waited by itself and was then
  served. **gives up after 1**: it shows the answer, unless told to retry (LiteLLM: `num_retries`).
* **over budget**, **revoked key**: **stops, says why**: it asks once and shows the gateway's sentence. *N
  requests*: it asks that often for one call before it shows it ([why](decisions/0014-over-budget-answers.md)).
* **{streams}**: it has no call without a stream. **no such call**: it has none for this. **counts itself**, **own
  list**: it does not ask the endpoint.
* **not installed**: neither its registry nor this machine could give it; the reason stands in the place of the
  version.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One client's row."""

    title: str
    version: str
    cells: tuple[str, ...]


def render(lines: list[Line], date: str, streams: str) -> str:
    """The page."""
    names = ("client", "version", *COLUMNS)
    rows = [names, ("---",) * len(names), *((line.title, line.version, *line.cells) for line in lines)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return (
        HEAD.format(date=date)
        + table.replace("| --- ", "|---").replace("|--- |", "|---|")
        + FOOT.format(streams=streams)
    )


def read(text: str) -> dict[str, Line]:
    """The rows of a page by their client."""
    rows = [
        [part.strip() for part in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith("| client ")
    ]
    return {row[0]: Line(row[0], row[1], tuple(row[2:])) for row in rows}
