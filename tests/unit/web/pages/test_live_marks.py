"""What `/live` says of the ledger: that there is something new of whom its reader may see, and nothing of others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette

from tenantry.control.figures.scope import scope_of
from tenantry.control.site import Site
from tenantry.domain.roles import Role
from tenantry.web.pages import live
from tenantry.web.pages.live import Booked
from tests.browser import add_person, signed_in
from tests.unit.ledger.books import attempt, book


def test_who_is_confined_is_told_of_their_own_rows_and_nothing_of_how_many_others_there_are(
    site: Site, tmp_path: Path
) -> None:
    ids = {one.slug: one.tenant_id for one in site.directory.list_tenants()}
    own, whole = scope_of(site, frozenset({"acme"})), scope_of(site, None)
    of_acme, of_all = Booked(), Booked()

    def marks() -> tuple[str, str]:
        with site.engine.connect() as connection:
            return of_acme.mark(connection, own), of_all.mark(connection, whole)

    first = marks()
    assert marks() == first
    book(site.engine, tmp_path, [attempt(number, tenant=ids["globex"]) for number in range(77)])
    second = marks()
    assert (second[0] == first[0], second[1] == first[1]) == (True, False)
    book(site.engine, tmp_path, [attempt(100, tenant=ids["acme"])], "later")
    third = marks()
    assert third[0] != second[0]
    assert third[1] != second[1]
    assert third[0].endswith(".1")
    with site.engine.connect() as connection:
        assert Booked().mark(connection, own) != third[0]  # a new stream makes its page look


def test_where_alerts_go_is_for_who_may_change_it_as_in_the_api(app: Starlette, site: Site) -> None:
    site.directory.set_alert_target("pager", "webhook", "https://hooks.example.org/secret-path", None)
    for role, sees in ((Role.OWNER, True), (Role.OPERATOR, True), (Role.BILLING, False), (Role.VIEWER, False)):
        page = signed_in(app, site, add_person(site, f"{role}@example.org", role)).get("/alerts")
        assert page.status == 200
        assert ("pager" in page.text) is sees, role


def test_a_stream_outlives_a_store_that_is_away_and_tells_nothing_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[str | Exception] = ["a", OperationalError("SELECT 1", None, Exception("gone")), "b"]

    async def in_thread(function: Any, *_: object, **__: object) -> object:
        if function is not live._now:  # pyright: ignore[reportPrivateUsage]
            return None
        answer = answers.pop(0)
        if not answers:
            feed.close()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def told() -> list[bytes]:
        stream = live._told(cast(Any, None), cast(Any, None), feed, "session")  # pyright: ignore[reportPrivateUsage]
        return [part async for part in stream]

    feed = live.LiveFeed()
    assert feed.take("session")
    monkeypatch.setattr(live, "TOLD_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(live, "run_in_threadpool", in_thread)
    directory = SimpleNamespace(find_session=None)
    monkeypatch.setattr(live, "site_of", Mock(return_value=SimpleNamespace(directory=directory)))
    monkeypatch.setattr(live, "cookie_of", Mock(return_value="secret"))
    assert asyncio.run(told()) == [b"data: a\n\n", b"data: b\n\n"]
    assert not feed.open
