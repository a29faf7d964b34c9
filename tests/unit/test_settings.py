"""Settings are checked together, and all that is wrong with them is told at once, before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.machine_checks import unusable_here
from tenantry.settings import SettingsError, load_settings
from tests.authority import Authority
from tests.stack import free_ports


def problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, environ, unusable_here)
    return caught.value.problems


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"TENANTRY_GATEWAY_PROT": "80"},
            "TENANTRY_GATEWAY_PROT: there is no such setting: did you mean 'TENANTRY_GATEWAY_PORT'?",
        ),
        ({"TENANTRY_XQZ": "1"}, "TENANTRY_XQZ: there is no such setting; docs/configuration.md lists them"),
        (
            {"TENANTRY_CONTROL_PORT": "3000"},
            "gateway_port and control_port are both 3000: each needs a port of its own",
        ),
        (
            {"TENANTRY_GATEWAY_HOST": "::", "TENANTRY_SANDBOX_PORT": "3000"},
            "gateway_port and sandbox_port are both 3000: each needs a port of its own",
        ),
        (
            {"TENANTRY_GATEWAY_HOST": "203.0.113.1"},
            "gateway_host: nothing can listen on 203.0.113.1 here: Cannot assign requested address",
        ),
        (
            {"ANTHROPIC_BASE": "http://localhost:3000/v1"},
            "upstream anthropic: http://localhost:3000 is this gateway itself; name the API that it forwards to",
        ),
        (
            {
                "TENANTRY_PUBLIC_URL": "https://claude.example",
                "ANTHROPIC_BASE": "https://claude.example/",
            },
            "upstream anthropic: https://claude.example is this gateway itself; name the API that it forwards to",
        ),
        (
            {"TENANTRY_STORE_URL": "mysql://db/tenantry"},
            "store_url: must begin with sqlite:/// or postgresql://, as in sqlite:////var/lib/tenantry/tenantry.db",
        ),
        (
            {"TENANTRY_PUBLIC_URL": "claude.agency.example"},
            "TENANTRY_PUBLIC_URL: public_url must be a URL such as https://claude.agency.example,"
            " not 'claude.agency.example'",
        ),
        (
            {"ANTHROPIC_BASE": "https://api.example:99999"},
            "ANTHROPIC_BASE: upstream_base_url must be a URL such as https://api.anthropic.com,"
            " not 'https://api.example:99999'",
        ),
    ],
)
def test_what_cannot_be_right_is_told(environ: dict[str, str], said: str) -> None:
    assert problems(**environ) == [said]


def test_a_file_where_a_folder_should_be_and_a_folder_where_a_file_should_be_are_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert problems(TENANTRY_DATA_DIR=str(file)) == [f"data_dir: {file} is a file; a folder has to be there"]
    assert problems(TENANTRY_DATA_DIR=str(file / "site")) == [f"data_dir: {file} is a file; a folder has to be there"]
    assert problems(TENANTRY_STORE_URL=f"sqlite:///{tmp_path}") == [
        f"store_url: {tmp_path} is a folder; the database is a file"
    ]
    (tmp_path / "master.key").mkdir()
    (tmp_path / "journal").touch()
    assert problems(TENANTRY_DATA_DIR=str(tmp_path)) == [
        f"data_dir: {tmp_path}/journal is a file; a folder has to be there",
        f"data_dir: {tmp_path}/master.key is a folder; a file has to be there",
    ]


def test_a_certificate_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_text("no certificate")
    key_file.write_text("no key")
    key_file.chmod(0o600)
    environ = {"TENANTRY_TLS_CERT_FILE": str(cert_file), "TENANTRY_TLS_KEY_FILE": str(key_file)}
    (said,) = problems(**environ, TENANTRY_UPSTREAM_CA_FILE=str(cert_file))[:1]
    assert said.startswith(f"tls_cert_file, tls_key_file: {cert_file} is not PEM (")
    assert f"upstream_ca_file: {cert_file} is not PEM (" in problems(TENANTRY_UPSTREAM_CA_FILE=str(cert_file))[0]
    # Commands do not start anything, and do not ask for it.
    assert load_settings(None, environ).tls_cert_file == cert_file


def test_a_site_of_another_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    environ = {"TENANTRY_DATA_DIR": str(tmp_path)}
    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(SettingsError) as caught:
        load_settings(None, environ)
    assert caught.value.problems[0].startswith(f"this user may not look at {tmp_path}: run it as the user")


def test_what_is_no_setting_and_not_meant_as_one_is_passed_over() -> None:
    """A client's key, and what Kubernetes sets for a service of this name."""
    environ = {
        "TENANTRY_KEY": "sk-proxy-acme-1",
        "TENANTRY_SERVICE_HOST": "10.0.0.1",
        "TENANTRY_SERVICE_PORT_HTTP": "3000",
        "TENANTRY_PORT": "tcp://10.0.0.1:3000",
        "TENANTRY_PORT_3000_TCP_ADDR": "10.0.0.1",
    }
    load_settings(None, environ)
    assert len(problems(TENANTRY_PORT="3000")) == 1


def test_all_that_is_wrong_is_told_at_once_and_nothing_starts(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    environ = {
        "TENANTRY_DATA_DIR": str(tmp_path / "data"),
        "TENANTRY_GATEWAY_PORT": str(port),
        "TENANTRY_CONTROL_PORT": str(port),
        "TENANTRY_CONTROL_HOST": "::",
        "TENANTRY_GATEWAY_HOTS": "127.0.0.1",
        "TENANTRY_DRAIN_SECONDS": "soon",
        "TENANTRY_TLS_CERT_FILE": str(tmp_path / "missing.pem"),
        "TENANTRY_STORE_URL": "tenantry.db",
        "ANTHROPIC_BASE": f"http://127.0.0.1:{port}",
    }
    for command in ("serve", "gateway", "control"):
        done = subprocess.run(
            [sys.executable, "-m", "tenantry", command], env=os.environ | environ, capture_output=True, text=True
        )
        assert done.returncode == 2
        said = done.stderr.splitlines()
        for name in (
            "HOTS",
            "drain_seconds",
            "control_port",
            "control_host",
            "tls_key_file",
            "missing.pem",
            "store_url",
        ):
            assert any(name in line for line in said), (name, said)
        assert any("this gateway itself" in line for line in said)
    assert not (tmp_path / "data").exists()


def test_certificates_of_clients_are_tables_with_two_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    main, client = authority.issue("main", "localhost"), authority.issue("client", "ai.client.example", days=-1)
    toml = tmp_path / "tenantry.toml"

    def write(tables: str, *, with_main: bool = True) -> Path:
        own = f'tls_cert_file = "{main[0]}"\ntls_key_file = "{main[1]}"\n' if with_main else ""
        toml.write_text(own + tables)
        return toml

    def said(tables: str, **more: bool) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            load_settings(write(tables, **more), {}, unusable_here)
        return [one.removeprefix(f"{toml}: ") for one in caught.value.problems]

    table = f'[certificates.client]\ncert_file = "{client[0]}"\nkey_file = "{client[1]}"\n'
    found = load_settings(write(table), {}, unusable_here)  # one client's that has ended stops nobody
    assert [one.name for one in found.certificates] == ["main", "client"]
    assert said(table, with_main=False) == [
        "certificates: set tls_cert_file and tls_key_file too, for every other name",
    ]
    assert said('[certificates.client]\ncert_fil = "x"\nkey_file = "/none.key"\n') == [
        "[certificates.client]: there is no 'cert_fil': did you mean 'cert_file'?",
        "[certificates.client]: cert_file must name a file",
        "[certificates.client]: key_file: there is no file /none.key",
    ]
    assert "is not 'main'" in said(table.replace("client]", "main]"))[0]
    client[1].chmod(0o644)
    assert said(table) == [
        f"[certificates.client]: {client[1]} can be read by every user of this machine: chmod o-rwx {client[1]}",
    ]
    authority.issue("main", "localhost", days=-1)
    assert f"{main[0]} has ended on " in said("")[0]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TENANTRY_PUBLIC_DOMAIN": "claude.agency.example"}, "public_domain: set public_url too"),
        (
            {"TENANTRY_PUBLIC_DOMAIN": "*.agency.example"},
            "public_domain must be a domain such as claude.agency.example",
        ),
        ({"TENANTRY_PUBLIC_DOMAIN": "https://agency.example"}, "public_domain must be a domain"),
        ({"TENANTRY_PUBLIC_DOMAIN": "127.0.0.1"}, "public_domain must be a domain"),
    ],
)
def test_a_public_domain_is_a_name_and_goes_with_a_public_url(environ: dict[str, str], said: str) -> None:
    assert said in problems(**environ)[0]


def test_a_public_domain_is_kept_in_its_one_form() -> None:
    environ = {
        "TENANTRY_PUBLIC_DOMAIN": "Claude.Agency.example.",
        "TENANTRY_PUBLIC_URL": "https://CLAUDE.agency.example",
    }
    found = load_settings(None, environ)
    assert (found.public_domain, found.public_host) == ("claude.agency.example", "claude.agency.example")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:3000"),  # noqa: S104 -- a setting, not bound
        ("::", "http://[::1]:3000"),
        ("::1", "http://[::1]:3000"),
        ("192.0.2.1", "http://192.0.2.1:3000"),
    ],
)
def test_where_no_public_url_is_set_it_is_where_the_gateway_is_reached_from_here(host: str, url: str) -> None:
    assert load_settings(None, {"TENANTRY_GATEWAY_HOST": host}).public_url == url
