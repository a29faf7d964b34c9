"""What a request has with another gateway of the site: the way there, what it waits for meanwhile, and its end.

`hop.py` passes the request itself there, `foresight.py` asks about a large one on its head. Nothing is granted,
counted, held or journalled here: the other gateway does all of that.
"""

from __future__ import annotations

from collections.abc import Callable

from tenantry.domain.errors import ApiError
from tenantry.domain.owners import At, Cells
from tenantry.gateway.answer import Client
from tenantry.gateway.authentication import Principal
from tenantry.gateway.caller import Caller
from tenantry.gateway.parts import Parts
from tenantry.gateway.population import Served
from tenantry.gateway.request import new_request_id
from tenantry.gateway.upstream import ConnectFailed, Connecting, ResponseHead, ResponseSink, UpstreamConnection
from tenantry.wire.bytework import plain_chunk


class AtPeer(Served):
    """One request, for one client, that waits for the store, for a connection to another gateway, or for its answer.

    `_client` is None when it has left or was answered. Of what is waited for, each is None when it is not.
    """

    __slots__ = ("_answer", "_caller", "_cells", "_client", "_connecting", "_connection", "_parts", "_stop_waiting")

    def __init__(self, parts: Parts, cells: Cells, client: Client, caller: Caller, principal: Principal) -> None:
        Served.__init__(self, principal)
        self._parts = parts
        self._cells = cells
        self._client: Client | None = client
        self._caller = caller
        self._connecting: Connecting | None = None
        self._connection: UpstreamConnection | None = None
        self._answer: PeerAnswer | None = None
        self._stop_waiting: Callable[[], None] | None = None

    # There

    def _ask_store(self) -> None:
        """Who grants for its tenant; `on_told` follows."""
        self._stop_waiting = self._cells.wait_for(self.principal.tenant.tenant_id, self._on_store_told)

    def _on_store_told(self) -> None:
        self._stop_waiting = None
        self.on_told()

    def _reach(self, owner: At) -> bool:
        """Find a connection to another gateway; `on_connected` follows, now or later. False: it has no address."""
        peers = self._parts.peers
        pool = peers.of(owner.gateway_id, owner.address) if peers is not None else None
        if pool is None:
            return False
        connection = pool.take()
        if connection is not None:
            self.on_connected(connection)
        else:
            self.on_connecting()
            self._connecting = pool.connect(self._on_connect_ended)
        return True

    def _on_connect_ended(self, found: UpstreamConnection | ConnectFailed) -> None:
        self._connecting = None
        if isinstance(found, ConnectFailed):
            self.on_unreached(found.reason)
        else:
            self.on_reached()
            self.on_connected(found)

    def _send(self, connection: UpstreamConnection, head: bytes, body: bytes) -> None:
        self._connection = connection
        answer = self._answer = PeerAnswer(self)
        connection.send(answer, head, body)

    def on_told(self) -> None:
        """The store has said who grants for its tenant, or could not be asked."""
        raise NotImplementedError

    def on_connecting(self) -> None:
        """A connection is about to be made."""

    def on_reached(self) -> None:
        """A connection was made."""

    def on_unreached(self, reason: str) -> None:
        """None could be made."""
        raise NotImplementedError

    def on_connected(self, connection: UpstreamConnection) -> None:
        """It may be sent."""
        raise NotImplementedError

    # And back, as `ResponseSink` has them

    def on_head(self, head: ResponseHead) -> None:
        raise NotImplementedError

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        raise NotImplementedError

    def on_chunk(self, data: bytes) -> bool:
        return False

    def on_body(self, data: bytes) -> None:
        raise NotImplementedError

    def on_end(self) -> None:
        raise NotImplementedError

    def on_broken(self, reason: str) -> None:
        raise NotImplementedError

    # The operator

    @property
    def model(self) -> str:
        return ""

    @property
    def is_waiting(self) -> bool:
        return False

    @property
    def is_unsent(self) -> bool:
        """Nothing of it goes upstream from here."""
        return True

    def look(self) -> None:
        """What its stream produces is counted where it is granted."""

    # The end

    def client_gone(self) -> None:
        """The other gateway finds its connection closed, and does what it does when a client leaves."""
        self._client = None
        self._leave()

    def _refuse(self, error: ApiError) -> None:
        client = self._client
        self._leave()
        if client is not None:
            client.refuse(error, new_request_id())

    def _expect(self, seconds: float) -> None:
        """What it waits for has to come within `seconds`."""
        client = self._client
        self.deadline = self._parts.clock.now() + seconds
        if client is not None:
            self._parts.deadlines.set(client, self.deadline)

    def _cease(self) -> None:
        """Nobody is waited for any more."""
        stop, self._stop_waiting = self._stop_waiting, None
        if stop is not None:
            stop()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.asked = None

    def _leave(self) -> None:
        self._cease()
        self._client = None
        self._parts.deadlines.forget(self)
        self._parts.population.leave(self)


class PeerAnswer(ResponseSink):
    """The answer of the other gateway, as its connection tells of it; `asked` is None when nobody wants it any more."""

    __slots__ = ("asked",)

    def __init__(self, asked: AtPeer) -> None:
        self.asked: AtPeer | None = asked

    def on_head(self, head: ResponseHead) -> None:
        if self.asked is not None:
            self.asked.on_head(head)

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        if self.asked is not None:
            self.asked.on_whole(head, body)

    def on_chunk(self, data: bytes) -> bool:
        return self.asked is not None and plain_chunk(data) > 0 and self.asked.on_chunk(data)

    def on_body(self, data: bytes) -> None:
        if self.asked is not None:
            self.asked.on_body(data)

    def on_flush(self) -> None:
        """All that came has been passed on."""

    def on_end(self) -> None:
        if self.asked is not None:
            self.asked.on_end()

    def on_broken(self, reason: str) -> None:
        if self.asked is not None:
            self.asked.on_broken(reason)
