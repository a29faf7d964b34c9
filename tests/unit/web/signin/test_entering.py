"""In and out: passwords, codes, sessions, as a browser sees them."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update
from starlette.applications import Starlette

from tenantry.control.people import totp
from tenantry.control.people.passwords import Passwords
from tenantry.control.site import Site
from tenantry.domain.people import IDLE_HOURS, PROOF_MINUTES, SECOND_MINUTES, SESSION_DAYS, Person
from tenantry.domain.roles import Role
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.sign_ins import SESSIONS_MAX
from tenantry.storage.people_tables import people_sessions
from tenantry.web.app import control_app
from tenantry.web.signin.throttle import NAME_GUESSES
from tests.browser import Answer, Browser, add_person, signed_in

PASSWORD = "correct horse battery"
INSIDE = "/account"


def ana(app: Starlette, site: Site) -> Person:
    passwords: Passwords = app.state.passwords
    return add_person(site, hashed=passwords.hash(PASSWORD))


def enter(browser: Browser, password: str = PASSWORD, name: str = "ana", target: str = "/") -> Answer:
    return browser.fill("/signin", {"name": name, "password": password, "next": target})


def with_second_factor(site: Site, person: Person) -> str:
    secret = totp.new_secret()
    site.directory.new_second_factor(person, secret)
    site.directory.confirm_second_factor(person)
    return secret


def code_of(secret: str, later: int = 0) -> str:
    return totp.code_at(secret, totp.step_at(time.time()) + later)


def test_whoever_knows_the_password_goes_on_where_they_wanted_to(app: Starlette, site: Site) -> None:
    ana(app, site)
    browser = Browser(app)
    answer = browser.get("/account?x=1")
    assert (answer.status, answer.location) == (303, "/signin?next=/account%3Fx%3D1")
    page = browser.follow(answer)
    assert 'value="/account?x=1"' in page.text
    answer = enter(browser, name=" ANA ", target="/account?x=1")
    assert (answer.status, answer.location) == (303, "/account?x=1")
    assert browser.get(INSIDE).status == 200


def test_unknown_name_wrong_password_and_disabled_are_told_alike(app: Starlette, site: Site) -> None:
    ana(app, site)
    add_person(site, "ben", Role.VIEWER, hashed=app.state.passwords.hash(PASSWORD))
    site.directory.disable_person("ben")
    site.directory.invite_person("cleo", Role.VIEWER)
    told = [
        enter(Browser(app), password, name)
        for name, password in (
            ("ana", "another"),
            ("nobody", PASSWORD),
            ("ben", PASSWORD),
            ("cleo", PASSWORD),
            ("", ""),
        )
    ]
    assert {one.status for one in told} == {422}
    assert all("The name or the password is wrong." in one.shown for one in told)
    assert not any("tenantry=" in cookie for one in told for cookie in one.cookies_set)
    refused = [row for row in site.directory.list_audit() if row.action == "person.refused"]
    assert {row.subject for row in refused} <= {"ana", "nobody", "ben", "cleo", "*"}
    assert not any("another" in str(row.detail) or PASSWORD in str(row.detail) for row in refused)


def test_a_password_is_the_same_on_every_keyboard(app: Starlette, site: Site) -> None:
    add_person(site, hashed=app.state.passwords.hash("caf\u00e9 au lait 12"))
    assert enter(Browser(app), "cafe\u0301 au lait 12").status == 303
    assert enter(Browser(app), " caf\u00e9 au lait 12").status == 422


def test_a_password_of_other_parameters_is_hashed_anew_when_it_is_next_used(app: Starlette, site: Site) -> None:
    person = add_person(site, hashed=Passwords(memory_kib=128, passes=2).hash(PASSWORD))
    before = site.directory.password_hash_of(person.person_id)
    assert enter(Browser(app)).status == 303
    after = site.directory.password_hash_of(person.person_id)
    assert before != after
    assert after is not None
    assert "m=64,t=1" in after
    assert enter(Browser(app)).status == 303


def test_guesses_run_out_for_a_name_whatever_addresses_they_come_from(app: Starlette, site: Site) -> None:
    ana(app, site)
    home = Browser(app, address="192.0.2.1")
    assert enter(home).status == 303
    for guess in range(NAME_GUESSES):
        assert enter(Browser(app, address=f"198.51.100.{guess}"), "wrong").status == 422
    for address in ("203.0.113.1", "2001:db8::1"):
        answer = enter(Browser(app, address=address))
        assert answer.status == 429
        assert answer.header("retry-after")
        assert "try again in" in answer.shown
    assert enter(Browser(app, address="192.0.2.1")).status == 303, "its owner is not locked out where she is known"


def test_no_name_can_be_made_up_that_uses_the_guesses_of_another_one(app: Starlette, site: Site) -> None:
    ana(app, site)
    home = Browser(app, address="192.0.2.1")
    assert enter(home).status == 303
    home.cookies.clear()
    names = ("ana at 192.0.2.1", "at 192.0.2.1 ana", "192.0.2.1 as ana", "192.0.2.1 ana")
    for number, name in enumerate(names * NAME_GUESSES):
        enter(Browser(app, address=f"198.51.100.{number}"), "wrong", name)
    for guess in range(NAME_GUESSES):
        assert enter(Browser(app, address=f"203.0.113.{guess}"), "wrong").status == 422
    assert enter(Browser(app, address="192.0.2.1")).status == 303, "nobody but her has used what she has at home"


def test_guesses_run_out_for_an_address_whatever_names_it_tries(app: Starlette, site: Site) -> None:
    ana(app, site)
    statuses = [enter(Browser(app), "wrong", f"name{number}").status for number in range(12)]
    assert statuses[:10] == [422] * 10
    assert statuses[-1] == 429
    assert enter(Browser(app, address="198.51.100.1")).status == 303


def test_a_session_that_was_planted_is_not_the_one_that_is_signed_in(app: Starlette, site: Site) -> None:
    """Fixation: whoever set the cookie before knows nothing of the session afterwards."""
    ana(app, site)
    mallory = signed_in(app, site, add_person(site, "mallory", Role.VIEWER))
    planted = mallory.cookies["tenantry"]
    victim = Browser(app)
    victim.get("/signin")
    victim.cookies["tenantry"] = planted
    assert victim.post("/signin", {"name": "ana", "password": PASSWORD}).status == 303
    assert victim.cookies["tenantry"] != planted
    assert mallory.get(INSIDE).status == 303
    unknown = Browser(app, cookies={"tenantry": "made-up-by-somebody"})
    enter(unknown)
    assert unknown.cookies["tenantry"] != "made-up-by-somebody"


@pytest.mark.parametrize(
    ("scheme", "host", "name"), [("http", "127.0.0.1:3001", "tenantry"), ("https", "localhost", "__Host-tenantry")]
)
def test_the_cookie_is_for_this_host_and_out_of_reach_of_scripts(
    app: Starlette, site: Site, scheme: str, host: str, name: str
) -> None:
    ana(app, site)
    answer = enter(Browser(app, scheme=scheme, host=host))
    (cookie,) = [one for one in answer.cookies_set if one.startswith(f"{name}=")]
    flags = {one.strip().lower() for one in cookie.split(";")[1:]}
    assert flags == {"httponly", "path=/", "samesite=lax"} | ({"secure"} if scheme == "https" else set())
    assert len(cookie.split(";")[0].partition("=")[2]) >= 43, "256 bits"


def test_nobody_signs_in_over_a_network_without_tls(site: Site, app: Starlette) -> None:
    named = replace(site, settings=replace(site.settings, control_hosts=("control.agency.example",)))
    browser = Browser(control_app(named), host="control.agency.example")
    for path in ("/signin", "/welcome", "/account"):
        answer = browser.get(path)
        assert answer.status == 403
        assert "control_tls_proxy" in answer.shown
    assert not browser.cookies


def test_only_a_digest_of_a_session_is_stored(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    with site.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM people_sessions").all()
    assert len(rows) == 1
    assert browser.cookies["tenantry"] not in repr(rows)


@pytest.mark.parametrize(
    ("column", "age"),
    [("seen_at", timedelta(hours=IDLE_HOURS, seconds=1)), ("created_at", timedelta(days=SESSION_DAYS, seconds=1))],
)
def test_a_session_ends_when_it_is_idle_and_for_good(app: Starlette, site: Site, column: str, age: timedelta) -> None:
    browser = signed_in(app, site)
    assert browser.get(INSIDE).status == 200
    age_session(site, column, age - timedelta(minutes=1))
    assert browser.get(INSIDE).status == 200
    age_session(site, column, age)
    assert browser.get(INSIDE).status == 303


def age_session(site: Site, column: str, age: timedelta) -> None:
    with site.engine.begin() as connection:
        connection.execute(update(people_sessions).values({column: now_utc() - age}))


def test_signing_out_ends_the_session_itself(app: Starlette, site: Site) -> None:
    browser = signed_in(app, site)
    kept = dict(browser.cookies)
    assert browser.post("/signout").location == "/signin"
    assert "tenantry" not in browser.cookies
    assert Browser(app, cookies=kept).get(INSIDE).status == 303


def test_somebody_has_so_many_sessions_and_no_more(app: Starlette, site: Site) -> None:
    first = signed_in(app, site)
    for _ in range(SESSIONS_MAX):
        last = signed_in(app, site)
    assert first.get(INSIDE).status == 303
    assert last.get(INSIDE).status == 200


def test_a_second_factor_is_asked_for_before_anything_opens(app: Starlette, site: Site) -> None:
    secret = with_second_factor(site, ana(app, site))
    browser = Browser(app)
    answer = enter(browser, target="/people")
    assert answer.location == "/signin/totp?next=/people"
    half = dict(browser.cookies)
    assert browser.get(INSIDE).status == 303, "the password alone opens nothing"
    browser.get("/signin/totp?next=/people")
    assert browser.post("/signin/totp", {"code": "000000"}).status == 422
    code = code_of(secret)
    answer = browser.post("/signin/totp", {"code": f"{code[:3]} {code[3:]}", "next": "/people"})
    assert (answer.status, answer.location) == (303, "/people")
    assert browser.get(INSIDE).status == 200
    assert browser.cookies["tenantry"] != half["tenantry"]
    assert Browser(app, cookies=half).get("/signin/totp").status == 303, "the half session is used up"


def test_a_code_works_once(app: Starlette, site: Site) -> None:
    secret = with_second_factor(site, ana(app, site))
    code = code_of(secret)
    for expected in (303, 422):
        browser = Browser(app)
        enter(browser)
        browser.get("/signin/totp")
        assert browser.post("/signin/totp", {"code": code}).status == expected
    browser.get("/signin/totp")
    assert browser.post("/signin/totp", {"code": code_of(secret, -1)}).status == 422, "nor does one before it"
    browser.get("/signin/totp")
    assert browser.post("/signin/totp", {"code": code_of(secret, 1)}).status == 303


def test_a_recovery_code_works_once_and_is_counted(app: Starlette, site: Site) -> None:
    person = ana(app, site)
    with_second_factor(site, person)
    codes = site.directory.renew_recovery_codes(person)
    assert len(set(codes)) == 10
    for expected in (303, 422):
        browser = Browser(app)
        enter(browser)
        browser.get("/signin/totp")
        assert browser.post("/signin/totp", {"code": codes[0].upper()}).status == expected
    assert site.directory.count_recovery_codes(person) == 9
    with site.engine.connect() as connection:
        kept = repr(connection.exec_driver_sql("SELECT * FROM people_recovery").all())
    assert not any(code in kept for code in codes)


def test_who_waits_too_long_with_the_code_begins_again(app: Starlette, site: Site) -> None:
    secret = with_second_factor(site, ana(app, site))
    browser = Browser(app)
    enter(browser)
    browser.get("/signin/totp")
    age_session(site, "created_at", timedelta(minutes=SECOND_MINUTES, seconds=1))
    assert browser.post("/signin/totp", {"code": code_of(secret)}).location == "/signin"


def test_guesses_at_codes_run_out(app: Starlette, site: Site) -> None:
    with_second_factor(site, ana(app, site))
    browser = Browser(app, address="198.51.100.7")
    enter(browser)
    browser.get("/signin/totp")
    statuses = [browser.post("/signin/totp", {"code": f"00000{number % 10}"}).status for number in range(14)]
    assert statuses[-1] == 429
    assert statuses.count(422) <= 11


def test_whoever_has_the_password_alone_guesses_at_codes_within_what_the_name_has(app: Starlette, site: Site) -> None:
    """From however many addresses: a right password does not make an address known."""
    with_second_factor(site, ana(app, site))
    statuses: list[int] = []
    for number in range(NAME_GUESSES + 3):
        browser = Browser(app, address=f"198.51.100.{number}")
        if enter(browser).status == 303:
            browser.get("/signin/totp")
            statuses.append(browser.post("/signin/totp", {"code": "12345"}).status)
    assert statuses == [422] * NAME_GUESSES


def test_links_and_answers_that_do_not_work_lock_nobody_else_out(app: Starlette, site: Site) -> None:
    for number in range(15):
        browser = Browser(app, address=f"198.51.100.{number}")
        browser.get("/signin")
        assert browser.post("/welcome", {"link": "x"}).status == 410


def test_what_is_dangerous_asks_for_the_password_again_after_a_while(app: Starlette, site: Site) -> None:
    ana(app, site)
    browser = Browser(app)
    enter(browser)
    browser.get("/account")
    assert browser.post("/account/totp/new").location == "/account/totp"
    age_session(site, "proved_at", timedelta(minutes=PROOF_MINUTES, seconds=1))
    answer = browser.post("/account/totp/new", {"page": "/account"})
    assert answer.location == "/signin/again?next=/account"
    browser.follow(answer)
    assert browser.post("/signin/again", {"password": "wrong", "next": "/account"}).status == 422
    answer = browser.post("/signin/again", {"password": PASSWORD, "next": "/account"})
    assert answer.location == "/account"
    assert "now do it once more" in browser.follow(answer).shown
    assert "now do it once more" not in browser.get("/account").shown, "a notice is shown once"
    assert browser.post("/account/totp/new").location == "/account/totp"


def test_what_htmx_asks_for_is_led_to_the_sign_in_as_a_whole_page(app: Starlette) -> None:
    answer = Browser(app).ask("GET", "/account", {"hx-request": "true"})
    assert (answer.status, answer.header("hx-redirect")) == (401, "/signin?next=/account")


def test_a_tampered_or_missing_cookie_opens_nothing(app: Starlette, site: Site) -> None:
    known = signed_in(app, site).cookies["tenantry"]
    for text in ("", known[:-1], known + "x", known.swapcase(), "\xff" * 10, "x" * 5000):
        assert Browser(app, cookies={"tenantry": text}).get(INSIDE).status == 303, text


def test_blanks_and_capitals_do_not_make_the_guesses_at_a_name_somebody_elses(app: Starlette, site: Site) -> None:
    """What is cut off behind the longest name leaves blanks; the search for it passes over those, and over capitals."""
    ana(app, site)
    statuses: list[int] = []
    for number in range(NAME_GUESSES + 3):
        name = ("ana", "Ana", "aNA")[number % 3] + "\t" * number + " " * (61 - number) + "x"
        statuses.append(enter(Browser(app, address=f"198.51.100.{number}"), "wrong", name).status)
    assert statuses == [422] * NAME_GUESSES + [429] * 3
