"""The client of the admin API: what it does with answers that do not come, and how it tells what went wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tenantry.app import Processes
from tenantry.cli.main import build_cli
from tenantry.cli.remote.api import TRIES_MAX, Api, ServerFailed
from tenantry.cli.remote.server import Named, read_server
from tests.stack import free_ports
from tests.unit.cli.remote.control import answering, listening
from tests.unit.web.api_site import OWNER, Served, served

PROBLEM = "application/problem+json"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as found:
        yield found


OPENED: list[Api] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def api_at(url: str, token: str = OWNER, waits: list[float] | None = None) -> Api:
    found = read_server(Named(url), {"TENANTRY_ADMIN_TOKEN": token})
    OPENED.append(Api(found, (waits if waits is not None else []).append))
    return OPENED[-1]


def answer(request: BaseHTTPRequestHandler, status: int, body: object, media: str = PROBLEM, **fields: str) -> None:
    raw = json.dumps(body).encode()
    request.send_response(status)
    for name, text in {"content-type": media, "content-length": str(len(raw)), **fields}.items():
        request.send_header(name.replace("_", "-"), text)
    request.end_headers()
    request.wfile.write(raw)


def test_a_write_that_lost_its_answer_is_done_once_and_answered(site: Served) -> None:
    """A proxy in between loses the first answer, when the thing is done."""
    keys: list[str] = []
    with listening(site):

        def lose_the_first(request: BaseHTTPRequestHandler) -> None:
            keys.append(request.headers["idempotency-key"])
            body = json.loads(request.rfile.read(int(request.headers["content-length"])))
            fields = {"idempotency-key": keys[-1]}
            done = site.ask("POST", "/tenants/acme/keys", body, fields=fields)
            if len(keys) == 1:
                request.connection.shutdown(socket.SHUT_RDWR)
            else:
                answer(request, done.status, done.document, "application/json")

        with answering(lose_the_first) as url:
            made = api_at(url).write("POST", "tenants", "acme", "keys", body={"label": "once"})
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert [row.key_id for row in site.site.directory.list_keys("acme") if row.label == "once"] == [made["key_id"]]


def test_two_writes_have_two_idempotency_keys() -> None:
    keys: list[str] = []

    def note(request: BaseHTTPRequestHandler) -> None:
        keys.append(request.headers["idempotency-key"])
        request.rfile.read(int(request.headers["content-length"]))
        answer(request, 200, {}, "application/json")

    with answering(note) as url:
        api = api_at(url)
        api.write("POST", "backups")
        api.write("POST", "backups")
        api.close()
    assert len(set(keys)) == 2


@pytest.mark.parametrize("status", [409, 503])
def test_what_is_under_way_or_busy_is_asked_for_again_as_late_as_it_says(status: int) -> None:
    count = 0
    waits: list[float] = []

    def be_busy_first(request: BaseHTTPRequestHandler) -> None:
        nonlocal count
        count += 1
        if count == 1:
            answer(request, status, {"detail": "ask again"}, retry_after="2")
        else:
            answer(request, 200, {"done": True}, "application/json")

    with answering(be_busy_first) as url:
        assert api_at(url, waits=waits).write("POST", "exports") == {"done": True}
    assert waits == [2.0]


def test_when_no_answer_ever_comes_a_write_says_that_nobody_knows() -> None:
    count = 0

    def hang_up(request: BaseHTTPRequestHandler) -> None:
        nonlocal count
        count += 1
        request.connection.shutdown(socket.SHUT_RDWR)

    with answering(hang_up) as url:
        with pytest.raises(ServerFailed, match="whether it was done is not known: look before you repeat it"):
            api_at(url).write("POST", "tenants", "acme", "disable")
        assert count == TRIES_MAX
        with pytest.raises(ServerFailed) as told:
            api_at(url).get("tenants")
    assert "not known" not in str(told.value)


def test_a_list_is_followed_to_its_last_page(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        site.site.directory.issue_key("acme", f"number {number}")
    monkeypatch.setattr("tenantry.cli.remote.api.PAGE_MAX", 2)
    with listening(site) as url:
        found = api_at(url).items("keys")
    assert [one["key_id"] for one in found] == [row.key_id for row in site.site.directory.list_keys()]


TOLD: dict[str, tuple[int, Any, str, str]] = {
    "an unknown token": (401, {"detail": "x"}, PROBLEM, "does not know this admin token"),
    "a role that may not": (403, {"detail": "owner may not"}, PROBLEM, "^owner may not$"),
    "an older control": (404, {"detail": "Not Found"}, PROBLEM, "may be older than this command"),
    "what has changed": (412, {"detail": "it is not what you have seen"}, PROBLEM, "^it is not what you have seen$"),
    "guesses": (429, {"detail": "too many wrong admin tokens: try again in 9 s"}, PROBLEM, "try again in 9 s"),
    "another server": (500, "<html>", "text/html", "is this its address"),
    "a page": (200, "<html>", "text/html", "did not answer as control does"),
    "elsewhere": (302, "", "text/html", "name the address of control itself"),
}


@pytest.mark.parametrize("what", TOLD)
def test_what_went_wrong_is_told_in_plain_words(what: str) -> None:
    status, body, media, words = TOLD[what]
    with (
        answering(lambda request: answer(request, status, body, media)) as url,
        pytest.raises(ServerFailed, match=words),
    ):
        api_at(url).get("tenants")


def test_a_control_that_is_not_there_is_told_at_once() -> None:
    waits: list[float] = []
    (port,) = free_ports(1)
    with pytest.raises(ServerFailed, match="Connection refused; is control running"):
        api_at(f"http://127.0.0.1:{port}", waits=waits).get("tenants")
    assert waits == []


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_no_name_leads_to_another_path(name: str) -> None:
    with pytest.raises(ServerFailed, match="names nothing"):
        api_at("http://127.0.0.1:9").get("tenants", name, "keys")


UNUSABLE = {
    "http://control.agency.example": "goes there over https:// only",
    "ftp://127.0.0.1": "--server is an address such as",
    "control.agency.example": "--server is an address such as",
    "https://owner:secret@control.agency.example": "takes no name and no password",
    "https://control.agency.example/?x=1": "--server is an address such as",
    "https://control.agency.example:x": "--server is an address such as",
    "https://con trol.example": "--server is an address such as",
}


@pytest.mark.parametrize("url", UNUSABLE)
def test_an_address_that_cannot_be_is_wrong_usage(url: str) -> None:
    done = run("tenants list", TENANTRY_SERVER=url, TENANTRY_ADMIN_TOKEN=OWNER)
    assert done.exit_code == 2
    assert UNUSABLE[url] in done.stderr
    assert "secret" not in done.stderr


def test_without_a_token_it_is_said_where_one_is_looked_for() -> None:
    done = run("tenants list", TENANTRY_SERVER="http://127.0.0.1:9")
    assert done.exit_code == 2
    assert "TENANTRY_ADMIN_TOKEN" in done.stderr


def test_a_file_with_the_token_has_to_be_private(site: Served, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{OWNER}\n")
    with listening(site) as url:
        environ = {"TENANTRY_SERVER": url, "TENANTRY_ADMIN_TOKEN_FILE": str(file)}
        file.chmod(0o640)
        refused = run("tenants list", **environ)
        file.chmod(0o600)
        taken = run("tenants list", **environ)
    assert refused.exit_code == 2
    assert "others can read it" in refused.stderr
    assert taken.exit_code == 0, taken.output


def test_a_keyring_has_the_token_under_the_address(
    site: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keyring.py").write_text(
        f"def get_password(service, name):\n    return {OWNER!r} if service == 'tenantry' and name else None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with listening(site) as url:
        assert run("tenants list", TENANTRY_SERVER=url).exit_code == 0


def test_a_token_that_does_not_work_ends_with_1_and_is_not_told(site: Served) -> None:
    with listening(site) as url:
        done = run("tenants list", TENANTRY_SERVER=url, TENANTRY_ADMIN_TOKEN="tadm-of-nobody")
    assert done.exit_code == 1
    assert "does not know this admin token" in done.stderr
    assert "tadm-of-nobody" not in done.output


def run(command: str, **environ: str) -> Any:
    return CliRunner().invoke(build_cli(Processes()), command.split(), env=environ)
