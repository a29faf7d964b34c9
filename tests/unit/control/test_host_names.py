"""Host names as people write them, and which of them a site is asked under."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.control.host_names import is_own_host, read_host, why_not_usable
from tenantry.control.site import Site, endpoint_of, endpoints_of, open_site
from tenantry.domain.hosts import BadHost
from tenantry.settings import load_settings
from tenantry.storage.directory.tenants import TenantChange
from tests.template import init_from_template

DOMAIN = "claude.agency.example"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    environ = {
        "TENANTRY_DATA_DIR": str(tmp_path / "data"),
        "TENANTRY_PUBLIC_URL": f"https://{DOMAIN}",
        "TENANTRY_PUBLIC_DOMAIN": f"{DOMAIN.upper()}.",
    }
    settings = load_settings(None, environ)
    init_from_template(settings)
    made = open_site(settings)
    made.directory.create_tenant("acme", "Acme", "standard")
    made.directory.set_tenant("acme", TenantChange(hosts=["ai.client.example"]))
    yield made
    made.engine.dispose()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" AI.Client.Example. ", "ai.client.example"),
        ("ki.müller.example", "ki.xn--mller-kva.example"),
        ("KI.MÜLLER.example", "ki.xn--mller-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # as browsers do it, not `strasse`
        ("XN--STRAE-OQA.example", "xn--strae-oqa.example"),
        ("ai。client。example", "ai.client.example"),
    ],
)
def test_a_name_is_kept_in_one_form(written: str, kept: str) -> None:
    assert read_host(written) == kept


@pytest.mark.parametrize(
    "written", ["xn--a.example", "xn--", "ü" * 64 + ".example", "ü" * 5000, "a b.example", "ai.example:1"]
)
def test_what_is_no_name_is_refused(written: str) -> None:
    with pytest.raises(BadHost):
        read_host(written)


def test_a_client_cannot_have_the_sites_own_names(site: Site) -> None:
    assert "public_url" in (why_not_usable(site.settings, DOMAIN) or "")
    assert f"SLUG.{DOMAIN}" in (why_not_usable(site.settings, f"beta.{DOMAIN}") or "")
    assert why_not_usable(site.settings, "ai.client.example") is None
    assert why_not_usable(site.settings, f"not{DOMAIN}") is None


def test_the_endpoint_is_the_host_where_there_is_a_domain(site: Site) -> None:
    assert endpoint_of(site.settings, "acme") == f"https://acme.{DOMAIN}"
    assert endpoints_of(site.settings, "acme", ["ai.client.example"]) == [
        f"https://acme.{DOMAIN}",
        "https://ai.client.example",
        f"https://{DOMAIN}/t/acme",
    ]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("host", "known"),
    [
        (DOMAIN, True),
        (f"acme.{DOMAIN}", True),
        (f"ACME.{DOMAIN}.", True),
        ("ai.client.example", True),
        (f"nobody.{DOMAIN}", False),
        (f"a.acme.{DOMAIN}", False),
        ("another.example", False),
        ("", False),
        ("127.0.0.1", False),
        ("*." + DOMAIN, False),
        ("x" * 5000, False),
    ],
)
def test_a_certificate_may_be_got_for_the_sites_names_only(site: Site, host: str, known: bool) -> None:
    assert is_own_host(site, host) is known
