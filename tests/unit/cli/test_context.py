"""What a command says of a store that cannot be used."""

from __future__ import annotations

import pytest
import typer
from psycopg.errors import InsufficientPrivilege, UndefinedColumn
from sqlalchemy.exc import ProgrammingError

from tenantry.cli.context import told
from tenantry.storage.database import open_store

pytestmark = pytest.mark.sqlite  # no server is asked


def test_an_option_of_store_url_that_there_is_not_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    engine = open_store("postgresql://tenantry@127.0.0.1:9/tenantry?sslmod=verify-full")
    with pytest.raises(typer.Exit), told():
        engine.connect()
    assert 'invalid connection option "sslmod"' in capsys.readouterr().err


def test_what_the_role_may_not_do_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), told():
        raise ProgrammingError("CREATE TABLE", None, InsufficientPrivilege("permission denied for schema public"))
    assert "permission denied for schema public; `tenantry doctor` says what to do" in capsys.readouterr().err


def test_a_statement_of_ours_that_is_wrong_is_seen_whole() -> None:
    with pytest.raises(ProgrammingError), told():
        raise ProgrammingError("SELECT nothing", None, UndefinedColumn())
