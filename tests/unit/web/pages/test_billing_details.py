"""Who bills and who is billed, on pages: every mistake is said beside its field, and nothing typed is lost."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from starlette.applications import Starlette

from tenantry.control.site import Site
from tenantry.domain.billing_details import Details
from tenantry.domain.pictures import LOGO_BYTES_MAX
from tenantry.web.pages_base.forms import FILE_FORM_BYTES_MAX
from tests.browser import Answer, Browser, signed_in
from tests.unit.web.portal.test_pages import LOGO

PICTURE = base64.b64decode(LOGO.partition(",")[2])
WHOLE = {
    "name": "Agency GmbH",
    "address": "Street 1\r\nBerlin",
    "country": "de",
    "tax_id": "DE123456789",
    "currency": "eur",
    "rate": "0.92",
    "taxes": "VAT 19\r\nCity tax = 2.5 %",
    "locale": "de-de",
    "due_days": "30",
    "series": "AG-{year}-",
}


def send(browser: Browser, parts: list[tuple[str, str, bytes]], boundary: str = "mark'x") -> Answer:
    """As a browser sends a form with a file: field, file name ("": it is a text), content."""
    body = b""
    for name, file_name, content in [("csrf", "", browser.token.encode()), *parts]:
        told = f'; filename="{file_name}"\r\nContent-Type: image/png' if file_name else ""
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'.encode() + content + b"\r\n"
        )
    body += f"--{boundary}--\r\n".encode()
    told = {"accept": "text/html", "sec-fetch-site": "same-origin"}
    return browser.ask(
        "POST", "/billing/logo", told | {"content-type": f"multipart/form-data; boundary={boundary}"}, body
    )


def problem(answer: Answer, field: str) -> str:
    found = re.search(rf'<small id="h-{field}" class="bad"[^>]*>([^<]*)', answer.text)
    return found[1] if found is not None else ""


def test_the_agencys_details_are_kept_as_they_were_meant(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    assert browser.fill("/billing", WHOLE).status == 303
    kept = site.directory.billing_of("")
    assert (kept.address, kept.country, kept.currency, kept.locale) == ("Street 1\nBerlin", "DE", "EUR", "de_DE")
    assert kept.taxes == (("VAT", "19"), ("City tax", "2.5"))
    assert kept.due_days == 30
    shown = browser.get("/billing").text
    assert "Street 1\nBerlin</textarea>" in shown
    assert "City tax 2.5</textarea>" in shown
    assert browser.post("/billing", WHOLE | {"taxes": "none", "name": ""}).status == 303
    assert (site.directory.billing_of("").taxes, site.directory.billing_of("").name) == ((), None)


@pytest.mark.parametrize(
    ("field", "typed", "told"),
    [
        ("country", "Germany", "Country is a code such as DE"),
        ("currency", "EURO", "Currency is a code such as EUR"),
        ("currency", "XYZ", "There is no currency XYZ"),
        ("locale", "xx_XX", "There is no locale xx_XX"),
        ("rate", "-1", "Rate is how much of the currency"),
        ("rate", "", "EUR has no rate"),
        ("taxes", "VAT", "A text and a percent on each line"),
        ("taxes", "VAT 190", "A tax has a percent from 0 to 100"),
        ("due_days", "soon", "A number of days"),
        ("due_days", "999", "Days to pay is from 0 to 365"),
        ("series", "A{month}", "Series is letters"),
        ("name", "x" * 1001, "Name has at most 1000"),
        ("phone", "x" * 1001, "Phone has at most 1000"),
        ("city", "Ber\tlin", "City has at most 1000"),
    ],
)
def test_a_mistake_is_said_beside_its_field_and_nothing_is_lost(
    shared_app: Starlette, shared: Site, field: str, typed: str, told: str
) -> None:
    browser = signed_in(shared_app, shared)
    answer = browser.fill("/billing", WHOLE | {field: typed})
    assert answer.status == 422
    assert told.lower() in problem(answer, field).lower(), answer.shown
    for name, text in WHOLE.items():
        if name != field and "\n" not in text:
            assert f'value="{text}"' in answer.text, name
    assert shared.directory.billing_of("") == Details()


PARTS = {"street": "Yard 3\r\nStreet 1", "postcode": "10115", "city": "Berlin", "contact": "Ana", "phone": "030 1234"}


@pytest.mark.parametrize("path", ["/billing", "/tenants/acme/billing"])
def test_an_address_in_parts_and_whom_to_ask_are_kept_and_shown(app: Starlette, site: Site, path: str) -> None:
    browser = signed_in(app, site)
    assert browser.fill(path, PARTS).status == 303
    owner = "" if path == "/billing" else site.directory.get_tenant("acme").tenant_id
    kept = site.directory.billing_of(owner)
    assert (kept.street, kept.postcode, kept.city) == ("Yard 3\nStreet 1", "10115", "Berlin")
    assert (kept.contact, kept.phone) == ("Ana", "030 1234")
    shown = browser.get(path).text
    assert "Yard 3\nStreet 1</textarea>" in shown
    assert 'value="030 1234"' in shown
    assert browser.post(path, {"address": "Street 1"}).status == 303
    assert site.directory.billing_of(owner) == Details(address="Street 1"), "an address is what was said last"


@pytest.mark.parametrize("path", ["/billing", "/tenants/acme/billing"])
def test_an_address_in_lines_and_in_parts_at_once_is_refused_beside_its_field(
    shared_app: Starlette, shared: Site, path: str
) -> None:
    browser = signed_in(shared_app, shared)
    answer = browser.fill(path, PARTS | {"address": "Street 2"})
    assert answer.status == 422
    assert "in lines or in parts, not in both" in problem(answer, "address")
    assert "Yard 3" in answer.text
    assert "Street 2</textarea>" in answer.text
    assert 'value="10115"' in answer.text


def test_a_client_has_what_the_agency_has_where_nothing_is_said(app: Starlette, site: Site) -> None:
    browser, tenant_id = signed_in(app, site), site.directory.get_tenant("acme").tenant_id
    browser.fill("/billing", WHOLE)
    fields = {"address": "Road 2", "purchase_order": "PO 7", "currency": "USD", "vat_category": "AE"}
    assert browser.fill("/tenants/acme/billing", fields).status == 303
    own = site.directory.billing_of(tenant_id)
    assert own == Details(address="Road 2", purchase_order="PO 7", currency="USD", vat_category="AE")
    shown = browser.get("/tenants/acme/billing").text
    assert 'placeholder="de_DE"' in shown
    assert '<option value="AE" selected>none: reverse charge</option>' in shown
    assert browser.post("/tenants/acme/billing", {"name": ""}).status == 303
    assert site.directory.billing_of(tenant_id) == Details(), "what is emptied is the agency's again"


def test_a_logo_is_set_checked_and_removed_and_details_stay(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    browser.fill("/billing", WHOLE)
    browser.get("/billing")
    assert send(browser, [("logo", "logo.png", PICTURE)]).status == 303
    assert site.directory.billing_of("").logo == LOGO
    assert LOGO in browser.get("/billing").text
    browser.post("/billing", WHOLE | {"name": "Other"})
    assert (site.directory.billing_of("").logo, site.directory.billing_of("").name) == (LOGO, "Other")
    assert send(browser, [("logo", "", b""), ("remove", "", b"yes")]).status == 303
    assert site.directory.billing_of("").logo is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "Choose a file."),
        (b"GIF89a", "It is no PNG, JPEG or SVG."),
        (PICTURE[:-20], "The PNG is cut off."),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "The SVG has what runs or moves"),
        (b"\x89PNG\r\n\x1a\n" + bytes(LOGO_BYTES_MAX), "A logo has 200 KB at most."),
    ],
)
def test_a_file_that_can_be_no_logo_is_refused_in_words(
    shared_app: Starlette, shared: Site, data: bytes, told: str
) -> None:
    browser = signed_in(shared_app, shared)
    browser.get("/billing")
    answer = send(browser, [("logo", "a.png", data)])
    assert answer.status == 422
    assert told in problem(answer, "logo")
    assert shared.directory.billing_of("").logo is None


def test_a_form_with_a_file_that_is_none_is_refused(shared_app: Starlette, shared: Site) -> None:
    browser = signed_in(shared_app, shared)
    browser.get("/billing")
    assert send(browser, [("logo", "a.png", bytes(FILE_FORM_BYTES_MAX))]).status == 413
    told: dict[str, Any] = {"accept": "text/html", "sec-fetch-site": "same-origin"}
    for kind, body in (
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=m", b"--m\r\nno head\r\n--m--"),
        ("multipart/form-data; boundary=m", b""),
        ("multipart/form-data; boundary=m", b"--m\r\n" * 50 + b"--m--"),
    ):
        assert browser.ask("POST", "/billing/logo", told | {"content-type": kind}, body).status == 400, (kind, body)
    assert (
        browser.ask("POST", "/billing", told | {"content-type": "multipart/form-data; boundary=m"}, b"x").status == 415
    )


def test_a_file_may_have_line_ends_and_what_looks_like_a_mark(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    browser.get("/billing")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg">\r\n<desc>--mark</desc>\r\n\n</svg>\r\n'
    assert send(browser, [("logo", "l.svg", svg)]).status == 303
    assert base64.b64decode((site.directory.billing_of("").logo or "").partition(",")[2]) == svg
