"""tenants guide | fair-use: what a client is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.context import fail, opened
from tenantry.cli.options import Slug
from tenantry.cli.output import say
from tenantry.cli.remote.api import Api

GUIDE_FOLDER = Path("clients")


def register(app: typer.Typer) -> None:
    app.command()(guide)
    app.command("fair-use")(fair_use_command)


def guide(
    slug: Slug,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for it.")] = GUIDE_FOLDER,
) -> None:
    """Write a client's guide again, from its limits, budget and models as they are now: Markdown and one HTML page."""
    from tenantry.control.client_guide import guide_texts, write_guide_texts

    with opened() as at:
        if isinstance(at, Api):
            forms = [at.bytes_of("tenants", slug, "guide", format=one).decode() for one in ("markdown", "html")]
            markdown, page = forms
        else:
            markdown, page = guide_texts(at, slug)
        try:
            path = write_guide_texts(markdown, page, slug, out)
        except OSError as error:
            raise fail(f"the guide could not be written: {error}") from None
    say(f"Guide  {path}")
    say(f"       {path.with_suffix('.html')}")


def fair_use_command(slug: Slug) -> None:
    """Print a client's fair-use terms as Markdown, with the figures of its own limits."""
    from tenantry.control.client_guide import fair_use

    with opened() as at:
        text = at.bytes_of("tenants", slug, "fair-use").decode() if isinstance(at, Api) else fair_use(at, slug)
    say(text, nl=False)
