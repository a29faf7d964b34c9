"""One gateway calls another: over loopback, plainly and over TLS, and what is no gateway of the site."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenantry.gateway import handshake_room
from tenantry.gateway.peers import listening
from tenantry.gateway.peers.calling import Introduction, NotAPeer, PeerPool, Peers
from tenantry.gateway.peers.certificate import serving_context
from tenantry.gateway.peers.listening import Called
from tenantry.gateway.peers.places import Place, machine_mark, read_place
from tenantry.gateway.peers.proofs import CALL_BYTES, GREETING_BYTES, MAGIC, MOVES, NONCE_BYTES, derive_peer_key, whom
from tenantry.gateway.upstream import ConnectFailed, Pools, UpstreamConnection
from tests.stack import until
from tests.unit.gateway.playbook import World

KEY = derive_peer_key(b"p" * 32)
ELSEWHERE = derive_peer_key(b"q" * 32)


class Listening:
    """A gateway that is called. `accepted`: how often something has proved to be one."""

    def __init__(self, *, is_tls: bool, key: bytes = KEY, gateway_id: str = "gateway-1") -> None:
        self.accepted = 0
        self.strangers: dict[Called, None] = {}
        self._context, self.mark = serving_context() if is_tls else (None, machine_mark())
        self._called = lambda: Called(key, whom(gateway_id, self.place().text()), self._accept, self.strangers)

    def _accept(self, _transport: asyncio.Transport, _unread: bytes) -> None:
        self.accepted += 1

    async def __aenter__(self) -> Listening:
        made: Any = self._called
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(made, "127.0.0.1", 0, ssl=self._context)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def place(self, mark: str | None = None) -> Place:
        return Place("127.0.0.1", self.port, self._context is not None, mark or self.mark)


async def call(place: Place, gateway_id: str = "gateway-1") -> UpstreamConnection | ConnectFailed:
    pool = Peers(Pools(), KEY).of(gateway_id, place.text())
    assert isinstance(pool, PeerPool)
    return await pool.open_connection()


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


@pytest.mark.parametrize("is_tls", [False, True])
def test_two_gateways_of_a_site_believe_each_other(is_tls: bool) -> None:
    async def work() -> int:
        async with Listening(is_tls=is_tls) as listening:
            found = await call(listening.place())
            assert isinstance(found, UpstreamConnection)
            assert found.is_usable
            found.close()
            assert not listening.strangers
            return listening.accepted

    assert run(work) == 1


@pytest.mark.parametrize(
    ("listening", "called"),
    [({"key": ELSEWHERE}, "gateway-1"), ({"gateway_id": "gateway-2"}, "gateway-1")],
    ids=["another site's", "another one than was meant"],
)
def test_who_is_not_the_gateway_that_was_called_is_told_nothing(listening: dict[str, Any], called: str) -> None:
    async def work() -> tuple[Any, int]:
        async with Listening(is_tls=False, **listening) as other:
            return await call(other.place(), called), other.accepted

    found, accepted = run(work)
    assert isinstance(found, ConnectFailed)
    assert accepted == 0


def test_another_certificate_than_the_store_names_is_not_spoken_to() -> None:
    async def work() -> tuple[Any, int]:
        async with Listening(is_tls=True) as listening:
            return await call(listening.place("ab" * 32)), listening.accepted

    found, accepted = run(work)
    assert found == ConnectFailed("it shows another certificate than the store names")
    assert accepted == 0


def test_what_was_heard_on_one_connection_opens_no_other() -> None:
    async def work() -> bytes:
        async with Listening(is_tls=False) as listening:
            heard = bytearray()

            async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                its, own = await asyncio.open_connection("127.0.0.1", listening.port)
                writer.write(await its.readexactly(GREETING_BYTES))
                heard.extend(await reader.readexactly(64))
                own.close()
                writer.close()

            server = await asyncio.start_server(between, "127.0.0.1", 0)
            port: int = server.sockets[0].getsockname()[1]
            calling: Any = Introduction(KEY, "gateway-1", listening.place())  # so its proof is one for that gateway
            await asyncio.get_running_loop().create_connection(lambda: calling, "127.0.0.1", port)
            with contextlib.suppress(NotAPeer):
                await calling.done
            reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
            await reader.readexactly(GREETING_BYTES)
            writer.write(bytes(heard))
            try:
                return await reader.read(GREETING_BYTES)  # an answer, where it is believed
            except ConnectionResetError:
                return b""
            finally:
                writer.close()
                server.close()

    assert run(work) == b""


@pytest.mark.parametrize("is_tls", [False, True])
def test_who_has_the_store_say_that_a_gateway_is_at_his_place_passes_no_proofs_on_to_it(is_tls: bool) -> None:
    """He needs no secret for that: he hears the one side's proofs, and has only to say them to the other."""

    async def work() -> tuple[Any, int]:
        async with Listening(is_tls=is_tls) as listening:
            context, mark = serving_context() if is_tls else (None, machine_mark())

            ended = asyncio.Event()

            async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                theirs = anybody() if is_tls else None
                found, own = await asyncio.open_connection("127.0.0.1", listening.port, ssl=theirs)
                await asyncio.gather(pass_on(found, writer), pass_on(reader, own))
                ended.set()

            server = await asyncio.start_server(between, "127.0.0.1", 0, ssl=context)
            port: int = server.sockets[0].getsockname()[1]
            found = await call(Place("127.0.0.1", port, is_tls, mark))
            if isinstance(found, UpstreamConnection):
                found.close()
            await ended.wait()
            server.close()
            return found, listening.accepted

    found, accepted = run(work)
    assert isinstance(found, ConnectFailed)
    assert accepted == 0


def test_who_takes_any_proof_and_has_none_of_its_own_is_no_gateway() -> None:
    async def work() -> Any:
        async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(MAGIC + b"n" * NONCE_BYTES)
            heard = await reader.readexactly(CALL_BYTES)
            writer.write(heard[NONCE_BYTES:])  # the caller's own
            await pass_on(reader, writer)
            ended.set()

        ended = asyncio.Event()
        server = await asyncio.start_server(pretend, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        found = await call(Place("127.0.0.1", port, False, machine_mark()))
        if isinstance(found, UpstreamConnection):
            found.close()
        await ended.wait()
        server.close()
        return found

    assert run(work) == ConnectFailed("it cannot prove to be that gateway of this site")


def anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


async def a_stranger(
    folder: Path, host: str
) -> tuple[listening.PeerServer, asyncio.StreamReader, asyncio.StreamWriter]:
    """A gateway at `host`, and who has connected to it and said nothing."""
    server = await listening.serve_peers(
        World(folder).parts, Peers(Pools(), KEY), "gateway-1", host, 0, lambda _talk: None
    )
    place = read_place(server.address)
    assert place is not None
    return server, *await asyncio.open_connection(place.host, place.port)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"], ids=["plain", "TLS"])
def test_who_says_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Over TLS the handshake is waited for as long as the proof is: strangers hold no connection for a minute."""
    monkeypatch.setattr(listening, "PROOF_SECONDS_MAX", 0.1)

    async def work() -> bytes:
        server, reader, writer = await a_stranger(tmp_path, host)
        said = await reader.read()
        writer.close()
        server.close()
        return said

    assert run(work)[:16] == (b"" if host == "127.0.0.2" else MAGIC)


def test_a_gateway_that_accepts_no_more_ends_who_has_not_proved_anything_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that one would prove what it is, and send a request to a process that ends."""
    monkeypatch.setattr(listening, "PROOF_SECONDS_MAX", 3600.0)

    async def work() -> None:
        server, reader, writer = await a_stranger(tmp_path, "127.0.0.1")
        await reader.readexactly(GREETING_BYTES)
        server.close()
        await until(reader.at_eof, what="the connection being ended")
        writer.close()

    run(work)


def test_a_gateway_that_accepts_no_more_ends_who_is_in_the_middle_of_a_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that one would come to its end, prove what it is, and send a request to a process that ends."""
    monkeypatch.setattr(listening, "PROOF_SECONDS_MAX", 3600.0)

    async def work() -> None:
        server, reader, writer = await a_stranger(tmp_path, "127.0.0.2")
        writer.write(first_flight())
        await reader.readexactly(1)  # it is answered: its handshake goes on
        server.close()
        rest = asyncio.create_task(reader.read())
        await until(rest.done, what="the connection being ended")
        writer.close()

    run(work)


def first_flight() -> bytes:
    """What a client of TLS says first."""
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        anybody().wrap_bio(ssl.MemoryBIO(), said).do_handshake()
    return said.read()


def test_a_gateway_that_says_something_before_it_is_asked_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives way at this very moment, and nobody could say whether a request had been read."""

    async def work() -> None:
        async with Listening(is_tls=False) as called:
            accepted: list[asyncio.Transport] = []
            monkeypatch.setattr(called, "_accept", lambda transport, _unread: accepted.append(transport))
            introduction = Introduction(KEY, "gateway-1", called.place())
            made: Any = lambda: introduction  # noqa: E731 -- as the loop takes it
            await asyncio.get_running_loop().create_connection(made, "127.0.0.1", called.port)
            await introduction.done
            accepted[0].write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
            transport = introduction.transport
            assert transport is not None
            await until(transport.is_closing, what="the connection being given up")

    run(work)


def test_who_says_nothing_on_many_connections_keeps_no_gateway_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "STRANGERS_MAX", 3)

    async def work() -> tuple[bytes, int, int]:
        async with Listening(is_tls=False) as called:
            silent = [await asyncio.open_connection("127.0.0.1", called.port) for _ in range(3)]
            greeted = [await reader.readexactly(GREETING_BYTES) for reader, _ in silent]
            assert len(greeted) == len(called.strangers)
            found = await call(called.place())
            assert isinstance(found, UpstreamConnection)
            found.close()
            oldest = await silent[0][0].read()  # it has given way
            for _, writer in silent:
                writer.close()
            return oldest, called.accepted, len(called.strangers)

    assert run(work) == (b"", 1, 2)


def test_handshakes_that_never_end_are_bounded_and_keep_no_gateway_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake_room, "HANDSHAKES_PER_PEER_MAX", 3)
    monkeypatch.setattr(handshake_room, "YIELD_SECONDS", 0.0)
    monkeypatch.setattr(listening, "PROOF_SECONDS_MAX", 3600.0)

    async def work() -> None:
        server = await listening.serve_peers(
            World(tmp_path).parts, Peers(Pools(), KEY), "gateway-1", "127.0.0.2", 0, lambda _talk: None
        )
        place = read_place(server.address)
        assert place is not None
        silent = [await asyncio.open_connection(place.host, place.port) for _ in range(3)]
        made = await Peers(Pools(), KEY).introduce("gateway-1", server.address, MOVES)
        await until(silent[0][0].at_eof, what="the oldest giving way")
        assert not silent[1][0].at_eof()
        for _, writer in silent:
            writer.close()
        made.close()
        server.close()

    run(work)


def test_loopback_of_another_machine_is_not_this_ones() -> None:
    peers = Peers(Pools(), KEY)
    assert peers.of("gateway-1", Place("127.0.0.1", 3100, False, "ab" * 32).text()) is None
    assert peers.of("gateway-1", "") is None


def test_that_a_gateway_cannot_be_reached_is_news_once() -> None:
    peers = Peers(Pools(), KEY)
    told = [peers.is_news("gateway-1", reason) for reason in ("", "refused", "refused", "too slow", "", "", "refused")]
    assert told == [False, True, False, True, True, False, True]
