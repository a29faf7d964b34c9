"""A TLS proxy in front is believed where the settings name its address, and nobody else is."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tenantry.web.proxies import Proxies
from tests.browser import Browser

NETWORKS = (ip_network("10.0.0.0/24"), ip_network("::1/128"))


async def _seen(request: Request) -> JSONResponse:
    client = request.client
    headers = {name: value for name, value in request.headers.items() if name.startswith(("x-", "forwarded"))}
    return JSONResponse([client.host if client else "", request.url.scheme, request.headers["host"], headers])


def seen(address: str, **headers: str) -> list[Any]:
    app = Starlette(routes=[Route("/", _seen)], middleware=[Middleware(Proxies, networks=NETWORKS)])
    browser = Browser(app, host="inside:1", address=address)
    answer = browser.ask("GET", "/", headers)
    found: list[Any] = json.loads(answer.body)
    return found


def test_a_proxy_says_who_asks_and_how() -> None:
    told = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https", "x-forwarded-host": "control.example"}
    assert seen("10.0.0.7", **told) == ["203.0.113.9", "https", "control.example", {}]
    assert seen("::1", **told)[0] == "203.0.113.9"


@pytest.mark.parametrize("address", ["10.0.1.7", "127.0.0.1", "203.0.113.1", "::2", "not an address"])
def test_nobody_else_chooses_who_they_are(address: str) -> None:
    told = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https", "x-forwarded-host": "control.example"}
    told |= {"forwarded": "for=203.0.113.9;proto=https", "x-real-ip": "203.0.113.9"}
    assert seen(address, **told) == [address, "http", "inside:1", {}]


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.0.0.8", "203.0.113.9"),
        ("10.0.0.8", "10.0.0.7"),
        ("203.0.113.9, unknown", "10.0.0.7"),
        ("", "10.0.0.7"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_last_address_that_is_no_proxy_counts(chain: str, address: str) -> None:
    assert seen("10.0.0.7", **{"x-forwarded-for": chain})[0] == address


@pytest.mark.parametrize("protocol", ["ftp", "https,http", "", "https; x"])
def test_a_protocol_that_is_none_changes_nothing(protocol: str) -> None:
    assert seen("10.0.0.7", **{"x-forwarded-proto": protocol})[1] == "http"
