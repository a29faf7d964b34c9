"""store copy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import OperationalError

from tenantry.cli.context import USAGE, fail, if_interrupted, settings, told
from tenantry.cli.options import AsJson
from tenantry.cli.output import print_json, say
from tenantry.cli.progress import told_share
from tenantry.control.presence import SiteRuns
from tenantry.control.store_copy import Copied, CopyFailed, CopyRefused, copy_store
from tenantry.settings import Settings
from tenantry.storage.migrating import MigrationBroken

app = typer.Typer(help="Move the site's store between SQLite and PostgreSQL.", no_args_is_help=True)

_AGAIN = "the same command goes on where it was; until it is done nothing opens the copy"


@app.callback()
def group() -> None:
    """Move the site's store between SQLite and PostgreSQL."""


@app.command("copy")
def copy_command(
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="An empty database: postgresql://USER@HOST/DB, sqlite:////PATH.")
    ],
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="The store to copy; default: this site's (store_url).")
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", metavar="FILE", help="PostgreSQL's password, where ~/.pgpass does not have it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the whole store, check every row and chain, and say what to do then. Stop gateway and control first.

    What was killed goes on where it was when the same command is given again.
    """
    found = settings()
    if password_file is not None and not password_file.is_file():
        raise fail(f"--password-file: there is no file {password_file}", USAGE)
    with told(), if_interrupted(lambda: _AGAIN):
        done = _copied(found, source or found.store_url, to, password_file)
    if as_json:
        print_json(
            {
                "tables": done.tables,
                "rows": done.rows,
                "ledger_rows": done.verified.rows,
                "ledger_head": done.verified.head,
                "audit_rows": done.audit_rows,
                "went_on": done.went_on,
            }
        )
        return
    _tell(found, done, source or found.store_url, to, password_file)


def _copied(found: Settings, source: str, to: str, password_file: Path | None) -> Copied:
    try:
        with told_share(sys.stderr, "copied and checked") as came:
            return copy_store(found, source, to, password_file, came)
    except CopyRefused as error:
        raise fail(f"nothing was copied: {error}", USAGE) from None
    except SiteRuns as error:
        raise fail(f"nothing was copied: {error}") from None
    except (CopyFailed, MigrationBroken) as error:
        raise fail(f"{error}. The store that it is of is as it was; nothing opens the copy") from None
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        hint = "; --password-file names a file that has it" if "no password supplied" in reason else ""
        raise fail(f"the database cannot be used: {reason}{hint}. Afterwards {_AGAIN}") from None
    except OSError as error:  # of the folder of an SQLite store
        raise fail(f"{error.filename or to}: {error.strerror or error}") from None


def _tell(found: Settings, done: Copied, source: str, to: str, password_file: Path | None) -> None:
    began = " (an earlier copy went on)" if done.went_on else ""
    say(f"Copied {done.rows} rows of {done.tables} tables{began}; each table has the same digest in both.")
    say(f"{done.verified.rows} ledger rows and {done.audit_rows} of the audit log follow their chains to the end.")
    say(f"The ledger's head is {done.verified.head}.")
    say("Next:")
    if to == found.store_url:
        say("  tenantry doctor             # the settings name the copy already")
    else:
        say(f'  store_url = "{to}"' + "  # in tenantry.toml, or as TENANTRY_STORE_URL")
        if to.startswith("postgresql") and password_file is not None:
            say(f'  store_password_file = "{password_file.resolve()}"')
        if to.startswith("sqlite") and found.store_password is not None:
            say("  and no store_password_file, nor TENANTRY_STORE_PASSWORD: only PostgreSQL takes a password")
        say("  tenantry doctor")
    say("  tenantry serve")
    say(f"Keep {source} until you are sure, and start nothing on it: what is booked there is not in the copy.")
