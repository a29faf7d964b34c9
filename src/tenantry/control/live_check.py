"""A real, small call through the running gateway, as a client would make it."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any

from tenantry.control.own_gateway import connect_own, own_host
from tenantry.settings import Settings

CALL_SECONDS_MAX = 60.0
# A new key reaches the gateway in under a second (DESIGN 3).
KEY_SECONDS_MAX = 3.0


class LiveCheckFailed(Exception):
    """The live call did not succeed; the message says what came back.

    `is_upstream`: the gateway answered, and could not reach its upstream or had no answer of it.
    """

    def __init__(self, message: str, is_upstream: bool = False) -> None:
        self.is_upstream = is_upstream
        super().__init__(message)


# What the gateway answers for an upstream that does not.
_UPSTREAM_STATUSES = (502, 504, 529)


@dataclass(frozen=True, slots=True)
class LiveCheck:
    """The call that succeeded."""

    model: str
    input_tokens: int
    output_tokens: int
    milliseconds: int
    simulated: bool


def check_live(settings: Settings, slug: str, key: str, model: str | None = None) -> LiveCheck:
    """Send one short message through the tenant's own endpoint, to `model` or to the cheapest of Claude's there.

    Raises:
        LiveCheckFailed: no gateway, or an answer other than 200.
    """
    deadline = time.monotonic() + KEY_SECONDS_MAX
    listed = _list_models(settings, slug, key, deadline)
    model = model or pick_model(listed)
    request = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "Reply with OK."}]}
    content = json.dumps(request).encode()
    status, headers, body, seconds = _call_known(settings, "POST", f"/t/{slug}/v1/messages", key, content, deadline)
    if status != 200:
        text = f"a message to {model} was answered {status}: {_message(body)}"
        raise LiveCheckFailed(text, status in _UPSTREAM_STATUSES)
    try:
        usage = json.loads(body)["usage"]
        tokens = int(usage["input_tokens"]), int(usage["output_tokens"])
    except (ValueError, KeyError, TypeError):
        raise LiveCheckFailed(f"a message to {model} was answered without usage: is this a Messages API?") from None
    return LiveCheck(
        model,
        *tokens,
        int(seconds * 1000),
        "x-tenantry-sandbox" in headers,
    )


def _list_models(settings: Settings, slug: str, key: str, deadline: float) -> list[str]:
    status, _, body, _ = _call_known(settings, "GET", f"/t/{slug}/v1/models?limit=1000", key, b"", deadline)
    if status != 200:
        text = f"the list of models was answered {status} through the gateway: {_message(body)}"
        raise LiveCheckFailed(text, status in _UPSTREAM_STATUSES)
    try:
        names = [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        raise LiveCheckFailed("the list of models is not one: is the upstream a Messages API?") from None
    if not names:
        raise LiveCheckFailed("the upstream lists no model")
    return names


def pick_model(names: list[str]) -> str:
    """The upstream's own cheapest line of Claude's, so that the check costs next to nothing."""
    claude = [name for name in names if name.startswith("claude-")]
    return next((name for name in claude if "haiku" in name), (claude or names)[0])


def _call_known(
    settings: Settings, method: str, path: str, key: str, body: bytes, deadline: float
) -> tuple[int, dict[str, str], bytes, float]:
    """The answer, and the seconds that it took: of a gateway that has seen the new key, or that of the deadline.

    Where several serve on one port, each call may come to another one.
    """
    while True:
        began = time.monotonic()
        status, headers, content = _call(settings, method, path, key, body)
        now = time.monotonic()
        if status not in (401, 403) or now > deadline:
            return status, headers, content, now - began
        time.sleep(0.1)


def _call(settings: Settings, method: str, path: str, key: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    where = f"{own_host(settings)}:{settings.gateway_port}"
    connection = http.client.HTTPConnection(own_host(settings), settings.gateway_port)
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    try:
        connection.sock = connect_own(settings, CALL_SECONDS_MAX)
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    except ssl.SSLCertVerificationError as error:
        raise LiveCheckFailed(
            f"what answers on {where} does not show a certificate of this site that can be used "
            f"({error.verify_message}); `tenantry doctor` looks at them"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise LiveCheckFailed(
            f"no gateway answers on {where} ({error}); start it with `tenantry serve` and try again"
        ) from error
    finally:
        connection.close()


def _message(body: bytes) -> str:
    try:
        document: Any = json.loads(body)
        return str(document["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace") or "an empty body"
