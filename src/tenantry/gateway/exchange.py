"""One client request, from its head to its settled end (DESIGN section 4).

Everything here runs in event-loop callbacks: no task and no future is made for a request. An exchange outlives its
client: when the client leaves, the upstream's answer is read on, within a bound, so that the bill is exact.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tenantry.domain.attempts import AttemptProgress
from tenantry.domain.errors import (
    ApiError,
    InvalidRequest,
    JournalDown,
    NoCredential,
    NotReady,
    TooManySessions,
    UpstreamBroken,
    UpstreamDown,
    UpstreamTimedOut,
)
from tenantry.gateway.attempt import Attempt
from tenantry.gateway.authentication import Principal
from tenantry.gateway.calls import Call
from tenantry.gateway.headers import client_response
from tenantry.gateway.relay import PLAIN, MessageRelay, Relay, StreamRelay
from tenantry.wire.http1 import LAST_CHUNK, chunk, response_head
from tenantry.wire.inspect import BadBody, MessageFields, inspect_message
from tenantry.wire.routes import Kind

if TYPE_CHECKING:
    from tenantry.gateway.server import ClientConnection, Gateway

# The SDKs wait ten minutes for an answer (reference 3.3).
ANSWER_HEAD_SECONDS_MAX = 600.0
# Claude Code gives up after 300 s without bytes (reference 4.1); upstream pings well within that.
ANSWER_IDLE_SECONDS_MAX = 330.0
# How long an answer is read on for the bill when its client has gone.
DRAIN_SECONDS_MAX = 60.0
# How long a client may take no byte of a waiting answer before it counts as gone.
CLIENT_STALL_SECONDS_MAX = 60.0

_ids = random.SystemRandom()
_id_source = random.Random(_ids.getrandbits(256))  # noqa: S311 -- names, not secrets: they only have to be unique


def new_request_id() -> str:
    """`req_` and 24 hexadecimal digits."""
    return f"req_{_id_source.getrandbits(96):024x}"


class Exchange:
    """See the module. Life: `open` (head) -> `begin` (body) -> answer relayed -> `_close`."""

    __slots__ = (
        "_attempt",
        "_body_framing",
        "_call",
        "_client",
        "_fields",
        "_gateway",
        "_holds_session",
        "_out",
        "_principal",
        "_relay",
        "deadline",
        "request_id",
        "started",
    )

    def __init__(self, gateway: Gateway, client: ClientConnection, call: Call) -> None:
        self._gateway = gateway
        self._client: ClientConnection | None = client
        self._call = call
        self._principal: Principal | None = None
        self._fields: MessageFields | None = None
        self._attempt: Attempt | None = None
        self._relay: Relay = PLAIN
        self._holds_session = False
        self._body_framing = _Framing.NONE
        self._out: list[bytes] = []
        self.request_id = new_request_id()
        self.started = False  # the client has been sent a response head
        self.deadline = float("inf")

    def open(self) -> None:
        """Decide on the head alone, before any of the body is read.

        Raises:
            ApiError: the request is refused.
        """
        if not self._call.target.route.open_to_all:
            self._principal = self._call.principal(self._gateway)

    def begin(self, body: bytes) -> None:
        """Decide on the whole request and send it on.

        Raises:
            ApiError: the request is refused; nothing was forwarded.
        """
        kind = self._call.target.route.kind
        if self._principal is None:
            self._answer_here(kind)
            return
        if kind is not Kind.MODELS:
            encoding = self._call.head.fields.get(b"content-encoding", b"identity")
            if encoding.lower() != b"identity":
                raise InvalidRequest("Compressed request bodies are not accepted; send the body as it is.")
            try:
                self._fields = inspect_message(body, count_only=kind is Kind.COUNT_TOKENS)
            except BadBody as error:
                raise InvalidRequest(str(error)) from None
        self._admit(self._principal)
        try:
            self._forward(self._principal, body)
        except ApiError:
            self._close()
            raise

    def _answer_here(self, kind: Kind) -> None:
        body = b"" if kind is Kind.HELLO else b'{"status":"ok"}'
        self.answer(200, [(b"content-type", b"application/json")], body)

    def _admit(self, principal: Principal) -> None:
        if self._gateway.stopping:
            raise NotReady
        tenant = principal.tenant
        if not self._gateway.sessions.acquire(tenant.tenant_id, tenant.limits.sessions_max):
            raise TooManySessions(
                f"Tenant {tenant.slug} is limited to {tenant.limits.sessions_max} requests in flight "
                f"(tier {tenant.tier}). Wait for one to end."
            )
        self._holds_session = True
        self._gateway.exchanges.add(self)

    def _forward(self, principal: Principal, body: bytes) -> None:
        credential = principal.tenant.credential
        if credential is None:
            raise NoCredential
        pool, head = self._call.way_up(self._gateway, principal, credential, len(body))
        metered = self._fields if self._call.target.route.kind is Kind.MESSAGES else None
        attempt = Attempt(self._gateway, self, principal, credential, metered)
        self._attempt = attempt
        attempt.start(pool, head, body)
        self.deadline = self._gateway.now() + ANSWER_HEAD_SECONDS_MAX

    # What the attempt tells

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        fields, told = self._fields, dict(headers)
        if status == 200 and fields is not None and self._call.target.route.kind is Kind.MESSAGES:
            is_stream = b"event-stream" in told.get(b"content-type", b"")
            self._relay = StreamRelay(fields.wants_1h) if is_stream else MessageRelay(fields.wants_1h)
        self.deadline = self._gateway.now() + ANSWER_IDLE_SECONDS_MAX
        client = self._client
        if client is None:
            return
        self.started = True
        sent = client_response(headers)
        sent.append((b"request-id", self.request_id.encode()))
        length = told.get(b"content-length")
        if length is not None and not isinstance(self._relay, StreamRelay):
            self._body_framing = _Framing.LENGTH
            sent.append((b"content-length", length))
        elif status in (204, 304):
            self._body_framing = _Framing.NONE
        elif self._call.head.http_1_0:
            self._body_framing = _Framing.CLOSE
            client.close_after_answer()
        else:
            self._body_framing = _Framing.CHUNKED
            sent.append((b"transfer-encoding", b"chunked"))
        sent.append((b"connection", b"keep-alive" if client.keeps_alive else b"close"))
        self._out.append(response_head(status, sent))

    def on_body(self, data: bytes) -> None:
        ready = self._relay.feed(data)
        if self._client is None:
            return
        self.deadline = self._gateway.now() + ANSWER_IDLE_SECONDS_MAX
        if ready:
            self._out.append(chunk(ready) if self._body_framing is _Framing.CHUNKED else ready)

    def record_progress(self, attempt_id: str, upstream_request_id: str | None) -> bool:
        """Journal the usage that opens a stream, so that a crash leaves it known; True once that is done."""
        relay = self._relay
        if not isinstance(relay, StreamRelay) or not relay.has_started:
            return False
        seen = relay.observed()
        self._gateway.journal_progress(AttemptProgress(attempt_id, seen.model or "", seen.usage, upstream_request_id))
        return True

    def flush(self) -> None:
        """Write what one read of the upstream gave, in one go."""
        out = self._out
        if out and self._client is not None:
            self._client.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    def on_end(self) -> None:
        """The upstream's answer is complete."""
        rest = self._relay.finish()
        self._settle(None)
        self._end_or_cut(rest)

    def on_broken(self, reason: str) -> None:
        """The upstream's answer broke off, or never came."""
        self._settle(reason)
        client = self._client
        if client is None:
            self._close()
        elif not self.started:
            self._refuse(_BROKEN_BEFORE_HEAD.get(reason, UpstreamBroken)())
        else:
            self._interrupt("api_error", "The connection to the upstream broke off before the message was complete.")

    def interrupt(self, error_type: str, message: str) -> None:
        """End the answer from this side: the gateway stops, or a time-out passed."""
        reason = "gateway_stopping" if error_type == "overloaded_error" else "timed_out"
        if self._attempt is not None:
            self._attempt.abandon()
        self._settle(reason)
        if self._client is None:
            self._close()
        elif self.started:
            self._interrupt(error_type, message)
        else:
            self._refuse(NotReady(message) if reason == "gateway_stopping" else UpstreamTimedOut())

    def _interrupt(self, error_type: str, message: str) -> None:
        self._end_or_cut(self._relay.interrupted(error_type, message))

    def _end_or_cut(self, rest: bytes | None) -> None:
        client = self._client
        if rest is None and client is not None:
            # Only a connection that ends too early says that a body is not whole.
            self.flush()
            self._close()
            client.abort_after_flush()
        else:
            self._end_answer(rest or b"")

    def _end_answer(self, rest: bytes) -> None:
        client = self._client
        if client is not None:
            chunked = self._body_framing is _Framing.CHUNKED
            if rest:
                self._out.append(chunk(rest) if chunked else rest)
            if chunked:
                self._out.append(LAST_CHUNK)
            self.flush()
        self._close()
        if client is not None:
            client.answered()

    def _settle(self, error: str | None) -> None:
        if self._attempt is not None:
            self._attempt.settle(self._relay.observed(), error)

    # What the client's connection tells

    def client_gone(self) -> None:
        """The client left. Its answer is read on for the bill, for a while (DESIGN 4.8)."""
        self._client = None
        self._out.clear()
        attempt = self._attempt
        if attempt is None:
            self._close()
            return
        attempt.client_gone = True
        if not attempt.was_sent:
            attempt.abandon()
            self._settle("client_gone")
            self._close()
            return
        attempt.resume()
        self.deadline = self._gateway.now() + DRAIN_SECONDS_MAX

    def client_paused(self) -> None:
        if self._attempt is not None:
            self._attempt.pause()
        self.deadline = self._gateway.now() + CLIENT_STALL_SECONDS_MAX

    def client_resumed(self) -> None:
        if self._attempt is not None:
            self._attempt.resume()
        self.deadline = self._gateway.now() + ANSWER_IDLE_SECONDS_MAX

    def overdue(self) -> None:
        """The deadline has passed: whose fault it is depends on who was being waited for."""
        client = self._client
        if client is not None and client.is_paused:
            client.abort()  # comes back as client_gone, and the answer is drained
        else:
            self.interrupt("timeout_error", "The upstream was silent for too long.")

    # Answers made here

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer from the gateway itself."""
        client = self._client
        self._close()
        if client is not None:
            self._client = None
            client.answer(status, headers, body, self.request_id, self._call.head.method == b"HEAD")

    def _refuse(self, error: ApiError) -> None:
        client = self._client
        self._close()
        if client is not None:
            client.refuse(error, self.request_id)

    def _close(self) -> None:
        """Give everything back, once."""
        if self._holds_session and self._principal is not None:
            self._holds_session = False
            self._gateway.sessions.release(self._principal.tenant.tenant_id)
            self._gateway.exchanges.discard(self)
            self._gateway.exchange_closed()
        self._client = None
        self._attempt = None
        self._relay = PLAIN


class _Framing:
    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


_BROKEN_BEFORE_HEAD: dict[str, type[ApiError]] = {
    "journal_unavailable": JournalDown,
    "connect_failed": UpstreamDown,
    "upstream_dropped": UpstreamDown,
    "upstream_invalid_http": UpstreamBroken,
}
