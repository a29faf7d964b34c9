"""One request sent upstream: journalled before its first byte leaves, watched, settled exactly once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from tenantry.domain.attempts import AttemptBegun, AttemptEnded, AttemptProgress
from tenantry.domain.directory import Credential
from tenantry.domain.prompt_budget import saved_by_caching_nanos
from tenantry.domain.settlement import Observed, Sent, Settlement, settle
from tenantry.domain.usage import Usage
from tenantry.gateway.authentication import Principal
from tenantry.gateway.relay import MESSAGE, PLAIN, STREAM, Relay, is_event_stream
from tenantry.gateway.upstream import ConnectFailed, Pool, UpstreamConnection
from tenantry.wire.inspect import MessageFields

if TYPE_CHECKING:
    from tenantry.gateway.core import Gateway


# A stream tells how far it has come after so many characters; what it holds ahead is eight times that (StreamMeter).
TELL_CHARS = 256

Headers = list[tuple[bytes, bytes]]
Fields = dict[bytes, bytes]  # the last value of each name


class AttemptSink(Protocol):
    """Who is told how an attempt goes. Exactly one of `on_end` and `on_broken` comes last, after the settlement."""

    def on_head(self, status: int, headers: Headers, fields: Fields) -> None: ...
    def on_body(self, ready: bytes) -> None: ...
    def on_flush(self) -> None: ...
    def on_usage(self, model: str | None, usage: Usage) -> None: ...
    def on_produced(self, chars: int) -> None: ...
    def on_settled(self, booked: Settlement) -> None: ...
    def on_end(self, rest: bytes | None) -> None: ...
    def on_broken(self, reason: str) -> None: ...


class Attempt:
    """Receives the upstream's answer through its relay and hands it to its sink.

    `metered` holds the inspected fields of a request that may cost money; None for free routes, which leave no row.
    """

    __slots__ = (
        "_connecting",
        "_connection",
        "_first_byte_at_us",
        "_gateway",
        "_is_stream",
        "_metered",
        "_principal",
        "_progress_due",
        "_request_id",
        "_settled",
        "_sink",
        "_status",
        "_told_chars",
        "_unsent",
        "_upstream_request_id",
        "attempt_id",
        "client_gone",
        "credential",
        "relay",
        "was_sent",
    )

    def __init__(
        self,
        gateway: Gateway,
        sink: AttemptSink,
        principal: Principal,
        credential: Credential,
        metered: MessageFields | None,
        request_id: str,
        number: int,
    ) -> None:
        self._gateway = gateway
        self._sink: AttemptSink | None = sink
        self._principal = principal
        self._metered = metered
        self._request_id = request_id
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._status: int | None = None
        self._first_byte_at_us: int | None = None
        self._upstream_request_id: str | None = None
        self._progress_due = False
        self._is_stream = False
        self._told_chars = 0
        self._settled = False
        self._unsent: tuple[Pool, bytes, bytes] | None = None
        self.attempt_id = f"att_{request_id[4:]}_{number}"
        self.credential = credential
        self.relay: Relay = PLAIN
        self.client_gone = False
        self.was_sent = False

    def start(self, pool: Pool, head: bytes, body: bytes) -> None:
        """Write the attempt to the journal, then send it."""
        metered, principal = self._metered, self._principal
        if metered is None:
            self._take_connection(pool, head, body)
            return
        self._unsent = (pool, head, body)
        self._gateway.recorder.begin(
            AttemptBegun(
                self.attempt_id,
                self._request_id,
                principal.tenant.tenant_id,
                principal.key.key_id,
                self.credential.credential_id,
                self.credential.upstream.upstream_id,
                metered.model,
                metered.stream,
                time.time_ns() // 1000,
            ),
            self._on_journalled,
        )

    def _on_journalled(self, written: bool) -> None:
        unsent, self._unsent = self._unsent, None
        if self._sink is None or unsent is None:
            return  # settled meanwhile: the client has gone
        if written:
            self._take_connection(*unsent)
        else:
            self._metered = None  # no begin, no end
            self._break("journal_unavailable")

    def _take_connection(self, pool: Pool, head: bytes, body: bytes) -> None:
        connection = pool.take()
        if connection is not None:
            self._send(connection, head, body)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(pool, head, body))

    async def _connect(self, pool: Pool, head: bytes, body: bytes) -> None:
        try:
            connection = await pool.connect()
        except ConnectFailed:
            self._connecting = None
            self._break("connect_failed")
            return
        self._connecting = None
        if self._sink is None:
            connection.close()
        else:
            self._send(connection, head, body)

    def _send(self, connection: UpstreamConnection, head: bytes, body: bytes) -> None:
        self._connection = connection
        self.was_sent = True
        connection.send(self, head, body)

    # What the upstream's connection tells

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status
        self._first_byte_at_us = time.time_ns() // 1000
        fields, metered = dict(headers), self._metered
        told = fields.get(b"request-id")
        if told is not None:
            self._upstream_request_id = told.decode("latin-1")
        if status == 200 and metered is not None:
            is_stream = is_event_stream(fields)
            self.relay = Relay(STREAM if is_stream else MESSAGE, metered.wants_1h)
            self._progress_due = self._is_stream = is_stream
        if self._sink is not None:
            self._sink.on_head(status, headers, fields)

    def on_body(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:
            return
        ready = self.relay.feed(data)
        if self._progress_due:
            self._tell_progress(sink)
        if ready:
            sink.on_body(ready)
        if self._is_stream and self.relay.chars >= self._told_chars and self._sink is not None:
            self._told_chars = self.relay.chars + TELL_CHARS
            sink.on_produced(self.relay.chars)

    def _tell_progress(self, sink: AttemptSink) -> None:
        """Journal the usage that opens a stream, so that a crash leaves it known."""
        if not self.relay.has_started:
            return
        self._progress_due = False
        seen = self.relay.observed()
        self._journal_progress(seen, seen.usage)
        sink.on_usage(seen.model, seen.usage)

    def note_produced(self) -> None:
        """Journal how far the stream has come: that is what a crash would leave of it."""
        seen = self.relay.observed()
        produced = max(seen.usage.output_tokens, seen.estimated_output_tokens)
        self._journal_progress(seen, replace(seen.usage, output_tokens=produced))

    def _journal_progress(self, seen: Observed, usage: Usage) -> None:
        self._gateway.recorder.progress(
            AttemptProgress(self.attempt_id, seen.model or "", usage, self._upstream_request_id)
        )

    def on_flush(self) -> None:
        if self._sink is not None:
            self._sink.on_flush()

    def on_end(self) -> None:
        self._connection = None
        sink = self._sink
        if sink is not None:
            rest = self.relay.finish()
            self.settle(None)
            sink.on_end(rest)

    def on_broken(self, reason: str) -> None:
        self._connection = None
        self._break(reason)

    def _break(self, reason: str) -> None:
        sink = self._sink
        if sink is not None:
            self.settle(reason)
            sink.on_broken(reason)

    # What the sink asks

    def pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def abandon(self) -> None:
        """Stop waiting for the answer. Its connection cannot be used again."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    def settle(self, error: str | None) -> None:
        """Price what was seen, tell it and write the end, exactly once. Nothing is told to the sink after it."""
        if self._settled:
            return
        self._settled = True
        sink, self._sink = self._sink, None
        if self._metered is None:
            return
        seen = self.relay.observed()
        ended_at_us = time.time_ns() // 1000
        sent = Sent(self._metered.model, self._status, self.was_sent, 0, 0, 0, self._metered.output_tokens_max)
        booked = settle(sent, seen, self._gateway.prices, ended_at_us)
        self._gateway.recorder.end(
            AttemptEnded(
                self.attempt_id,
                ended_at_us,
                self._first_byte_at_us,
                self._status,
                booked.outcome,
                seen.model,
                seen.stop_reason,
                booked.usage,
                seen.usage_raw,
                booked.cost_nanos,
                booked.price_version,
                self._upstream_request_id,
                error or seen.failed or ("client_gone" if self.client_gone else None),
                self._saved(seen.model, booked, ended_at_us) if self._metered.is_cached_here else None,
            )
        )
        if sink is not None:
            sink.on_settled(booked)

    def _saved(self, model: str | None, booked: Settlement, at_us: int) -> int | None:
        """What the cache breakpoint that was added here has saved; below 0 for the write that begins it."""
        usage, at = booked.usage, datetime.fromtimestamp(at_us / 1_000_000, UTC)
        is_us = usage.inference_geo == "us"
        rates = self._gateway.prices.rates(model or "", usage.prompt_tokens, at, speed=usage.speed, is_us=is_us)
        return None if rates is None else saved_by_caching_nanos(usage, rates)
