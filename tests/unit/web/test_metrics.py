"""`/metrics` is for admins, and for everybody where the setting says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.control.exposition import CONTENT_TYPE
from tenantry.control.metrics import Metrics
from tenantry.control.site import open_site
from tenantry.ledger.metering import Booked
from tenantry.settings import load_settings
from tenantry.web.app import control_app
from tests.template import init_from_template
from tests.unit.web.asking import ask

TOKEN = "tadm-a-token-of-a-test"


@pytest.fixture(params=["false", "true"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starlette]:
    environ = {"TENANTRY_DATA_DIR": str(tmp_path / "data"), "TENANTRY_METRICS_OPEN": request.param}
    settings = load_settings(None, environ)
    init_from_template(settings)
    site = open_site(settings)
    site.directory.add_admin("tester", TOKEN)
    yield control_app(site, Metrics(site.engine, settings.journal_dir, Booked(5)))
    site.engine.dispose()


def test_the_page_is_for_admins_and_for_everybody_where_that_is_set(
    app: Starlette, request: pytest.FixtureRequest
) -> None:
    is_open = "true" in request.node.name
    for token, status in ((None, 200 if is_open else 401), ("wrong", 200 if is_open else 401), (TOKEN, 200)):
        found, headers, body = ask(app, "/metrics", token)
        assert found == status
        assert (b"tenantry_build_info{" in body) is (status == 200)
        if status == 200:
            assert headers[b"content-type"].decode() == CONTENT_TYPE
            assert b"tadm-" not in body
