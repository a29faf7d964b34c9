"""/signin, /signin/totp, /signin/again, /signout: in and out."""

from __future__ import annotations

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.people.provider import Provider
from tenantry.control.people.signing_in import SigningIn
from tenantry.domain.people import Person, Session
from tenantry.domain.roles import Principal
from tenantry.storage.directory import Directory
from tenantry.storage.directory.sign_ins import FULL, SECOND
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import render, see_other
from tenantry.web.pages_base.routing import form, page
from tenantry.web.signin.cookies import SESSION, cookie_of, drop_cookie, set_cookie
from tenantry.web.signin.places import own_path, with_next
from tenantry.web.signin.sessions import SIGN_IN, SIGN_IN_AGAIN, acting, session_of
from tenantry.web.signin.visits import Guessing, open_form, open_page, refuse
from tenantry.web.tokens import address_of, site_of

TOTP: Final = "/signin/totp"
SIGN_OUT: Final = "/signout"
# Through the provider (`through.py`), at first and once more.
THROUGH: Final = "/signin/oidc"
THROUGH_AGAIN: Final = "/signin/oidc/again"
# The same for an unknown name, a wrong password and somebody disabled.
_WRONG: Final = "The name or the password is wrong."
_WRONG_CODE: Final = "This is not the code of this moment, or it was used already. Wait for the next one."
_NAME_CHARS_MAX: Final = 64
_WAY_PASSWORD: Final = "password"  # noqa: S105 -- the name of a way to sign in


def entering_routes() -> list[Route]:
    return [
        open_page(SIGN_IN, _sign_in_page),
        open_form(SIGN_IN, _sign_in),
        open_page(TOTP, _code_page),
        open_form(TOTP, _code),
        page(SIGN_IN_AGAIN, _again_page, None),
        form(SIGN_IN_AGAIN, _again, None),
        form(SIGN_OUT, _sign_out, None),
    ]


def signing_in(request: Request) -> SigningIn:
    return SigningIn(site_of(request).directory, request.app.state.passwords)


def directory_for(request: Request, person: Person) -> Directory:
    """The directory on behalf of somebody who is about to be signed in."""
    return site_of(request).directory.acting_as(person.principal.actor, address_of(request))


def enter(
    request: Request,
    person: Person,
    way: str,
    target: str,
    *,
    is_proved: bool = False,
    is_fresh: bool = True,
    notice: str | None = None,
) -> Response:
    """A new session, whatever the browser held before: to the second factor where there is one, else to `target`.

    `is_proved`: the second factor was shown, or is the provider's business. `is_fresh`: that it is them was shown just
    now, so that what is dangerous does not ask for it again.
    """
    directory = directory_for(request, person)
    _end_before(request, directory)
    is_whole = is_proved or not person.has_second_factor
    stage = FULL if is_whole else SECOND
    agent = request.headers.get("user-agent", "")
    secret = directory.begin_session(person, way, stage, address_of(request), agent, is_fresh=is_fresh)
    if notice is not None:
        directory.leave_notice_for(secret, notice)
    answer = see_other(own_path(target) if is_whole else with_next(TOTP, target))
    set_cookie(request, answer, SESSION, secret)
    return answer


def _sign_in_page(request: Request) -> Response:
    return render(
        request, "signin/signin.html.j2", refused=None, **_values(request, "", request.query_params.get("next"))
    )


def _sign_in(request: Request) -> Response:
    told = posted(request)
    name = told.get("name")[
        :_NAME_CHARS_MAX
    ].rstrip()  # as it is looked for: else blanks would make it another's guesses
    guessing = Guessing(request, name)
    guessing.take()
    person = signing_in(request).by_password(name, told.raw("password"))
    if person is None:
        guessing.was_wrong("a wrong name or password")
        return refuse(request, "signin/signin.html.j2", _WRONG, **_values(request, name, told.get("next")))
    guessing.was_right(is_whole=not person.has_second_factor)
    return enter(request, person, _WAY_PASSWORD, told.get("next"))


def _values(request: Request, name: str, target: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "next": own_path(target),
        "is_new": not site_of(request).directory.has_owner(),
        **_provider(request, THROUGH, target),
    }


def refuse_sign_in(request: Request, words: str, target: str) -> Response:
    """The page to sign in at, with why that did not work."""
    return refuse(request, "signin/signin.html.j2", words, **_values(request, "", target))


def current_session(request: Request) -> Session | None:
    """Who is signed in, on a page that is for everybody."""
    secret = cookie_of(request, SESSION)
    return site_of(request).directory.find_session(secret) if secret is not None else None


def _provider(request: Request, path: str, target: str | None) -> dict[str, Any]:
    """What the page says of the provider, if there is one."""
    found: Provider | None = request.app.state.provider
    return {"provider": found.name if found is not None else None, "provider_path": with_next(path, own_path(target))}


def _code_page(request: Request) -> Response:
    target = request.query_params.get("next")
    if _half(request) is None:
        return see_other(with_next(SIGN_IN, own_path(target)))
    return render(request, "signin/totp.html.j2", refused=None, next=own_path(target))


def _code(request: Request) -> Response:
    half, told = _half(request), posted(request)
    if half is None:
        return see_other(with_next(SIGN_IN, told.get("next")))
    person, guessing = half.person, Guessing(request, half.person.name)
    guessing.take()
    if not SigningIn(directory_for(request, person), request.app.state.passwords).by_code(person, told.get("code")):
        guessing.was_wrong("a wrong code")
        return refuse(request, "signin/totp.html.j2", _WRONG_CODE, next=own_path(told.get("next")))
    guessing.was_right()
    return enter(request, person, half.way, told.get("next"), is_proved=True)


def _half(request: Request) -> Session | None:
    """Whose password was right, and whose code is still to come."""
    secret = cookie_of(request, SESSION)
    return site_of(request).directory.find_session(secret, SECOND) if secret is not None else None


def _end_before(request: Request, directory: Directory) -> None:
    """The session that the browser held, whoever set it there."""
    secret = cookie_of(request, SESSION)
    if secret is not None:
        directory.drop_session(secret)


def _again_page(request: Request, _principal: Principal) -> Response:
    return render(
        request, "signin/again.html.j2", refused=None, **_again_values(request, request.query_params.get("next"))
    )


def _again(request: Request, principal: Principal) -> Response:
    session, told = session_of(request), posted(request)
    guessing = Guessing(request, session.person.name)
    guessing.take()
    if not signing_in(request).is_password_of(session.person, told.raw("password")):
        guessing.was_wrong("a wrong password, asked for again")
        return refuse(
            request, "signin/again.html.j2", "The password is wrong.", **_again_values(request, told.get("next"))
        )
    guessing.was_right()
    acting(request, principal).prove_session(session)
    return see_other(own_path(told.get("next")), "It is you: now do it once more.")


def _again_values(request: Request, target: str | None) -> dict[str, Any]:
    told = _provider(request, THROUGH_AGAIN, target)
    has_password = session_of(request).person.has_password
    if not has_password and told["provider"] is None:
        raise HTTPException(403, "you have no password, and no provider is set up any more: ask an owner for a link")
    return {"next": own_path(target), "has_password": has_password} | told


def _sign_out(request: Request, principal: Principal) -> Response:
    session = session_of(request)
    acting(request, principal).end_session(session.person, session.session_id)
    answer = see_other(SIGN_IN)
    drop_cookie(request, answer, SESSION)
    return answer
