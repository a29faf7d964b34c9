"""One request of a client: whose it is, what it asks for, the bytes to send, its id."""

from __future__ import annotations

import os
from time import time_ns
from typing import Final

from tenantry.domain.errors import InvalidRequest
from tenantry.gateway.authentication import Principal
from tenantry.gateway.caller import Caller
from tenantry.gateway.deadlines import NEVER
from tenantry.gateway.population import Served
from tenantry.wire.inspect import BadBody, MessageFields, inspect_message
from tenantry.wire.members import members_of
from tenantry.wire.object_ids import find_object_id

# A name begins with the time in units of 2^20 ns, about a millisecond: 44 bits last until the year 2554. What is booked
# one after the other then stands side by side in the ledger's indexes. 52 random bits follow: at a thousand requests a
# second two names are equal once in a quarter of a million years, over all restarts and gateways.
_NAME_TIME_SHIFT: Final = 20
_RANDOM_DIGITS: Final = 13
# The random digits of so many names are drawn at once: drawing them takes ten times as long as cutting them off.
NAMES_DRAWN: Final = 256


class Names:
    """24 hexadecimal digits, which name a request and its attempts. They grow with time; nothing relies on that."""

    __slots__ = ("_at", "_drawn")

    def __init__(self) -> None:
        self._drawn = b""
        self._at = 0

    def new(self) -> bytes:
        at = self._at
        if at >= len(self._drawn):
            self._drawn, at = os.urandom(NAMES_DRAWN * _RANDOM_DIGITS // 2).hex().encode(), 0
        self._at = end = at + _RANDOM_DIGITS
        return b"%011x%b" % (time_ns() >> _NAME_TIME_SHIFT, self._drawn[at:end])


_names: Final = Names()


def new_request_id() -> str:
    """The id of a request that came to no exchange."""
    return "req_" + _names.new().decode()


class Request(Served):
    """`fields` are those of a request that may cost money, None for free routes. `warning` is for the client.

    `body` is what is sent; it is let go when the answer begins. `body_bytes` is how large it was. `name`: of the
    request and its attempts, without what shows which of them it is. `is_bound`: it names something upstream, so that
    no other credential can serve it. `waited_us`: how long it had to wait for its turn. `came_at`:
    when it was whole, seconds of the loop; `NEVER` once it has gone upstream.
    """

    __slots__ = ("body", "body_bytes", "caller", "came_at", "fields", "is_bound", "name", "waited_us", "warning")

    def __init__(self, caller: Caller, principal: Principal, body: bytes) -> None:
        # As `Served` and `Timed` do, without their calls.
        self.principal = principal
        self.deadline = self.watched_at = NEVER
        self.caller = caller
        self.name = _names.new()
        self.body = body
        self.body_bytes = len(body)
        self.fields: MessageFields | None = None
        self.warning = ""
        self.is_bound = False
        self.waited_us = 0
        self.came_at = NEVER

    @property
    def request_id(self) -> str:
        return "req_" + self.name.decode()

    def named(self) -> dict[str, str]:
        """Which request it is and whose, for a line of the log."""
        return {"request_id": self.request_id, "tenant": self.principal.tenant.slug}


def read_fields(caller: Caller, body: bytes) -> MessageFields:
    """The fields of `body` that the gateway acts on. Pure: a large body is read beside the event loop.

    Raises:
        InvalidRequest: the body is not what the route takes.
    """
    if caller.is_encoded:
        raise InvalidRequest("Compressed request bodies are not accepted; send the body as it is.")
    try:
        fields = inspect_message(body, count_only=not caller.is_metered)
    except BadBody as error:
        raise InvalidRequest(str(error)) from None
    if caller.shares_credential:
        fields.object_id = find_object_id(body, members_of(fields))
    return fields
