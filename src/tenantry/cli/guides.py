"""tenants guide | fair-use: what a client is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.context import fail, opened_site
from tenantry.cli.options import Slug
from tenantry.cli.output import say

GUIDE_FOLDER = Path("clients")


def register(app: typer.Typer) -> None:
    app.command()(guide)
    app.command("fair-use")(fair_use_command)


def guide(
    slug: Slug,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for it.")] = GUIDE_FOLDER,
) -> None:
    """Write a client's guide again, from its limits, budget and models as they are now: Markdown and one HTML page."""
    from tenantry.control.client_guide import write_client_guide

    with opened_site() as site:
        try:
            path = write_client_guide(site, slug, out)
        except OSError as error:
            raise fail(f"the guide could not be written: {error}") from None
    say(f"Guide  {path}")
    say(f"       {path.with_suffix('.html')}")


def fair_use_command(slug: Slug) -> None:
    """Print a client's fair-use terms as Markdown, with the figures of its own limits."""
    from tenantry.control.client_guide import fair_use

    with opened_site() as site:
        text = fair_use(site, slug)
    say(text, nl=False)
