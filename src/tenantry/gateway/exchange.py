"""One client request, from its head to its settled end (DESIGN section 4).

Everything here runs in event-loop callbacks: no task and no future is made for a request. An exchange outlives its
client: when the client leaves, the upstream's answer is read on, within a bound, so that the bill is exact.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tenantry.domain.admission import Grant, Obstacle
from tenantry.domain.directory import Credential, Disconnect
from tenantry.domain.errors import ApiError, InvalidRequest, NotReady
from tenantry.domain.prompt_budget import WARNING_FIELD
from tenantry.gateway.attempt import Fields, Headers
from tenantry.gateway.authentication import Principal
from tenantry.gateway.calls import Call
from tenantry.gateway.credential_choice import choose_credential
from tenantry.gateway.forwarding import Forwarding
from tenantry.gateway.headers import client_response
from tenantry.gateway.lanes import Ask
from tenantry.gateway.refusals import limit_refusal
from tenantry.wire.http1 import LAST_CHUNK, chunk, response_head
from tenantry.wire.inspect import BadBody, MessageFields, inspect_message
from tenantry.wire.routes import Kind

if TYPE_CHECKING:
    from tenantry.gateway.core import Gateway
    from tenantry.gateway.server import ClientConnection

# Claude Code gives up after 300 s without bytes (reference 4.1); upstream pings well within that.
ANSWER_IDLE_SECONDS_MAX = 330.0
# How long an answer is read on for the bill when its client has gone.
DRAIN_SECONDS_MAX = 60.0
# How long a client may take no byte of a waiting answer before it counts as gone.
CLIENT_STALL_SECONDS_MAX = 60.0
# The quarter that English text and code come to (reference 3.4); corrected when the answer tells the usage.
BYTES_PER_TOKEN = 4

_ids = random.SystemRandom()
_id_source = random.Random(_ids.getrandbits(256))  # noqa: S311 -- names, not secrets: they only have to be unique


def new_request_id() -> str:
    """`req_` and 24 hexadecimal digits."""
    return f"req_{_id_source.getrandbits(96):024x}"


class Exchange:
    """See the module. Life: `open` (head) -> `begin` (body) -> waits for its turn -> answer relayed -> `_close`."""

    __slots__ = (
        "_ask",
        "_body",
        "_body_framing",
        "_call",
        "_client",
        "_credential",
        "_forwarding",
        "_gateway",
        "_metered",
        "_out",
        "_warning",
        "deadline",
        "principal",
        "request_id",
        "started",
    )

    def __init__(self, gateway: Gateway, client: ClientConnection, call: Call) -> None:
        self._gateway = gateway
        self._client: ClientConnection | None = client
        self._call = call
        self._metered: MessageFields | None = None  # the fields of a request that may cost money
        self._credential: Credential | None = None
        self._ask: Ask | None = None
        self._forwarding: Forwarding | None = None
        self._body = b""  # while it waits
        self._body_framing = _Framing.NONE
        self._out: list[bytes] = []
        self._warning = ""
        self.principal: Principal | None = None
        self.request_id = new_request_id()
        self.started = False  # the client has been sent a response head
        self.deadline = float("inf")

    def open(self) -> None:
        """Decide on the head alone, before any of the body is read.

        Raises:
            ApiError: the request is refused.
        """
        if not self._call.target.route.open_to_all:
            self.principal = self._call.principal(self._gateway)

    def begin(self, body: bytes) -> None:
        """Decide on the whole request; send it on, or let it wait for its turn.

        Raises:
            ApiError: the request is refused; nothing was forwarded.
        """
        kind, principal = self._call.target.route.kind, self.principal
        if principal is None:
            self._answer_here(kind)
            return
        if self._gateway.stopping:
            raise NotReady
        client = self._client
        if client is not None:
            agent = self._call.head.fields.get(b"user-agent", b"")
            self._gateway.tallies.used(principal.key.key_id, client.peer, agent)
        if kind is not Kind.MODELS:
            fields = self._inspect(body, kind)
            self._metered = fields if kind is Kind.MESSAGES else None
            body, self._warning = self._gateway.policies.apply(self._gateway, principal, self._call.head, fields, body)
        self._enter(principal, body)

    def _inspect(self, body: bytes, kind: Kind) -> MessageFields:
        encoding = self._call.head.fields.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            raise InvalidRequest("Compressed request bodies are not accepted; send the body as it is.")
        try:
            return inspect_message(body, count_only=kind is Kind.COUNT_TOKENS)
        except BadBody as error:
            raise InvalidRequest(str(error)) from None

    def _answer_here(self, kind: Kind) -> None:
        body = b"" if kind is Kind.HELLO else b'{"status":"ok"}'
        self.answer(200, [(b"content-type", b"application/json")], body)

    # Admission

    def _enter(self, principal: Principal, body: bytes) -> None:
        gateway, metered, tenant = self._gateway, self._metered, principal.tenant
        credential = self._credential = choose_credential(gateway, tenant)
        ask = self._ask = Ask(
            tenant,
            principal.key,
            credential if metered is not None else None,
            metered.model if metered is not None else "",
            len(body) // BYTES_PER_TOKEN if metered is not None else 0,
            self._on_grant,
        )
        found = gateway.lanes.ask(ask)
        gateway.exchanges.add(self)
        if isinstance(found, Grant):
            self._forward(principal, body)
        elif found is None:
            self._body = body
            self.deadline = gateway.now() + tenant.limits.queue_wait_ms_max / 1000
        else:
            self._close()
            raise limit_refusal(found, principal)

    def _on_grant(self, _grant: Grant) -> None:
        """A request that had to wait has its turn."""
        body, self._body = self._body, b""
        self.deadline = float("inf")
        if self.principal is None:
            return
        try:
            self._forward(self.principal, body)
        except ApiError as error:
            self.refuse(error)

    def _forward(self, principal: Principal, body: bytes) -> None:
        ask, credential = self._ask, self._credential
        if ask is None or credential is None:
            return
        try:
            forwarding = self._forwarding = Forwarding(
                self._gateway, self, self._call, principal, ask, self._metered, body, self.request_id
            )
            forwarding.start(credential)
        except ApiError:
            self._close()
            raise

    @property
    def _is_waiting(self) -> bool:
        return self._ask is not None and self._ask.queue is not None

    def _leave(self) -> Obstacle | None:
        ask = self._ask
        self._body = b""
        return self._gateway.lanes.leave(ask) if ask is not None else None

    def stop_waiting(self) -> None:
        """The gateway stops: who waits is sent away, who is served goes on."""
        if self._is_waiting:
            self.refuse(NotReady())

    def count_output(self) -> None:
        """Called now and then while the answer comes."""
        if self._forwarding is not None:
            self._forwarding.count_output()

    # What the forwarding tells

    @property
    def has_client(self) -> bool:
        return self._client is not None

    def expect_head(self, seconds: float) -> None:
        """An answer should begin within `seconds`."""
        self.deadline = self._gateway.now() + seconds

    def on_head(self, status: int, headers: Headers, fields: Fields) -> None:
        self.deadline = self._gateway.now() + ANSWER_IDLE_SECONDS_MAX
        client = self._client
        if client is None:
            return
        self.started = True
        sent = client_response(headers)
        sent.append((b"request-id", self.request_id.encode()))
        length = fields.get(b"content-length")
        # The gateway may have to add an `error` event to a stream, so its length is never promised.
        if length is not None and b"event-stream" not in fields.get(b"content-type", b""):
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
        lines = self.quota_lines()
        if status == 200 and self.principal is not None:
            lines += self._gateway.till.header_lines(self.principal, time.time_ns() // 1000)
            if self._warning:
                sent.append((WARNING_FIELD, self._warning.encode()))
        self._out.append(response_head(status, sent, lines))

    def quota_lines(self) -> bytes:
        """The tenant's own rate-limit fields as header lines."""
        gateway, principal = self._gateway, self.principal
        if principal is None:
            return b""
        lanes = gateway.lanes
        key_lane = lanes.key_lane_of(principal.key)
        return gateway.quota_headers.lines(lanes.lane_of(principal.tenant), key_lane, gateway.now())

    def on_body(self, ready: bytes) -> None:
        if self._client is None:
            return
        self.deadline = self._gateway.now() + ANSWER_IDLE_SECONDS_MAX
        self._out.append(chunk(ready) if self._body_framing is _Framing.CHUNKED else ready)

    def flush(self) -> None:
        """Write what one read of the upstream gave, in one go."""
        out = self._out
        if out and self._client is not None:
            self._client.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    def on_end(self, rest: bytes | None) -> None:
        """The upstream's answer is complete; `rest` is what the relay still had, None when it cannot be ended well."""
        self._end_or_cut(rest)

    def on_cut(self) -> None:
        """The upstream's answer broke off."""
        if self._client is None:
            self._close()
        else:
            self._interrupt("api_error", "The connection to the upstream broke off before the message was complete.")

    def interrupt(self, reason: str, error: ApiError) -> None:
        """End the exchange from this side. `reason` is what the ledger says."""
        if self._is_waiting:
            self._leave()
        if self._forwarding is not None:
            self._forwarding.stop(reason)
        if self._client is None:
            self._close()
        elif self.started:
            self._interrupt(error.error_type, error.message)
        else:
            self.refuse(error)

    def _interrupt(self, error_type: str, message: str) -> None:
        forwarding = self._forwarding
        self._end_or_cut(forwarding.interruption(error_type, message) if forwarding is not None else None)

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

    # What the client's connection tells

    def client_gone(self) -> None:
        """The client left. Its answer is read on for the bill, for a while, or cancelled (DESIGN 4.8)."""
        self._client = None
        self._out.clear()
        if self._is_waiting:
            self._leave()
        forwarding, principal = self._forwarding, self.principal
        keep = principal is not None and principal.tenant.disconnect is Disconnect.DRAIN
        if forwarding is not None and forwarding.client_gone(keep_reading=keep):
            self.deadline = self._gateway.now() + DRAIN_SECONDS_MAX
        else:
            self._close()

    def client_paused(self) -> None:
        if self._forwarding is not None:
            self._forwarding.pause()
            self.deadline = self._gateway.now() + CLIENT_STALL_SECONDS_MAX

    def client_resumed(self) -> None:
        if self._forwarding is not None:
            self._forwarding.resume()
            self.deadline = self._gateway.now() + ANSWER_IDLE_SECONDS_MAX

    def overdue(self) -> None:
        """The deadline has passed: whose fault it is depends on who was being waited for."""
        client, forwarding = self._client, self._forwarding
        if self._is_waiting:
            obstacle = self._leave()
            if obstacle is not None and self.principal is not None:
                self.refuse(limit_refusal(obstacle, self.principal))
        elif client is not None and client.is_paused:
            client.abort()  # comes back as client_gone, and the answer is drained
        elif forwarding is None:
            self._close()
        elif self.started or client is None:
            forwarding.stop("timed_out")
            self._interrupt("timeout_error", "The upstream was silent for too long.")
        else:
            forwarding.time_out()

    # Answers made here

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer from the gateway itself."""
        client = self._client
        self._close()
        if client is not None:
            client.answer(status, headers, body, self.request_id, self._call.head.method == b"HEAD")

    def refuse(self, error: ApiError) -> None:
        """Answer with an error and give everything back."""
        client = self._client
        if self._is_waiting:
            self._leave()
        self._close()
        if client is not None:
            client.refuse(error, self.request_id)

    def _close(self) -> None:
        """Give everything back, once."""
        ask, self._ask = self._ask, None
        self._client = None
        self._forwarding = None
        self._body = b""
        if ask is not None:
            gateway = self._gateway
            gateway.exchanges.discard(self)
            gateway.lanes.release(ask)
            gateway.exchange_closed()


class _Framing:
    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3
