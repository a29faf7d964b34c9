"""Signing in through an OpenID provider: authorization code with PKCE (OpenID Connect Core 3.1, RFC 7636).

Asked by threads of the web server, with requests of a few seconds at most. What a provider says is believed after the
signature of its id token, made with a key that it publishes and never with one that it shares with us.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tenantry.domain.values import value
from tenantry.setting_checks import LOOPBACK

# Of public keys. `none` is not among them, nor is HS256, which a public key could be made to pass for (RFC 8725 2.1).
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
ANSWER_SECONDS_MAX: Final = 10.0
ANSWER_BYTES_MAX: Final = 1 << 20
# An agency's people, who take a second each. While a provider hangs, no more than these wait for it: whoever reaches
# the address may send a browser there, and every page shares the threads.
ASKED_AT_ONCE: Final = 4
# Providers announce new keys a day before they use them; an unknown key is looked for at once, but not again and again.
DISCOVERY_SECONDS: Final = 3600.0
KEYS_SECONDS_MIN: Final = 30.0
# Clocks differ.
LEEWAY_SECONDS: Final = 60
# How long ago somebody may have shown the provider that it is them, where we asked for it again.
AGAIN_SECONDS_MAX: Final = 300
_NAME_CHARS_MAX: Final = 200
_SUBJECT_CHARS_MAX: Final = 255  # OpenID Connect Core 2
# Of public keys; one that is shared with us is no key to check with.
_KINDS: Final[Mapping[str, type[RSAKey | ECKey | OKPKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_SCOPES: Final = "openid email profile"


class ProviderFailed(Exception):
    """The provider cannot be asked, or does not say what it should; the message says which."""


@value
class Told:
    """What an id token says of somebody. `subject`: issuer and `sub`, which are theirs for good.

    `is_fresh`: they have shown the provider just now that it is them, and not only come with a session that they have
    there.
    """

    subject: str
    email: str | None
    claims: Mapping[str, Any]
    is_fresh: bool


@value
class Secrets:
    """What binds an answer to the browser that asked: all follow from one secret, which its cookie holds."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def of(cls, secret: str) -> Secrets:
        state, nonce, verifier = (_derived(secret, purpose) for purpose in (b"state", b"nonce", b"verifier"))
        return cls(state, nonce, verifier)

    @property
    def challenge(self) -> str:
        """RFC 7636 4.2."""
        return _base64url(hashlib.sha256(self.verifier.encode()).digest())


class Provider:
    """One issuer, and us as its client. `redirect_uri`: where it sends people back to."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: Callable[[], str],
        redirect_uri: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._redirect_uri = redirect_uri
        self._now = now
        self._lock = threading.Lock()
        self._asking = threading.BoundedSemaphore(ASKED_AT_ONCE)
        self._document: Mapping[str, Any] = {}
        self._document_at = self._keys_at = -DISCOVERY_SECONDS
        self._keys: list[RSAKey | ECKey | OKPKey] = []
        self._opener = urllib.request.build_opener(_NoRedirect)

    @property
    def name(self) -> str:
        """By which people know it."""
        return urllib.parse.urlsplit(self.issuer).hostname or self.issuer

    def place(self, secrets: Secrets, *, is_again: bool = False) -> str:
        """Where a browser is sent. `is_again`: whoever is signed in there shows again that it is them.

        Raises: ProviderFailed.
        """
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._redirect_uri,
            "scope": _SCOPES,
            "state": secrets.state,
            "nonce": secrets.nonce,
            "code_challenge": secrets.challenge,
            "code_challenge_method": "S256",
        }
        if is_again:
            query |= {"prompt": "login", "max_age": "0"}
        if self._is_stale(self._document_at):
            with self._admitted():
                self._discovered()
        endpoint = self._endpoint("authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urllib.parse.urlencode(query)}"

    def redeem(self, code: str, secrets: Secrets, *, is_again: bool = False) -> Told:
        """Who came back with `code`. Raises: ProviderFailed."""
        with self._admitted():
            return self.read(self._id_token(code, secrets), secrets.nonce, is_again=is_again)

    def _id_token(self, code: str, secrets: Secrets) -> str:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect_uri}
        form |= {"code_verifier": secrets.verifier}
        headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        ways = self._discovered().get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if "client_secret_basic" in ways:
            pair = ":".join(urllib.parse.quote(one, safe="") for one in (self._client_id, self._client_secret()))
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": self._client_id, "client_secret": self._client_secret()}
        answer = self._ask(self._endpoint("token_endpoint"), urllib.parse.urlencode(form).encode(), headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderFailed("the provider sent no id token")
        return token

    def read(self, token: str, nonce: str, *, is_again: bool = False) -> Told:
        """What an id token says, once everything about it is right (OpenID Connect Core 3.1.3.7).

        Raises: ProviderFailed.
        """
        claims, now = self._verified(token), self._now()
        audience = claims.get("aud")
        audiences = cast("list[object]", audience) if isinstance(audience, list) else [audience]
        subject = claims.get("sub")
        told_nonce = claims.get("nonce")
        wrong = {
            "iss": claims.get("iss") != self.issuer,
            "aud": self._client_id not in audiences,
            "azp": claims.get("azp", self._client_id if len(audiences) == 1 else None) != self._client_id,
            "exp": not _is_number(claims.get("exp")) or claims["exp"] <= now - LEEWAY_SECONDS,
            "iat": not _is_number(claims.get("iat")) or claims["iat"] > now + LEEWAY_SECONDS,
            "nonce": not isinstance(told_nonce, str) or not hmac.compare_digest(told_nonce.encode(), nonce.encode()),
            "sub": not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_CHARS_MAX,
            "auth_time": is_again and not _is_lately(claims.get("auth_time"), now),
        }
        if any(wrong.values()):
            raise ProviderFailed(
                f"the provider's id token is not for this: {', '.join(k for k, v in wrong.items() if v)}"
            )
        email = claims.get("email") if claims.get("email_verified") is True else None
        is_fresh = _is_lately(claims.get("auth_time"), now)
        return Told(f"{self.issuer} {subject}", email if isinstance(email, str) else None, claims, is_fresh)

    def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token that one of the provider's keys has signed."""
        for is_fresh in (False, True):
            for key in self._keys_for(token, is_fresh=is_fresh):
                try:
                    return dict(jwt.decode(token, key, algorithms=ALGORITHMS).claims)
                except (JoseError, ValueError, RecursionError):
                    continue
        raise ProviderFailed("the provider's id token is not signed by a key of its own")

    def _keys_for(self, token: str, *, is_fresh: bool) -> Iterable[RSAKey | ECKey | OKPKey]:
        """Those that the token's head names, or all where it names none; asked for anew where `is_fresh`."""
        head = _head_of(token)
        if head.get("alg") not in ALGORITHMS:
            raise ProviderFailed("the provider's id token is signed in a way that is not accepted")
        with self._lock:
            if self._now() - self._keys_at >= (KEYS_SECONDS_MIN if is_fresh else DISCOVERY_SECONDS):
                found = self._ask(self._endpoint_of(self._document_now(), "jwks_uri"))
                self._keys, self._keys_at = _public_keys(found), self._now()
            elif is_fresh:
                return []
            keys = list(self._keys)
        named = head.get("kid")
        return [one for one in keys if named is None or one.kid in (named, None)]

    @contextmanager
    def _admitted(self) -> Generator[None]:
        """Not behind others that wait: they hold a thread each. Raises: ProviderFailed."""
        if not self._asking.acquire(blocking=False):
            raise ProviderFailed("too many sign in through it just now, or it is slow: try again in a moment")
        try:
            yield
        finally:
            self._asking.release()

    def _is_stale(self, at: float) -> bool:
        return self._now() - at >= DISCOVERY_SECONDS

    def _endpoint(self, name: str) -> str:
        return self._endpoint_of(self._discovered(), name)

    def _endpoint_of(self, document: Mapping[str, Any], name: str) -> str:
        found = document.get(name)
        if not isinstance(found, str) or not self._is_safe(found):
            raise ProviderFailed(f"the provider names no {name} with https")
        return found

    def _is_safe(self, url: str) -> bool:
        """https; or http on loopback, for a provider that is there itself. It goes into a head as it is."""
        if not url.isascii() or not url.isprintable():
            return False
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:
            return False
        if parts.scheme == "https":
            return bool(parts.hostname)
        own = urllib.parse.urlsplit(self.issuer)
        return parts.scheme == own.scheme == "http" and parts.hostname in LOOPBACK and own.hostname in LOOPBACK

    def _discovered(self) -> Mapping[str, Any]:
        with self._lock:
            return self._document_now()

    def _document_now(self) -> Mapping[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery 4). Under the lock."""
        if self._is_stale(self._document_at):
            found = self._ask(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self.issuer:
                named = repr(found.get("issuer"))[:_NAME_CHARS_MAX]
                raise ProviderFailed(f"what answers at {self.issuer} calls itself {named}")
            self._document, self._document_at = found, self._now()
        return self._document

    def _ask(self, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(url, body, dict(headers or {}))  # noqa: S310 -- `_is_safe`, or of the settings
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS_MAX) as answer:
                found = json.loads(_read(answer))
        except urllib.error.HTTPError as error:
            error.close()
            raise ProviderFailed(f"the provider answers {error.code} at {url}") from None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            reason = getattr(error, "reason", None) or error
            raise ProviderFailed(f"the provider cannot be asked at {url}: {reason}") from None
        if not isinstance(found, dict):
            raise ProviderFailed(f"the provider's answer at {url} is no JSON object")
        return cast("dict[str, Any]", found)


def _read(answer: http.client.HTTPResponse) -> bytes:
    """What does not come whole within the time of an answer is none, however it trickles. Raises: OSError."""
    body, until = bytearray(), time.monotonic() + ANSWER_SECONDS_MAX
    while len(body) < ANSWER_BYTES_MAX and (part := answer.read1(ANSWER_BYTES_MAX - len(body))):
        body += part
        if time.monotonic() > until:
            raise TimeoutError("it is too slow")
    return bytes(body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A code or a secret goes where the provider has said, and no further."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _public_keys(found: Mapping[str, Any]) -> list[RSAKey | ECKey | OKPKey]:
    """Keys that signatures are checked with; what is none, or of a kind that we do not know, is passed over."""
    raw = found.get("keys")
    keys: list[RSAKey | ECKey | OKPKey] = []
    for one in cast("list[Any]", raw) if isinstance(raw, list) else []:
        if not isinstance(one, dict):
            continue
        told = cast("dict[str, Any]", one)
        kind = _KINDS.get(str(told.get("kty")))
        if kind is None or told.get("use", "sig") != "sig":
            continue
        try:
            keys.append(kind.import_key(told))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    return keys


def _head_of(token: str) -> dict[str, Any]:
    head = token.partition(".")[0]
    try:
        found = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProviderFailed("the provider's id token cannot be read")
    return cast("dict[str, Any]", found)


def _is_number(found: object) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)


def _is_lately(found: Any, now: float) -> bool:
    return _is_number(found) and now - AGAIN_SECONDS_MAX <= found <= now + LEEWAY_SECONDS


def _derived(secret: str, purpose: bytes) -> str:
    return _base64url(hmac.digest(secret.encode(), b"oidc " + purpose, "sha256"))


def _base64url(found: bytes) -> str:
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()
