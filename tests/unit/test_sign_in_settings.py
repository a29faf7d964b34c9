"""Settings of the sign-in: nothing of it crosses a network in the clear, and half a provider is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantry.domain.roles import Role
from tenantry.settings import Settings, SettingsError, load_settings
from tests.authority import Authority


def loaded(tmp_path: Path, **values: str) -> Settings:
    environ = {f"TENANTRY_{name.upper()}": value for name, value in values.items()}
    return load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "data")} | environ)


def said(tmp_path: Path, **values: str) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, **values)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize("host", ["::", "192.0.2.1", "control.agency.example"])
def test_a_public_address_needs_tls_or_a_declared_proxy(tmp_path: Path, host: str) -> None:
    assert "control_host must be a loopback address, unless" in said(tmp_path, control_host=host)
    cert_file, key_file = Authority(tmp_path).issue("control", "control.agency.example")
    own = {"control_tls_certificate": str(cert_file), "control_tls_key": str(key_file)}
    url = "https://control.agency.example"
    assert loaded(tmp_path, control_host=host, control_url=url, **own).control_host == host
    proxied = loaded(tmp_path, control_host=host, control_url=url, control_tls_proxy="10.0.0.7, 10.1.0.0/24")
    assert [str(one) for one in proxied.control_tls_proxy] == ["10.0.0.7/32", "10.1.0.0/24"]


def test_the_site_says_where_it_is_found(tmp_path: Path) -> None:
    assert loaded(tmp_path).control_url == "http://127.0.0.1:3001"
    assert loaded(tmp_path, control_host="::1", control_port="4001").control_url == "http://[::1]:4001"
    assert "control_url: set it too" in said(tmp_path, control_tls_proxy="127.0.0.1")
    told = said(tmp_path, control_tls_proxy="127.0.0.1", control_url="http://control.agency.example")
    assert "is without TLS" in told
    assert "is without TLS" in said(tmp_path, control_url="http://control.agency.example")
    assert "must have no path" in said(tmp_path, control_url="https://agency.example/control")


@pytest.mark.parametrize("proxies", ["0.0.0.0/0", "::/0", "proxy.example", "10.0.0.1/8"])
def test_a_proxy_is_named_by_its_address(tmp_path: Path, proxies: str) -> None:
    assert "control_tls_proxy must" in said(tmp_path, control_tls_proxy=proxies)


def test_certificate_and_key_go_together_and_are_there(tmp_path: Path) -> None:
    told = said(tmp_path, control_tls_certificate=str(tmp_path / "missing.pem"))
    assert "control_tls_certificate and control_tls_key go together" in told
    assert "control_tls_certificate: there is no file" in told


def test_half_a_provider_is_told(tmp_path: Path) -> None:
    issuer = "https://login.agency.example"
    assert "oidc_client_id: set it too" in said(tmp_path, oidc_issuer=issuer)
    assert "oidc_client_secret_file: name the file" in said(tmp_path, oidc_issuer=issuer, oidc_client_id="x")
    assert "oidc_issuer: set it too" in said(tmp_path, oidc_roles="groups:a=owner")
    found = loaded(tmp_path, oidc_issuer=issuer, oidc_client_id="x", oidc_client_secret="of-a-client")
    assert found.oidc_client_secret == "of-a-client"
    assert "of-a-client" not in repr(found)
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)
    told = said(tmp_path, oidc_issuer=issuer, oidc_client_id="x", oidc_client_secret_file=str(secret))
    assert "can be read by every user" in told


def test_the_secret_of_a_client_does_not_stand_in_the_settings_file(tmp_path: Path) -> None:
    toml = tmp_path / "tenantry.toml"
    toml.write_text('oidc_issuer = "https://a.example"\noidc_client_id = "x"\noidc_client_secret = "of-a-client"\n')
    with pytest.raises(SettingsError) as caught:
        load_settings(toml, {})
    assert "put it into a file" in str(caught.value)
    assert "of-a-client" not in str(caught.value)


@pytest.mark.parametrize(
    "issuer",
    [
        "http://login.agency.example",
        "login.agency.example",
        "https://u:p@login.example",
        "https://login.example?x=1",
        "ftp://x",
    ],
)
def test_an_issuer_has_tls_unless_it_is_on_loopback(tmp_path: Path, issuer: str) -> None:
    assert "oidc_issuer must be a URL" in said(tmp_path, oidc_issuer=issuer, oidc_client_id="x")


def test_claims_give_roles_that_there_are(tmp_path: Path) -> None:
    own = {"oidc_issuer": "http://127.0.0.1:9", "oidc_client_id": "x", "oidc_client_secret": "x"}
    (one, two) = loaded(tmp_path, oidc_roles="groups:admins=owner,realm:a:b=viewer", **own).oidc_roles
    assert (one.claim, one.value, one.role) == ("groups", "admins", Role.OWNER)
    assert (two.claim, two.value, two.role) == ("realm", "a:b", Role.VIEWER)
    for text in ("groups=owner", "groups:admins", "groups:admins=god", ":a=owner"):
        assert "must be as groups:agency-admins=owner" in said(tmp_path, oidc_roles=text, **own)
