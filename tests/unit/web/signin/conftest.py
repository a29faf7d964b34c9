"""A site with its application, whose hashes are cheap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tenantry.control.people.passwords import Passwords
from tenantry.control.site import Site, open_site
from tenantry.settings import load_settings
from tenantry.web.app import control_app
from tests.template import init_from_template


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")})
    init_from_template(settings)
    made = open_site(settings)
    yield made
    made.engine.dispose()


@pytest.fixture
def app(site: Site) -> Starlette:
    made = control_app(site)
    made.state.passwords = Passwords(memory_kib=64, passes=1)
    return made
