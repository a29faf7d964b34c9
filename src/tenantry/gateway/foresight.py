"""A large request that another gateway grants for: that one is asked on the head alone, before any of the body comes.

What it would refuse whatever the body says, a full bucket or a budget that is spent (`early.py`), is refused before 32
MiB have come here. Nothing is granted or held by the question; where it gets no answer in time, the body is read.
"""

from __future__ import annotations

from typing import Final

from tenantry.domain.errors import ApiError, NotReady
from tenantry.domain.owners import At, Cells, Unknown
from tenantry.gateway.answer import HELD_BYTES_MAX, Client
from tenantry.gateway.at_peer import AtPeer
from tenantry.gateway.authentication import Principal
from tenantry.gateway.caller import Caller
from tenantry.gateway.parts import Parts
from tenantry.gateway.upstream import ResponseHead, UpstreamConnection

# Between gateways it takes a millisecond. Beyond this, waiting costs the client more than a body that is read in vain.
ASKED_SECONDS_MAX: Final = 3.0
# What another gateway answers where it knows of nothing.
NOTHING_KNOWN: Final = 200


class Foresight(AtPeer):
    """One question. `size`: bytes of the body; 0: not known. Its client waits, and is told how it goes on.

    `_told_head`, `_told_body`: the answer, as far as it has come; no head: it is no answer of ours.
    """

    __slots__ = ("_size", "_told_body", "_told_head")

    def __init__(
        self, parts: Parts, cells: Cells, client: Client, caller: Caller, principal: Principal, size: int
    ) -> None:
        AtPeer.__init__(self, parts, cells, client, caller, principal)
        self._size = size
        self._told_head: ResponseHead | None = None
        self._told_body = b""

    # There

    def ask(self) -> None:
        """Ask who is known to grant; where nobody is known, the store first who that is."""
        self._parts.population.served.add(self)
        self._expect(ASKED_SECONDS_MAX)
        if isinstance(self._cells.owner_of(self.principal.tenant.tenant_id), Unknown):
            self._ask_store()
        else:
            self.on_told()

    def on_told(self) -> None:
        owner = self._cells.owner_of(self.principal.tenant.tenant_id)
        if not isinstance(owner, At) or not self._reach(owner):
            self._go_on()  # it is granted for here, or nobody can be asked

    def on_unreached(self, reason: str) -> None:
        self._go_on()

    def on_connected(self, connection: UpstreamConnection) -> None:
        client = self._client
        if client is not None:
            self._send(connection, self._caller.question_for_peer(client.peer, self._size), b"")

    # And back

    def on_head(self, head: ResponseHead) -> None:
        self._told_head = head

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self._told_head, self._told_body = head, body
        self.on_end()

    def on_body(self, data: bytes) -> None:
        self._told_body += data
        if len(self._told_body) > HELD_BYTES_MAX:  # no refusal of ours
            self._told_head = None

    def on_end(self) -> None:
        client, head, self._connection = self._client, self._told_head, None
        if head is None or head.status == NOTHING_KNOWN or head.status >= 500 or client is None:
            self._go_on()
            return
        self._leave()
        client.turn_away(head.passed_on(False, is_chunked=head.length is None) + self._told_body)

    def on_broken(self, reason: str) -> None:
        self._connection = None
        self._go_on()

    # The client, the clock, the operator

    def client_ended(self) -> bool:
        return True

    def client_paused(self) -> None:
        """It is given nothing."""

    def client_resumed(self) -> None:
        """It was given nothing."""

    def overdue(self) -> None:
        self._go_on()

    def pass_on(self) -> None:
        """Whoever takes this gateway's place is given the request when its body has come."""
        self._go_on()

    def move_on(self) -> None:
        """Nothing is granted here. Who is asked says whether it grants, and the body is passed to who does."""

    def stop(self) -> None:
        self._turn_away(NotReady())

    def cut(self, reason: str, error: ApiError) -> None:
        self._turn_away(error)

    # The end

    def _go_on(self) -> None:
        client = self._client
        self._leave()
        if client is not None:
            client.want_body()

    def _turn_away(self, error: ApiError) -> None:
        """Its body is not read."""
        if self._client is not None:
            self._client.keeps_alive = False
        self._refuse(error)
