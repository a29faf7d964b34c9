"""A large request that another gateway grants for: that one is asked on the head alone, before any of the body comes.

What it would refuse whatever the body says, a full bucket or a budget that is spent (`early.py`), is refused before 32
MiB have come here. Nothing is granted or held by the question; where it gets no answer in time, the body is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tenantry.domain.errors import ApiError, NotReady
from tenantry.domain.owners import At, Cells, Unknown
from tenantry.gateway.answer import HELD_BYTES_MAX, Client
from tenantry.gateway.authentication import Principal
from tenantry.gateway.caller import Caller
from tenantry.gateway.parts import Parts
from tenantry.gateway.population import Served
from tenantry.gateway.request import new_request_id
from tenantry.gateway.upstream import ConnectFailed, Connecting, ResponseHead, ResponseSink, UpstreamConnection

# Between gateways it takes a millisecond. Beyond this, waiting costs the client more than a body that is read in vain.
ASKED_SECONDS_MAX: Final = 3.0
# What another gateway answers where it knows of nothing.
NOTHING_KNOWN: Final = 200


class Foresight(Served):
    """One question. `size`: bytes of the body; 0: not known. Its client waits, and is told how it goes on."""

    __slots__ = ("_answer", "_caller", "_cells", "_client", "_connecting", "_connection", "_parts", "_size", "_stop")

    def __init__(
        self, parts: Parts, cells: Cells, client: Client, caller: Caller, principal: Principal, size: int
    ) -> None:
        Served.__init__(self, principal)
        self._parts = parts
        self._cells = cells
        self._client: Client | None = client
        self._caller = caller
        self._size = size
        self._stop: Callable[[], None] | None = None
        self._connecting: Connecting | None = None
        self._connection: UpstreamConnection | None = None
        self._answer: OwnersWord | None = None

    def ask(self) -> None:
        """Ask who is known to grant; where nobody is known, the store first who that is."""
        client, tenant_id = self._client, self.principal.tenant.tenant_id
        if client is None:
            return
        self._parts.population.served.add(self)
        self.deadline = self._parts.clock.now() + ASKED_SECONDS_MAX
        self._parts.deadlines.set(client, self.deadline)
        owner = self._cells.owner_of(tenant_id)
        if isinstance(owner, Unknown):
            self._stop = self._cells.wait_for(tenant_id, self._on_told)
        else:
            self._ask_owner()

    def _on_told(self) -> None:
        self._stop = None
        self._ask_owner()

    def _ask_owner(self) -> None:
        owner, peers = self._cells.owner_of(self.principal.tenant.tenant_id), self._parts.peers
        pool = peers.of(owner.gateway_id, owner.address) if isinstance(owner, At) and peers is not None else None
        if pool is None:
            self._go_on()  # it is granted for here, or nobody can be asked
            return
        connection = pool.take()
        if connection is not None:
            self._send(connection)
        else:
            self._connecting = pool.connect(self._on_connected)

    def _on_connected(self, found: UpstreamConnection | ConnectFailed) -> None:
        self._connecting = None
        if isinstance(found, ConnectFailed):
            self._go_on()
        else:
            self._send(found)

    def _send(self, connection: UpstreamConnection) -> None:
        client = self._client
        if client is None:
            return
        self._connection = connection
        self._answer = OwnersWord(self)
        connection.send(self._answer, self._caller.question_for_peer(client.peer, self._size), b"")

    def on_answer(self, head: ResponseHead | None, body: bytes) -> None:
        """The other gateway has said what it knows; None: it could not."""
        client, self._connection = self._client, None
        if head is None or head.status == NOTHING_KNOWN or head.status >= 500 or client is None:
            self._go_on()
            return
        self._leave()
        client.turn_away(head.passed_on(False, is_chunked=head.length is None) + body)

    # The end

    def _go_on(self) -> None:
        client = self._client
        self._leave()
        if client is not None:
            client.want_body()

    def _refuse(self, error: ApiError) -> None:
        client = self._client
        self._leave()
        if client is not None:
            client.keeps_alive = False
            client.refuse(error, new_request_id())

    def _leave(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.asked = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        self._client = None
        self._parts.deadlines.forget(self)
        self._parts.population.leave(self)

    # The client, the clock, the operator

    def client_gone(self) -> None:
        self._client = None
        self._leave()

    def client_ended(self) -> bool:
        return True

    def client_paused(self) -> None:
        """It is given nothing."""

    def client_resumed(self) -> None:
        """It was given nothing."""

    def overdue(self) -> None:
        self._go_on()

    @property
    def model(self) -> str:
        return ""

    @property
    def is_waiting(self) -> bool:
        return False

    @property
    def is_unsent(self) -> bool:
        return True

    def pass_on(self) -> None:
        """Whoever takes this gateway's place is given the request when its body has come."""
        self._go_on()

    def move_on(self) -> None:
        """Nothing is granted here. Who is asked says whether it grants, and the body is passed to who does."""

    def stop(self) -> None:
        self._refuse(NotReady())

    def cut(self, reason: str, error: ApiError) -> None:
        self._refuse(error)

    def look(self) -> None:
        """It produces nothing."""


class OwnersWord(ResponseSink):
    """The answer to a question, as it comes; `asked` is None when nobody wants it any more."""

    __slots__ = ("_body", "_head", "asked")

    def __init__(self, asked: Foresight) -> None:
        self.asked: Foresight | None = asked
        self._head: ResponseHead | None = None
        self._body = b""

    def on_head(self, head: ResponseHead) -> None:
        self._head = head

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self._head, self._body = head, body
        self.on_end()

    def on_chunk(self, data: bytes) -> bool:
        return False

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > HELD_BYTES_MAX:  # no refusal of ours
            self._head = None

    def on_flush(self) -> None:
        """What it means is known at its end."""

    def on_end(self) -> None:
        if self.asked is not None:
            self.asked.on_answer(self._head, self._body)

    def on_broken(self, reason: str) -> None:
        if self.asked is not None:
            self.asked.on_answer(None, b"")
