"""Connections to other gateways of the site: one pool for each, whoever's requests they carry."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from typing import Any, Final, cast

from tenantry.domain.directory import Upstream
from tenantry.domain.subclassing import mypyc_attr
from tenantry.gateway.peers.places import Place, machine_mark, read_place
from tenantry.gateway.peers.proofs import (
    GREETING_BYTES,
    MAGIC,
    PROOF_BYTES,
    REQUESTS,
    is_proof,
    new_nonce,
    proof_of_called,
    proof_of_caller,
    whom,
)
from tenantry.gateway.upstream import ConnectFailed, Pool, Pools, UpstreamConnection
from tenantry.gateway.upstream.pool import Key

# On one network a connection is made in a millisecond, and its proofs are two more ways there and back.
CONNECT_SECONDS_MAX: Final = 3.0
# A machine that is gone says nothing: its connections end after so many probes without an answer, some 20 s.
PROBE_SECONDS: Final = 5
PROBES_MAX: Final = 3
# What stands in a pool's name where upstreams have the tenant.
_BETWEEN_GATEWAYS: Final = "\0gateway"


def keep_probing(transport: asyncio.BaseTransport) -> None:
    """Find out that the other machine is gone, though nothing is being sent (tcp(7))."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES_MAX)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PROBE_SECONDS * PROBES_MAX * 1000)


class NotAPeer(Exception):
    """What answers there is not the gateway that was called."""


class Introduction:
    """A connection to a gateway until both have proved what they are: an `asyncio.Protocol` by its methods."""

    __slots__ = ("_called", "_fingerprint", "_greeting", "_heard", "_key", "_nonce", "_purpose", "done", "transport")

    def __init__(self, key: bytes, called_id: str, place: Place, purpose: bytes = REQUESTS) -> None:
        self._purpose = purpose
        self._key = key
        self._called = whom(called_id, place.text())
        self._fingerprint = place.mark if place.is_tls else ""  # of the certificate that has to be shown
        self._nonce = new_nonce()
        self._greeting = b""
        self._heard = b""
        self.transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # a stream transport by construction
        keep_probing(transport)
        if self._fingerprint:
            found: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
            shown = found.getpeercert(binary_form=True) if found is not None else None
            if shown is None or not is_proof(hashlib.sha256(shown).digest(), bytes.fromhex(self._fingerprint)):
                self._fail("it shows another certificate than the store names")

    def data_received(self, data: bytes) -> None:
        if self.transport is None:
            return
        if self.done.done():  # unasked, it says that it gives way: a request that was sent to it now would be lost
            self.transport.abort()
            return
        self._heard += data
        if not self._greeting and len(self._heard) >= GREETING_BYTES:
            self._greeting, self._heard = self._heard[:GREETING_BYTES], self._heard[GREETING_BYTES:]
            if not self._greeting.startswith(MAGIC):
                self._fail("no gateway answers there")
                return
            its_nonce = self._greeting[len(MAGIC) :]
            proof = proof_of_caller(self._key, self._called, its_nonce, self._nonce, self._purpose)
            self.transport.write(self._nonce + proof)
        if self._greeting and len(self._heard) >= PROOF_BYTES:
            expected = proof_of_called(self._key, self._called, self._greeting[len(MAGIC) :], self._nonce)
            if is_proof(self._heard, expected):
                self.done.set_result(None)
            else:
                self._fail("it cannot prove to be that gateway of this site")

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(NotAPeer(reason))
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("it closed the connection")

    def pause_writing(self) -> None:
        """What is said here fits into any buffer."""

    def resume_writing(self) -> None:
        pass


async def introduce(introduction: Introduction, place: Place, context: ssl.SSLContext | None) -> asyncio.Transport:
    """A connection to a gateway, of which both sides have proved what they are; there is none left of one that fails.

    Raises: OSError, ValueError, NotAPeer: time-outs and TLS are among the first.
    """
    made = cast(Any, lambda: introduction)
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await asyncio.get_running_loop().create_connection(made, place.host, place.port, ssl=context)
            await introduction.done
    except BaseException:  # who waited for it may have left
        if introduction.transport is not None:
            introduction.transport.abort()
        raise
    if introduction.transport is None:
        raise NotAPeer("it closed the connection")
    return introduction.transport


class PeerPool(Pool):
    """Idle connections to one gateway."""

    __slots__ = ("_called_id", "_context", "_peer_key", "_place")

    def __init__(
        self, pools: Pools, key: Key, place: Place, called_id: str, peer_key: bytes, context: ssl.SSLContext | None
    ) -> None:
        host = f"[{place.host}]" if ":" in place.host else place.host
        Pool.__init__(self, pools, key, Upstream(called_id, called_id, f"http://{host}:{place.port}"))
        self._place = place
        self._called_id = called_id
        self._peer_key = peer_key
        self._context = context

    async def open_connection(self) -> UpstreamConnection | ConnectFailed:
        place = self._place
        self.begin_making()
        try:
            introduction = Introduction(self._peer_key, self._called_id, place)
            return self.adopt(await introduce(introduction, place, self._context), is_tls=place.is_tls)
        except (OSError, ValueError, NotAPeer) as error:
            return ConnectFailed(str(error) or "too slow")
        finally:
            self.end_making()


@mypyc_attr(allow_interpreted_subclasses=True)
class Peers:
    """The other gateways, by their names and addresses. `pools` counts what is idle to them with what else is.

    `key` is that of the site's gateways, `machine` the mark of this machine.
    """

    def __init__(self, pools: Pools, peer_key: bytes) -> None:
        self._pools = pools
        self.key = peer_key
        self.machine = machine_mark()
        self._context: ssl.SSLContext | None = None
        self._lost: dict[str, str] = {}  # why gateways could not be reached

    def is_news(self, gateway_id: str, reason: str) -> bool:
        """Whether something else is known now of how a gateway is reached ("": it is), than before.

        Each of its requests finds that out; who reads the log wants to know once.
        """
        if reason == self._lost.get(gateway_id, ""):
            return False
        if reason:
            self._lost[gateway_id] = reason
        else:
            del self._lost[gateway_id]
        return True

    def of(self, gateway_id: str, address: str) -> Pool | None:
        """The way to a gateway; None where it cannot be reached from here."""
        key: Key = (address, None, CONNECT_SECONDS_MAX, gateway_id, _BETWEEN_GATEWAYS)
        pool = self._pools.find(key)
        if pool is not None:
            return pool
        place = self._place(address)
        if place is None:
            return None
        pool = PeerPool(self._pools, key, place, gateway_id, self.key, self._context_for(place))
        self._pools.remember(pool)
        return pool

    async def introduce(self, gateway_id: str, address: str, purpose: bytes) -> asyncio.Transport:
        """A connection to a gateway for a purpose (`proofs.py`). Raises: OSError, ValueError, NotAPeer."""
        place = self._place(address)
        if place is None:
            raise NotAPeer("it cannot be reached from this machine")
        introduction = Introduction(self.key, gateway_id, place, purpose)
        return await introduce(introduction, place, self._context_for(place))

    def _place(self, address: str) -> Place | None:
        place = read_place(address)
        return None if place is None or (not place.is_tls and place.mark != self.machine) else place

    def _context_for(self, place: Place) -> ssl.SSLContext | None:
        if place.is_tls and self._context is None:
            self._context = _calling_context()
        return self._context if place.is_tls else None


def _calling_context() -> ssl.SSLContext:
    """What another gateway is called with. Whom it belongs to is told by its hash, which the caller compares."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
