"""keys master rotate."""

from __future__ import annotations

import typer

from tenantry.cli.context import confirm, fail, opened_site
from tenantry.cli.options import AsJson, Yes
from tenantry.cli.output import print_json, say

app = typer.Typer(help="Rotate the master key, under which every secret of the site is sealed.", no_args_is_help=True)

_QUESTION = (
    "A new master key is made, and every stored secret goes over to it while all goes on. Backups from before need "
    "the old key, which is kept aside. Rotate it?"
)


@app.command()
def rotate(yes: Yes = False, as_json: AsJson = False) -> None:
    """Make a new master key and go over to it, while gateways serve; one that was killed is gone on with.

    No client and no credential notices: gateway keys, admin tokens and stored secrets stay what they are.
    """
    from tenantry.control.presence import SiteReplaced
    from tenantry.control.rotation import RotationRuns, rotate_master_key

    with opened_site() as site:
        confirm(_QUESTION, yes)
        try:
            done = rotate_master_key(site)
        except (RotationRuns, SiteReplaced) as error:
            raise fail(str(error)) from None
        except OSError as error:
            where = error.filename or site.settings.data_dir
            raise fail(f"{where}: {error.strerror or error}; run it again, it goes on where it is") from None
        place = site.settings.master_key_file
    if as_json:
        rotated = {"old": done.old_id, "new": done.new_id, "secrets": done.secrets, "retired": str(done.retired)}
        print_json(rotated | {"file": str(place), "was_begun": done.was_begun})
        return
    if done.was_begun:
        say("Went on with a rotation that had been begun.")
    say(
        f"The master key is {done.new_id} now, in {place}.\nBack it up apart from the database, as you did the old one."
    )
    say(f"The old one, {done.old_id}, is {done.retired}:\nonly backups from before now need it. Keep it where they are")
    say("(or make a new backup and let them go), then remove it here.")
