"""One request sent upstream: journalled before its first byte leaves, settled exactly once."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tenantry.domain.attempts import AttemptBegun, AttemptEnded
from tenantry.domain.directory import Credential
from tenantry.domain.settlement import Observed, settle
from tenantry.gateway.authentication import Principal
from tenantry.gateway.upstream import ConnectFailed, Pool, UpstreamConnection
from tenantry.wire.inspect import MessageFields

if TYPE_CHECKING:
    from tenantry.gateway.exchange import Exchange
    from tenantry.gateway.server import Gateway


class Attempt:
    """Receives the upstream's answer and hands it to its exchange.

    `metered` holds the inspected fields of a request that may cost money; None for free routes, which leave no row.
    """

    __slots__ = (
        "_connecting",
        "_connection",
        "_credential",
        "_exchange",
        "_first_byte_at_us",
        "_gateway",
        "_metered",
        "_principal",
        "_progress_due",
        "_settled",
        "_status",
        "_unsent",
        "_upstream_request_id",
        "attempt_id",
        "client_gone",
        "was_sent",
    )

    def __init__(
        self,
        gateway: Gateway,
        exchange: Exchange,
        principal: Principal,
        credential: Credential,
        metered: MessageFields | None,
    ) -> None:
        self._gateway = gateway
        self._exchange: Exchange | None = exchange
        self._principal = principal
        self._credential = credential
        self._metered = metered
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._status: int | None = None
        self._first_byte_at_us: int | None = None
        self._upstream_request_id: str | None = None
        self._progress_due = False
        self._settled = False
        self._unsent: tuple[Pool, bytes, bytes] | None = None
        self.attempt_id = f"att_{exchange.request_id[4:]}_1"
        self.client_gone = False
        self.was_sent = False

    def start(self, pool: Pool, head: bytes, body: bytes) -> None:
        """Write the attempt to the journal, then send it."""
        metered, principal, exchange = self._metered, self._principal, self._exchange
        if metered is None or exchange is None:
            self._take_connection(pool, head, body)
            return
        self._unsent = (pool, head, body)
        self._gateway.journal_begin(
            AttemptBegun(
                self.attempt_id,
                exchange.request_id,
                principal.tenant.tenant_id,
                principal.key.key_id,
                self._credential.credential_id,
                self._credential.upstream.upstream_id,
                metered.model,
                metered.stream,
                time.time_ns() // 1000,
            ),
            self._on_journalled,
        )

    def _on_journalled(self, written: bool) -> None:
        unsent, self._unsent = self._unsent, None
        if self._exchange is None or unsent is None:
            return  # settled meanwhile: the client has gone
        if written:
            self._take_connection(*unsent)
        else:
            self._metered = None  # no begin, no end
            self._exchange.on_broken("journal_unavailable")

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
            if self._exchange is not None:
                self._exchange.on_broken("connect_failed")
            return
        self._connecting = None
        if self._exchange is None:
            connection.close()
        else:
            self._send(connection, head, body)

    def _send(self, connection: UpstreamConnection, head: bytes, body: bytes) -> None:
        self._connection = connection
        self.was_sent = True
        connection.send(self, head, body)

    # What the upstream's connection tells

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        self._first_byte_at_us = time.time_ns() // 1000
        for name, value in headers:
            if name == b"request-id":
                self._upstream_request_id = value.decode("latin-1")
        self._progress_due = status == 200 and self._metered is not None and self._metered.stream
        if self._exchange is not None:
            self._exchange.on_head(status, headers)

    def on_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        exchange.on_body(data)
        if self._progress_due:
            self._progress_due = not exchange.record_progress(self.attempt_id, self._upstream_request_id)

    def on_flush(self) -> None:
        if self._exchange is not None:
            self._exchange.flush()

    def on_end(self) -> None:
        self._connection = None
        if self._exchange is not None:
            self._exchange.on_end()

    def on_broken(self, reason: str) -> None:
        self._connection = None
        if self._exchange is not None:
            self._exchange.on_broken(reason)

    # What the exchange asks

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

    def settle(self, seen: Observed, error: str | None) -> None:
        """Price what was seen and write the end, exactly once."""
        if self._settled:
            return
        self._settled = True
        self._exchange = None
        if self._metered is None:
            return
        ended_at_us = time.time_ns() // 1000
        booked = settle(self._status, self.was_sent, seen, self._metered.model, self._gateway.prices, ended_at_us)
        self._gateway.journal_end(
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
            )
        )
