"""Faults in whose answer comes back, under whose credential a request leaves, and what goes along or is left behind."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenantry.gateway import authentication, caller
from tenantry.gateway.attempt import Attempt
from tenantry.gateway.caller import Caller
from tenantry.gateway.client import ClientConnection
from tenantry.gateway.exchange import Exchange
from tenantry.gateway.tries import Tries
from tenantry.gateway.upstream import Pools, ResponseHead
from tests.planted import caught_by

_log = logging.getLogger("tenantry.gateway")
_ANSWERING = 3  # `gateway.client`


# Kept answers


def _keep_answers(name_of: Callable[[Caller, bytes], Any]) -> None:
    """An answer is given again to whoever asks what `name_of` gives the same name, unless that is None."""
    kept: dict[Any, bytes] = {}
    coming: dict[ClientConnection, tuple[Any, list[bytes]]] = {}
    take, write, answered = ClientConnection._take, ClientConnection.write, ClientConnection.answered

    def taking(self: ClientConnection, found: Caller, body: bytes) -> None:
        name = name_of(found, body)
        if name is not None and name in kept:
            self._state = _ANSWERING
            write(self, kept[name])
            answered(self)
            return
        if name is not None:
            coming[self] = name, []
        take(self, found, body)

    def writing(self: ClientConnection, data: bytes) -> None:
        if self in coming:
            coming[self][1].append(data)
        write(self, data)

    def answering(self: ClientConnection) -> None:
        name, parts = coming.pop(self, (None, []))
        if name is not None and parts[0].startswith(b"HTTP/1.1 200"):
            kept[name] = b"".join(parts)
        answered(self)

    ClientConnection._take, ClientConnection.write, ClientConnection.answered = taking, writing, answering


@caught_by("answers", "POST /v1/messages: equal bodies")
def answer_cache_of_all() -> None:
    """Equal messages are answered once."""
    _keep_answers(lambda found, body: body if found.is_metered else None)


@caught_by("answers", "POST /v1/messages/count_tokens: equal bodies")
def count_cache_of_all() -> None:
    """Equal messages are counted once."""
    _keep_answers(lambda found, body: body if found.is_inspected and not found.is_metered else None)


@caught_by("answers", "GET /v1/models: equal")
def model_list_of_all() -> None:
    """The models are asked for once."""
    _keep_answers(lambda found, _body: found.target.path if found.head.method == b"GET" else None)


@caught_by("answers", "one idempotency-key")
def answers_by_idempotency_key() -> None:
    """A request that is told to be the same is answered once."""
    _keep_answers(lambda found, _body: found.head.fields.get(b"idempotency-key"))


@caught_by("credentials", "each answer")
def answers_of_others() -> None:
    """Every twentieth answer is the one before."""
    real = Exchange.on_whole
    last: list[bytes] = []
    count = 0

    def on_whole(self: Exchange, head: Any, body: bytes, *rest: Any) -> None:
        nonlocal count
        count += 1
        given = last[0] if count % 20 == 0 and len(last[0]) == len(body) else body
        last[:] = [body]
        real(self, head, given, *rest)

    Exchange.on_whole = on_whole


# Credentials and connections upstream


@caught_by("credentials", "each credential at the upstream")
def swapped_credential() -> None:
    """Every twentieth request leaves under the credential of whoever was served before."""
    real = Caller.way_up
    served: list[Any] = []

    def way_up(self: Caller, parts: Any, principal: Any, credential: Any, *rest: Any) -> Any:
        served.append(credential)
        if len(served) % 20 == 0:
            others = [one for one in served if one.credential_id != credential.credential_id]
            credential = others[-1] if others else credential
        return real(self, parts, principal, credential, *rest)

    Caller.way_up = way_up


@caught_by("credentials", "second attempts")
def retry_under_the_last_credential() -> None:
    """What is sent again leaves under the credential that was used last, by whomever."""
    real, up = Tries.again, Caller.way_up
    used: list[Any] = []

    def way_up(self: Caller, parts: Any, principal: Any, credential: Any, *rest: Any) -> Any:
        if not used or used[-1] is not credential:
            used.append(credential)
        return up(self, parts, principal, credential, *rest)

    def again(self: Tries) -> Any:
        event = real(self)
        self.credential = next((one for one in reversed(used) if one is not self.credential), self.credential)
        return event

    Caller.way_up, Tries.again = way_up, again


@caught_by("sharing", "connections upstream of two tenants that share a credential")
def connections_of_all() -> None:
    """Pools are kept by upstream and credential, as they once were."""
    real = Pools.of
    Pools.of = lambda self, upstream, credential_id, _tenant_id: real(self, upstream, credential_id, "")


@caught_by("sharing", "a rotated credential, on a kept connection")
def secrets_are_kept() -> None:
    """A credential is what it was when it was first used."""
    real = Caller.way_up
    known: dict[str, Any] = {}

    def way_up(self: Caller, parts: Any, principal: Any, credential: Any, *rest: Any) -> Any:
        return real(self, parts, principal, known.setdefault(credential.credential_id, credential), *rest)

    Caller.way_up = way_up


# What goes along


def _send_along(lines_of: Callable[[Any], bytes]) -> None:
    real = caller.upstream_head

    def upstream_head(head: Any, *rest: Any) -> bytes:
        return real(head, *rest) + lines_of(head)

    caller.upstream_head = upstream_head


@caught_by("identity", "own key")
def gateway_key_goes_upstream() -> None:
    """Under another name."""
    _send_along(lambda head: b"x-client: %b\r\n" % head.fields.get(b"x-api-key", b""))


@caught_by("headers", "own key")
def cookies_go_upstream() -> None:
    """What the client's browser holds."""
    _send_along(lambda head: b"cookie: %b\r\n" % head.fields[b"cookie"] if b"cookie" in head.fields else b"")


@caught_by("identity", "own key")
def upstream_quota_is_told() -> None:
    """The upstream's own fields go to the client."""
    framing = re.compile(rb"(?i)\r\n(?:content-length|transfer-encoding|connection|request-id): [^\r]*")
    ResponseHead.lines_for_client = lambda self, is_final=False: (
        framing.sub(b"", b"\r\n" + self._raw.partition(b"\r\n")[2]).strip() + b"\r\n"
    )


# What is left behind


def _see_prompts(keep: Callable[[bytes], None]) -> None:
    real = Exchange.start

    def start(self: Exchange, now: float) -> None:
        if self.body:
            keep(self.body)
        real(self, now)

    Exchange.start = start


def _data_dir() -> Path:
    return Path(os.environ["TENANTRY_DATA_DIR"])


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data + b"\n")


@caught_by("search", "last-requests")
def prompts_in_a_file() -> None:
    """The last requests, to look at when something goes wrong."""
    _see_prompts(lambda body: _append(_data_dir() / "last-requests.jsonl", body))


@caught_by("search", "tenantry-planted")
def prompts_in_the_temporary_folder() -> None:
    """The same, elsewhere."""
    path = Path(tempfile.gettempdir()) / f"tenantry-planted-{os.getpid()}"
    _see_prompts(lambda body: _append(path, body))


@caught_by("search", ".log")
def prompts_in_the_log() -> None:
    """What could not be read is shown in the log."""
    real = Exchange._refuse

    def refuse(self: Exchange, error: Any, reason: str = "") -> None:
        _log.warning("refused: %r", self.body)
        real(self, error, reason)

    Exchange._refuse = refuse


@caught_by("search", ".log")
def answers_in_the_log() -> None:
    """Each event of a stream is shown in the log, one by one or as many as came at once."""
    real, real_chunk = Attempt.on_body, Attempt.on_chunk

    def on_body(self: Attempt, data: bytes) -> None:
        _log.warning("came: %r", data)
        real(self, data)

    def on_chunk(self: Attempt, data: bytes) -> bool:
        _log.warning("came: %r", data)
        return real_chunk(self, data)

    Attempt.on_body, Attempt.on_chunk = on_body, on_chunk


@caught_by("search", "table ledger")
def prompts_in_the_ledger() -> None:
    """What a request is known by upstream is its beginning."""
    real = Attempt.on_whole

    def on_whole(self: Attempt, head: ResponseHead, body: bytes) -> None:
        said = re.search(rb'"content": ?"([^"\\]{1,200})', self._request.body)
        if said is not None:
            head.request_id = said[1]
        real(self, head, body)

    Attempt.on_whole = on_whole


@caught_by("search", ".log")
def key_in_the_log() -> None:
    """A careless line in a log."""
    real = authentication.authenticate

    def authenticate(fields: dict[bytes, bytes], *rest: Any) -> Any:
        _log.warning("asked by %r", fields.get(b"x-api-key"))
        return real(fields, *rest)

    caller.authenticate = authenticate


@caught_by("search", "state.json")
def credentials_in_a_file() -> None:
    """What is in use, for another process to read."""
    real = Caller.way_up

    def way_up(self: Caller, parts: Any, principal: Any, credential: Any, *rest: Any) -> Any:
        (_data_dir() / "state.json").write_text(credential.secret)
        return real(self, parts, principal, credential, *rest)

    Caller.way_up = way_up
