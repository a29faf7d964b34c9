"""Codes as RFC 6238 has them."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from tenantry.control.people.totp import STEP_SECONDS, address_of, code_at, new_secret, step_at, step_of

# Of RFC 6238, appendix B, which tells eight digits: ours are the last six.
SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    assert code_at(SECRET, step_at(seconds)) == code[-6:]
    assert step_of(SECRET, code[-6:], seconds) == step_at(seconds)


def test_a_step_either_way_is_taken_and_no_other() -> None:
    now = 1111111111
    for off, is_taken in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        step = step_at(now) + off
        assert step_of(SECRET, code_at(SECRET, step), now) == (step if is_taken else None)


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "１２３４５６", "-12345", "0x1234"])
def test_what_is_no_code_is_of_no_step(code: str) -> None:
    assert step_of(SECRET, code, 59) is None


def test_an_app_reads_secret_and_name_from_the_address() -> None:
    secret = new_secret()
    assert len(base64.b32decode(secret)) == 20
    assert secret != new_secret()
    parts = urlsplit(address_of(secret, "ana@agency.example", "Tenantry"))
    assert (parts.scheme, parts.netloc, parts.path) == ("otpauth", "totp", "/Tenantry%3Aana%40agency.example")
    assert parse_qs(parts.query) == {
        "secret": [secret],
        "issuer": ["Tenantry"],
        "digits": ["6"],
        "period": [str(STEP_SECONDS)],
    }
