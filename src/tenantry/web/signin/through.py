"""/signin/oidc: through an OpenID provider, and back."""

from __future__ import annotations

import base64
import hmac
import secrets
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.control.people.mapping import NotInvited, person_of
from tenantry.control.people.provider import Provider, ProviderFailed, Secrets
from tenantry.domain.people import Person
from tenantry.domain.roles import Principal
from tenantry.settings import Settings
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.pages_base.routing import page
from tenantry.web.pages_base.words import sentence
from tenantry.web.signin.cookies import OIDC, cookie_of, drop_cookie, set_cookie
from tenantry.web.signin.entering import THROUGH, THROUGH_AGAIN, current_session, enter, refuse_sign_in
from tenantry.web.signin.places import own_path
from tenantry.web.signin.visits import Guessing, open_page
from tenantry.web.tokens import address_of, site_of

DONE: Final = "/signin/oidc/done"
# From going there to coming back.
_ROUND_SECONDS: Final = 600
_CODE_CHARS_MAX: Final = 4096
_WAY: Final = "oidc"
_NOT_OURS: Final = "This answer of the provider belongs to no sign-in of this browser: begin again."


def through_routes() -> list[Route]:
    return [open_page(THROUGH, _go), page(THROUGH_AGAIN, _go_again, None), open_page(DONE, _back)]


def provider_of(settings: Settings) -> Provider | None:
    """The provider that the settings name."""
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        return None
    file, secret = settings.oidc_client_secret_file, settings.oidc_client_secret

    def client_secret() -> str:
        return secret if secret is not None else _read(file)

    return Provider(settings.oidc_issuer, settings.oidc_client_id, client_secret, f"{settings.control_url}{DONE}")


def _read(file: Path | None) -> str:
    try:
        return file.read_text("utf-8").strip() if file is not None else ""
    except (OSError, ValueError) as error:
        raise ProviderFailed(f"oidc_client_secret_file: {error}") from None


def _go(request: Request) -> Response:
    return _sent(request, is_again=False)


def _go_again(request: Request, _principal: Principal) -> Response:
    return _sent(request, is_again=True)


def _sent(request: Request, *, is_again: bool) -> Response:
    provider, secret = _provider(request), secrets.token_urlsafe(32)
    target = own_path(request.query_params.get("next"))
    try:
        answer = see_other(provider.place(Secrets.of(secret), is_again=is_again))
    except ProviderFailed as error:
        return refuse_sign_in(request, f"Signing in through {provider.name} does not work: {error}.", target)
    mark = "again" if is_again else "in"
    held = f"{secret}.{mark}.{base64.urlsafe_b64encode(target.encode()).decode()}"
    set_cookie(request, answer, OIDC, held, _ROUND_SECONDS)
    return answer


def _back(request: Request) -> Response:
    """With a code, or with what went wrong. Whatever comes, the secret that it answers to is used up.

    What answers to none is no guess: a page of another site may send a browser here.
    """
    provider = _provider(request)
    secret, is_again, target = _held(request)
    state = request.query_params.get("state", "")
    if not secret or not hmac.compare_digest(state.encode(), Secrets.of(secret).state.encode()):
        return refuse_sign_in(request, _NOT_OURS, target)
    guessing = Guessing(request, "")
    guessing.take()
    try:
        answer = _entered(request, provider, secret, is_again=is_again, target=target)
    except (ProviderFailed, NotInvited) as error:
        guessing.was_wrong(f"through the provider: {error}"[:200])
        answer = refuse_sign_in(request, sentence(error), target)
    else:
        guessing.was_right()
    drop_cookie(request, answer, OIDC)
    return answer


def _entered(request: Request, provider: Provider, secret: str, *, is_again: bool, target: str) -> Response:
    query = request.query_params
    if query.get("iss", provider.issuer) != provider.issuer:  # RFC 9207 2.4
        raise ProviderFailed("this answer comes from another provider")
    code = query.get("code", "")
    if not code or len(code) > _CODE_CHARS_MAX:
        raise ProviderFailed(f"the provider did not let you in ({query.get('error', 'no code')[:64]})")
    told = provider.redeem(code, Secrets.of(secret), is_again=is_again)
    directory = site_of(request).directory.acting_as("web", address_of(request))
    person = person_of(directory, told, site_of(request).settings.oidc_roles)
    if is_again:
        return _proved(request, person, target)
    return enter(request, person, _WAY, target, is_proved=True, is_fresh=told.is_fresh)


def _proved(request: Request, person: Person, target: str) -> Response:
    """Who is signed in has shown again that it is them: to whom it was shown has to be the same."""
    session = current_session(request)
    if session is None or session.person.person_id != person.person_id:
        raise ProviderFailed("the provider says that you are somebody else: sign out first")
    return enter(request, person, _WAY, target, is_proved=True, notice="It is you: now do it once more.")


def _held(request: Request) -> tuple[str, bool, str]:
    """What the cookie holds: the secret, whether it is about showing it again, and where to go on."""
    secret, _, rest = (cookie_of(request, OIDC) or "").partition(".")
    mark, _, target = rest.partition(".")
    try:
        path = base64.urlsafe_b64decode(target.encode()).decode()
    except ValueError:
        path = ""
    return secret, mark == "again", own_path(path)


def _provider(request: Request) -> Provider:
    found: Provider | None = request.app.state.provider
    if found is None:
        raise HTTPException(404, "no provider is set up: oidc_issuer in the settings names one")
    return found
