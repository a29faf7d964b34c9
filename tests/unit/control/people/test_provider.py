"""An OpenID provider is believed when everything about its id token is right, and not before."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tenantry.control.people.provider import ASKED_AT_ONCE, Provider, ProviderFailed, Secrets

CLIENT = "tenantry"
NONCE = Secrets.of("a secret").nonce


class Issuer:
    """A provider on loopback that says what a test wants it to."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.asked: list[str] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                found = issuer.documents.get(self.path)
                if callable(found):
                    found(self.wfile)
                    return
                self.send_response(200 if found is not None else 404)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.documents["/.well-known/openid-configuration"] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        }

    def publish(self, *keys: Any) -> None:
        self.documents["/jwks"] = {"keys": [key.as_dict(private=False) for key in keys]}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})


class Clock:
    def __init__(self) -> None:
        self.at = time.time()

    def __call__(self) -> float:
        return self.at


def provider(issuer: Issuer, now: Clock | None = None) -> Provider:
    return Provider(issuer.url, CLIENT, lambda: "secret", "http://127.0.0.1:3001/signin/oidc/done", now or Clock())


def claims(issuer: Issuer, **changed: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"iss": issuer.url, "aud": CLIENT, "sub": "248289761001", "nonce": NONCE, "iat": now, "exp": now + 300}
    found |= {"email": "ana@agency.example", "email_verified": True}
    return {name: value for name, value in (found | changed).items() if value is not None}


def token(found: dict[str, Any], key: Any = KEY, alg: str = "RS256", **head: Any) -> str:
    return jwt.encode({"alg": alg, "kid": key.kid} | head, found, key, algorithms=[alg])


def test_a_token_that_is_right_says_who_it_is(issuer: Issuer) -> None:
    issuer.publish(KEY)
    told = provider(issuer).read(token(claims(issuer)), NONCE)
    assert (told.subject, told.email) == (f"{issuer.url} 248289761001", "ana@agency.example")
    told = provider(issuer).read(token(claims(issuer, aud=[CLIENT, "other"], azp=CLIENT)), NONCE)
    assert told.subject.endswith(" 248289761001")


@pytest.mark.parametrize(("seconds_ago", "is_fresh"), [(10, True), (3600, False), (-3600, False), (None, False)])
def test_who_came_with_a_session_of_the_provider_has_not_shown_it_just_now(
    issuer: Issuer, seconds_ago: int | None, is_fresh: bool
) -> None:
    issuer.publish(KEY)
    at = int(time.time()) - seconds_ago if seconds_ago is not None else None
    assert provider(issuer).read(token(claims(issuer, auth_time=at)), NONCE).is_fresh is is_fresh


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_address_that_is_not_verified_is_none(issuer: Issuer, verified: object) -> None:
    issuer.publish(KEY)
    assert provider(issuer).read(token(claims(issuer, email_verified=verified)), NONCE).email is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "another"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": ["another"]}, "aud"),
        ({"aud": [CLIENT, "another"]}, "azp"),
        ({"azp": "another"}, "azp"),
        ({"exp": int(time.time()) - 3600}, "exp"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"exp": True}, "exp"),
        ({"iat": int(time.time()) + 3600}, "iat"),
        ({"iat": None}, "iat"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"nonce": 7}, "nonce"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "x" * 256}, "sub"),
    ],
)
def test_a_token_that_is_for_something_else_is_refused(issuer: Issuer, changed: dict[str, Any], said: str) -> None:
    issuer.publish(KEY)
    with pytest.raises(ProviderFailed, match=said):
        provider(issuer).read(token(claims(issuer, **changed)), NONCE)


def test_a_token_that_nobody_signed_is_refused(issuer: Issuer) -> None:
    """`alg: none`, in each spelling, and a signature that was cut off (RFC 8725 2.1)."""
    issuer.publish(KEY)
    whole = token(claims(issuer))
    head, body, signature = whole.split(".")
    for alg in ("none", "None", "NONE", ""):
        forged = base64url(json.dumps({"alg": alg}).encode())
        for end in ("", signature):
            with pytest.raises(ProviderFailed):
                provider(issuer).read(f"{forged}.{body}.{end}", NONCE)
    for text in (
        "",
        ".",
        "..",
        head,
        f"{head}.{body}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        "x.y.z",
    ):
        with pytest.raises(ProviderFailed):
            provider(issuer).read(text, NONCE)


def base64url(found: bytes) -> str:
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()


def test_a_public_key_does_not_pass_for_a_secret(issuer: Issuer) -> None:
    """HS256 with the published key as the secret: anybody could sign that."""
    issuer.publish(KEY)
    for secret in (KEY.as_pem(private=False), b"secret", json.dumps(KEY.as_dict(private=False)).encode()):
        signed = ".".join(
            base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "one"}, claims(issuer))
        )
        forged = f"{signed}.{base64url(hmac.digest(secret, signed.encode(), 'sha256'))}"
        with pytest.raises(ProviderFailed, match="not accepted"):
            provider(issuer).read(forged, NONCE)


def test_a_key_of_somebody_else_is_refused_whatever_it_calls_itself(issuer: Issuer) -> None:
    issuer.publish(KEY)
    forger = RSAKey.generate_key(2048, {"kid": "one"})
    with pytest.raises(ProviderFailed, match="not signed by a key of its own"):
        provider(issuer).read(token(claims(issuer), forger), NONCE)
    embedded = token(claims(issuer), forger, jwk=forger.as_dict(private=False))
    with pytest.raises(ProviderFailed):
        provider(issuer).read(embedded, NONCE)


def test_keys_that_are_new_are_looked_for_and_old_ones_are_forgotten(issuer: Issuer) -> None:
    issuer.publish(KEY)
    now = Clock()
    known = provider(issuer, now)
    known.read(token(claims(issuer)), NONCE)
    issuer.publish(OTHER)
    with pytest.raises(ProviderFailed):
        known.read(token(claims(issuer), OTHER), NONCE)
    assert issuer.asked.count("/jwks") == 1, "not for each unknown key: whoever makes up keys asks the provider nothing"
    now.at += 31
    known.read(token(claims(issuer), OTHER), NONCE)
    with pytest.raises(ProviderFailed):
        known.read(token(claims(issuer), KEY), NONCE)
    assert issuer.asked.count("/jwks") == 2


def test_keys_of_every_kind_are_read_and_others_are_passed_over(issuer: Issuer) -> None:
    curve = ECKey.generate_key("P-256", {"kid": "curve", "use": "sig"})
    issuer.publish(KEY, curve)
    issuer.documents["/jwks"]["keys"] += [
        {"kty": "new", "kid": "x"},
        "nothing",
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one"},
        {**OTHER.as_dict(private=False), "use": "enc"},
    ]
    known = provider(issuer)
    known.read(token(claims(issuer), curve, "ES256"), NONCE)
    known.read(token(claims(issuer)), NONCE)
    with pytest.raises(ProviderFailed):
        known.read(token(claims(issuer), OTHER), NONCE)


def test_showing_it_again_is_believed_for_a_moment_alone(issuer: Issuer) -> None:
    issuer.publish(KEY)
    known, now = provider(issuer), int(time.time())
    known.read(token(claims(issuer, auth_time=now - 10)), NONCE, is_again=True)
    for at in (None, now - 3600, "now", now + 3600):
        with pytest.raises(ProviderFailed, match="auth_time"):
            known.read(token(claims(issuer, auth_time=at)), NONCE, is_again=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"issuer": "https://evil.example"}, "calls itself"),
        ({"authorization_endpoint": "http://evil.example/authorize"}, "names no authorization_endpoint"),
        ({"authorization_endpoint": None}, "names no authorization_endpoint"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "names no authorization_endpoint"),
    ],
)
def test_a_provider_that_sends_people_elsewhere_is_refused(issuer: Issuer, changed: dict[str, Any], said: str) -> None:
    issuer.documents["/.well-known/openid-configuration"] |= changed
    with pytest.raises(ProviderFailed, match=said):
        provider(issuer).place(Secrets.of("a secret"))


def test_a_provider_that_is_not_there_is_told(issuer: Issuer) -> None:
    issuer.close()
    with pytest.raises(ProviderFailed, match="cannot be asked"):
        provider(issuer).place(Secrets.of("a secret"))


def test_what_binds_an_answer_follows_from_one_secret_and_tells_nothing_of_it() -> None:
    one, same, other = Secrets.of("a"), Secrets.of("a"), Secrets.of("b")
    assert one == same
    assert len({one.state, one.nonce, one.verifier, one.challenge, other.state, other.nonce, other.verifier}) == 7
    assert 43 <= len(one.verifier) <= 128, "RFC 7636 4.1"


DISCOVERY = "/.well-known/openid-configuration"
OK = b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-something\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n{}",
        OK + b"[" * 500_000,
        OK + b'{"issuer": "' + b"x" * (1 << 20) + b'"}',
    ],
    ids=["no HTTP", "a bad chunk", "a long head", "deep", "long"],
)
def test_an_answer_that_is_none_is_told_as_that(issuer: Issuer, answer: bytes) -> None:
    def say(wfile: Any) -> None:
        wfile.write(answer)

    issuer.documents[DISCOVERY] = say
    with pytest.raises(ProviderFailed, match="cannot be asked"):
        provider(issuer).place(Secrets.of("a secret"))


@pytest.mark.parametrize(
    "place", ["https://id.example/a\r\nset-cookie: tenantry=x", "https://id.example/\u2028", "https://[::1/token"]
)
def test_an_address_that_would_break_a_head_is_none(issuer: Issuer, place: str) -> None:
    issuer.documents[DISCOVERY]["authorization_endpoint"] = place
    with pytest.raises(ProviderFailed, match="authorization_endpoint"):
        provider(issuer).place(Secrets.of("a secret"))


def test_a_token_whose_head_is_deep_is_refused(issuer: Issuer) -> None:
    issuer.publish(KEY)
    deep = base64.urlsafe_b64encode(b"[" * 200_000).decode().rstrip("=")
    with pytest.raises(ProviderFailed, match="cannot be read"):
        provider(issuer).read(f"{deep}.a.b", NONCE)


def test_while_a_provider_hangs_no_more_than_some_wait_for_it(issuer: Issuer) -> None:
    """Who asks holds a thread of the web server: with all of them waiting, nobody would see any page."""
    reached, go_on = threading.Event(), threading.Event()
    document = issuer.documents[DISCOVERY]

    def hang(wfile: Any) -> None:
        reached.set()
        go_on.wait(60)
        wfile.write(OK + json.dumps(document).encode())

    issuer.documents[DISCOVERY] = hang
    asked, places = provider(issuer), list[str]()
    waiting = [
        threading.Thread(target=lambda: places.append(asked.place(Secrets.of("a secret"))))
        for _ in range(ASKED_AT_ONCE)
    ]
    waiting[0].start()
    assert reached.wait(60)
    for one in waiting[1:]:
        one.start()
    gate: Any = asked._asking  # pyright: ignore[reportPrivateUsage] -- until each waits
    while gate._value:
        time.sleep(0.001)
    for _ in range(3):
        with pytest.raises(ProviderFailed, match="try again"):
            asked.place(Secrets.of("a secret"))
        with pytest.raises(ProviderFailed, match="try again"):
            asked.redeem("a code", Secrets.of("a secret"))
    go_on.set()
    for one in waiting:
        one.join(60)
    assert len(places) == ASKED_AT_ONCE
    assert asked.place(Secrets.of("a secret")) == places[0]
