"""What every command shares: the settings, the opened site, and how a mistake is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tenantry.cli.output import say
from tenantry.cli.remote.api import Api, ServerFailed
from tenantry.cli.remote.server import NAMED, BadServer, read_server
from tenantry.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    import typer
    from sqlalchemy.exc import DatabaseError

    from tenantry.control.site import Site

FAILED = 1
USAGE = 2
# As a shell says of a command that Ctrl-C has ended: 128 and the number of the signal.
INTERRUPTED = 130
# Of PostgreSQL (postgresql.org/docs/current/errcodes-appendix.html).
_INSUFFICIENT_PRIVILEGE = "42501"
INTERRUPTED_WORDS = "interrupted; what was begun and not finished is undone"


class Processes(Protocol):
    """The long-running commands, handed in by the composition root."""

    def gateway(self, settings: Settings) -> int: ...
    def control(self, settings: Settings) -> int: ...
    def sandbox(self, settings: Settings, host: str, port: int) -> int: ...
    def serve(self, settings: Settings, demo: bool) -> int: ...


def fail(message: str, code: int = FAILED) -> typer.Exit:
    """Say what went wrong on standard error; raise what this returns."""
    import typer

    say(f"tenantry: {message}", err=True)
    return typer.Exit(code)


def settings(*, starts: bool = False) -> Settings:
    """The settings, or exit 2 with every problem. `starts`: for a process, which needs more of its machine."""
    named, also = os.environ.get("TENANTRY_CONFIG"), None
    if starts:
        from tenantry.machine_checks import unusable_here

        also = unusable_here
    try:
        return load_settings(Path(named) if named else None, os.environ, also)
    except SettingsError as error:
        import typer

        for problem in error.problems:
            say(f"tenantry: {problem}", err=True)
        raise typer.Exit(USAGE) from None


def is_nothing_there(found: Settings) -> bool:
    """Whether a site was never made. A database without its key, or a key without its database, is not nothing."""
    folder = found.data_dir
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


@contextmanager
def opened() -> Generator[Site | Api]:
    """The site of this machine, or the control that `--server` names: for the commands of `remote/carried.py`."""
    named = NAMED.get()
    if named is None:
        with opened_site() as site:
            yield site
        return
    try:
        api = Api(read_server(named, os.environ))
    except BadServer as error:
        raise fail(str(error), USAGE) from None
    with told():
        try:
            yield api
        finally:
            api.close()


@contextmanager
def opened_site() -> Generator[Site]:
    """The site, closed at the end; what the directory refuses becomes a message and exit 1."""
    from tenantry.control.site import open_site

    if NAMED.get() is not None:
        raise fail("this works on the store of its own machine: run it there, without --server", USAGE)

    with told():
        site = open_site(settings())
        try:
            yield site
        finally:
            site.engine.dispose()


class ToldLater(KeyboardInterrupt):
    """An interrupt that is told where it is caught, when all is tidied up."""


@contextmanager
def if_interrupted(words: Callable[[], str]) -> Generator[None]:
    """What Ctrl-C says in here: what is done and what not, where more is kept than what was finished in one go."""
    try:
        yield
    except ToldLater:
        raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {words()}") from None


@contextmanager
def told() -> Generator[None]:
    """Errors that are meant for the user, and Ctrl-C in one line (see `if_interrupted`)."""
    try:
        yield
    except ToldLater:
        raise
    except KeyboardInterrupt as interrupt:
        raise fail(str(interrupt) or INTERRUPTED_WORDS, INTERRUPTED) from None
    except Exception as error:
        message = _message_of(error)
        if message is None:
            raise
        # Of a read 400 is a value that cannot be; of a write, what stands against it is 422, as on the store.
        is_usage = isinstance(error, ServerFailed) and error.status == HTTPStatus.BAD_REQUEST
        raise fail(message, USAGE if is_usage else FAILED) from None


def _message_of(error: Exception) -> str | None:
    """What a user is told of an error; None: it is a fault of ours, which is to be seen."""
    if isinstance(error, ServerFailed):
        return str(error)
    from sqlalchemy.exc import DatabaseError, OperationalError

    from tenantry.control.refusals import ProvisionFailed
    from tenantry.storage.database import StoreMissing
    from tenantry.storage.directory import DirectoryError
    from tenantry.storage.schema import StoreOutdated
    from tenantry.storage.server import DriverMissing
    from tenantry.storage.vault import MasterKeyUnusable, SecretUnreadable

    if isinstance(error, DirectoryError | DriverMissing | ProvisionFailed | MasterKeyUnusable | SecretUnreadable):
        return str(error)
    if isinstance(error, StoreMissing | StoreOutdated):
        return f"{error} `tenantry doctor` says more."
    if isinstance(error, DatabaseError) and (type(error) in (DatabaseError, OperationalError) or _is_of_setup(error)):
        reason = str(error).splitlines()[0]
        return f"the database cannot be used: {reason}; `tenantry doctor` says what to do"
    return None


def _is_of_setup(error: DatabaseError) -> bool:
    """PostgreSQL was not asked anything yet (an option of `store_url` that there is not), or the role may not."""
    return error.statement is None or getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE


def confirm(question: str, yes: bool) -> None:
    """Ask before something is cut off; exit 2 where nobody can answer, 1 when the answer is no."""
    import typer

    if yes:
        return
    if not sys.stdin.isatty():
        raise fail(f"{question} Nobody can answer here: repeat with --yes.", USAGE)
    try:
        agreed = typer.confirm(question)
    except typer.Abort:  # Ctrl-C, or the end of what is typed
        say(err=True)
        raise fail("nothing was changed", INTERRUPTED) from None
    if not agreed:
        raise fail("nothing was changed")
