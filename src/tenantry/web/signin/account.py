"""/account: somebody's own password, second factor and sessions."""

from __future__ import annotations

import io
from typing import Final

import segno
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.people import totp
from tenantry.control.people.signing_in import SigningIn
from tenantry.domain.people import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, BadPassword, Person
from tenantry.domain.roles import Principal
from tenantry.storage.columns import now_utc
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import SITE_NAME, render, see_other
from tenantry.web.pages_base.routing import form, page
from tenantry.web.pages_base.words import sentence
from tenantry.web.signin.entering import enter, signing_in
from tenantry.web.signin.sessions import acting, require_recent, session_of
from tenantry.web.signin.visits import Guessing
from tenantry.web.tokens import site_of

ACCOUNT: Final = "/account"
SECOND: Final = "/account/totp"


def account_routes() -> list[Route]:
    return [
        page(ACCOUNT, _account, None),
        form("/account/password", _change_password, None),
        form("/account/sessions", _end_sessions, None),
        page(SECOND, _second_page, None),
        form(f"{SECOND}/new", _new_second, None, is_dangerous=True),
        form(SECOND, _confirm_second, None),
        form(f"{SECOND}/off", _drop_second, None, is_dangerous=True),
        form("/account/recovery", _renew_codes, None, is_dangerous=True),
    ]


def _account(request: Request, _principal: Principal) -> Response:
    return _shown(request, None)


def _shown(request: Request, refused: str | None) -> Response:
    session, directory = session_of(request), site_of(request).directory
    return render(
        request,
        "signin/account.html.j2",
        200 if refused is None else 422,
        refused=refused,
        person=session.person,
        session=session,
        sessions=directory.list_sessions(session.person),
        codes_left=directory.count_recovery_codes(session.person),
        chars_min=PASSWORD_CHARS_MIN,
        chars_max=PASSWORD_CHARS_MAX,
        now=now_utc(),
    )


def _change_password(request: Request, principal: Principal) -> Response:
    """A new one, by who knows the old one. Whoever else is signed in as this person is not any more."""
    told, person = posted(request), session_of(request).person
    guessing = Guessing(request, person.name)
    guessing.take()
    if person.has_password and not signing_in(request).is_password_of(person, told.raw("current")):
        guessing.was_wrong("a wrong password, to change it")
        return _shown(request, "The password that you have is another one.")
    guessing.was_right()
    if not person.has_password:
        require_recent(request)
    try:
        hashed = signing_in(request).new_hash(told.raw("password"), told.raw("again"), person.name)
    except BadPassword as error:
        return _shown(request, sentence(error))
    acting(request, principal).change_password(person.name, hashed)
    return enter(
        request,
        person,
        session_of(request).way,
        ACCOUNT,
        is_proved=True,
        notice="Your password is changed. Every other session has ended.",
    )


def _end_sessions(request: Request, principal: Principal) -> Response:
    session, directory, ended = session_of(request), acting(request, principal), posted(request).get("session")
    if ended == "others":
        directory.end_sessions(session.person, but=session.session_id)
        return see_other(ACCOUNT, "Every other session has ended.")
    directory.end_session(session.person, ended)
    return see_other(ACCOUNT, "The session has ended.")


def _second_page(request: Request, _principal: Principal) -> Response:
    person = session_of(request).person
    secret = site_of(request).directory.second_factor_of(person.person_id, is_confirmed=False)
    if secret is None:
        return see_other(ACCOUNT)
    return _second_shown(request, person, secret, None)


def _second_shown(request: Request, person: Person, secret: str, refused: str | None) -> Response:
    address = totp.address_of(secret, person.name, SITE_NAME)
    return render(
        request,
        "signin/totp_new.html.j2",
        200 if refused is None else 422,
        refused=refused,
        picture=_picture(address),
        secret=" ".join(secret[at : at + 4] for at in range(0, len(secret), 4)),
        address=address,
    )


def _picture(text: str) -> Markup:
    """A QR code as SVG whose looks are attributes: a style sheet within it would be refused by the browser."""
    out = io.BytesIO()
    segno.make(text, error="m").save(
        out, kind="svg", xmldecl=False, svgns=True, svgclass=None, lineclass=None, omitsize=True
    )
    return Markup(out.getvalue().decode())  # noqa: S704 -- made by segno of paths alone


def _new_second(request: Request, principal: Principal) -> Response:
    person = session_of(request).person
    if person.has_second_factor:
        return see_other(ACCOUNT, "The second factor is on already.")
    acting(request, principal).new_second_factor(person, totp.new_secret())
    return see_other(SECOND)


def _confirm_second(request: Request, principal: Principal) -> Response:
    person, directory = session_of(request).person, acting(request, principal)
    secret = directory.second_factor_of(person.person_id, is_confirmed=False)
    if secret is None:
        return see_other(ACCOUNT)
    if not SigningIn(directory, request.app.state.passwords).by_code(
        person, posted(request).get("code"), is_confirmed=False
    ):
        return _second_shown(request, person, secret, "This is not the code of this moment. Try the next one.")
    codes = directory.confirm_second_factor(person)
    directory.end_sessions(person, but=session_of(request).session_id)
    return render(request, "signin/codes.html.j2", codes=codes, is_new=True)


def _drop_second(request: Request, principal: Principal) -> Response:
    acting(request, principal).drop_second_factor(session_of(request).person)
    return see_other(ACCOUNT, "The second factor is off.")


def _renew_codes(request: Request, principal: Principal) -> Response:
    person = session_of(request).person
    if not person.has_second_factor:
        return see_other(ACCOUNT, "Recovery codes are for who has a second factor.")
    return render(
        request, "signin/codes.html.j2", codes=acting(request, principal).renew_recovery_codes(person), is_new=False
    )
