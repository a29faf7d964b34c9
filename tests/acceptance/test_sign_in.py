"""Signing in to a real control process, over TLS of its own and through a declared proxy."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenantry.control.people.links import first_link
from tenantry.control.site import Site, open_site
from tenantry.settings import load_settings
from tests.authority import Authority
from tests.spawner import spawn
from tests.stack import free_ports, listens, wait_for
from tests.template import init_from_template

PASSWORD = "correct horse battery"


@contextmanager
def control(folder: Path, **values: str) -> Iterator[Site]:
    """A control process, and the site that it serves."""
    (port,) = free_ports(1)
    named = {"data_dir": str(folder / "site"), "control_port": str(port)} | values
    environ = {f"TENANTRY_{name.upper()}": value for name, value in named.items()}
    settings = load_settings(None, environ)
    init_from_template(settings)
    site = open_site(settings)
    with (folder / "log").open("ab") as out:
        process = spawn("control", env=os.environ | environ, cwd=folder, stdout=out, stderr=out)
    try:
        wait_for(lambda: listens(port), 60, "control")
        yield site
    finally:
        process.terminate()
        process.wait(40)
        site.engine.dispose()


def link_to_begin(site: Site) -> str:
    link = first_link(site)
    assert link is not None
    return link


def begin(connection: http.client.HTTPConnection, link: str, headers: dict[str, str]) -> tuple[str, str]:
    """Follows the one-time link; the cookie that it gives, and where it leads."""
    parts = urllib.parse.urlsplit(link)
    connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
    page = connection.getresponse()
    text, visit = page.read().decode(), (page.headers["set-cookie"] or "").partition(";")[0]
    assert page.status == 200, text
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', text)
    assert token is not None
    form = {
        "csrf": token[1],
        "link": parts.query.partition("=")[2],
        "name": "ana",
        "password": PASSWORD,
        "again": PASSWORD,
    }
    own = {"cookie": visit, "content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
    connection.request("POST", "/welcome", urllib.parse.urlencode(form), headers | own)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 303
    return answer.headers["set-cookie"] or "", answer.headers["location"] or ""


def test_control_is_served_over_tls_of_its_own_whose_certificate_is_renewed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert_file, key_file = authority.issue("control", "localhost")
    own = {"control_tls_certificate": str(cert_file), "control_tls_key": str(key_file)}
    with control(tmp_path, control_url="https://localhost", **own) as site:
        port = site.settings.control_port
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=60)
        link = link_to_begin(site)
        assert link.startswith("https://localhost/welcome?link=")
        cookie, place = begin(connection, link, {"accept": "text/html"})
        assert cookie.startswith("__Host-tenantry=")
        assert "; Secure" in cookie
        connection.request("GET", place, headers={"accept": "text/html", "cookie": cookie.partition(";")[0]})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["strict-transport-security"]
        assert b"ana" in answer.read()
        connection.close()
        before = ssl.get_server_certificate(("localhost", port))
        authority.issue("control", "localhost")
        wait_for(lambda: ssl.get_server_certificate(("localhost", port)) != before, 60, "the new certificate")
        token = link.partition("=")[2]
        assert token not in (tmp_path / "log").read_text()
        for path in (tmp_path / "site").rglob("*"):
            assert not path.is_file() or token.encode() not in path.read_bytes(), path


def test_behind_a_declared_proxy_people_sign_in_as_over_tls(tmp_path: Path) -> None:
    url = "https://control.agency.example"
    with control(tmp_path, control_url=url, control_tls_proxy="127.0.0.1") as site:
        connection = http.client.HTTPConnection("127.0.0.1", site.settings.control_port, timeout=60)
        told = {"host": "control.agency.example", "x-forwarded-for": "203.0.113.9", "accept": "text/html"}
        connection.request("GET", "/signin", headers=told)
        answer = connection.getresponse()
        assert (answer.status, b"control_tls_proxy" in answer.read()) == (403, True), "the proxy says nothing of TLS"
        cookie, _ = begin(connection, link_to_begin(site), told | {"x-forwarded-proto": "https"})
        assert cookie.startswith("__Host-tenantry=")
        connection.close()
        assert {row.origin for row in site.directory.list_audit() if row.actor == "web:ana"} == {"203.0.113.9"}
