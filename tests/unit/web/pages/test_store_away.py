"""A store that cannot be used for a while: people and programs are told so, and the log is not filled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.roles import Role
from tenantry.storage.columns import now_utc
from tenantry.storage.people_tables import people_sessions
from tests.browser import add_person, signed_in
from tests.unit.web.asking import ask


@contextmanager
def away(site: Site, wanted: Callable[[str], bool]) -> Generator[None]:
    """Each statement that is `wanted` fails, as on a full disk."""

    def refuse(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if wanted(statement):
            raise OperationalError(statement, None, Exception("database or disk is full /data/secret-place"))

    event.listen(site.engine, "before_cursor_execute", refuse)
    try:
        yield
    finally:
        event.remove(site.engine, "before_cursor_execute", refuse)


def test_a_page_and_a_program_are_told_once_in_the_log(
    app: Starlette, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    browser = signed_in(app, site)
    caplog.set_level(logging.ERROR)
    with away(site, lambda _: True):
        page = browser.get("/tenants")
        assert page.status == 503
        assert "The database cannot be used at the moment" in page.text
        assert "secret-place" not in page.text
        for _ in range(3):
            status, headers, body = ask(app, "/api/v1/tenants", "tadm-of-nobody")
            assert (status, headers[b"content-type"]) == (503, b"application/problem+json")
            assert headers[b"retry-after"]
            assert b"secret-place" not in body
    assert [record.getMessage() for record in caplog.records] == [
        "the database cannot be used: (builtins.Exception) database or disk is full /data/secret-place"
    ]
    assert browser.get("/tenants").status == 200


def test_a_page_is_read_where_nothing_can_be_written(app: Starlette, site: Site) -> None:
    """That somebody was seen is noted each minute; where it cannot be, the session is as old as it was."""
    browser = signed_in(app, site, add_person(site, "ana", Role.OWNER))
    with site.engine.begin() as connection:
        connection.execute(update(people_sessions).values(seen_at=now_utc() - timedelta(minutes=5)))
    with away(site, lambda statement: not statement.lstrip().startswith(("SELECT", "PRAGMA", "BEGIN"))):
        assert browser.get("/tenants").status == 200
