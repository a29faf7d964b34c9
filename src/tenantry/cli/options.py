"""Options and arguments that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Slug = Annotated[str, typer.Argument(help="The tenant's slug.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
