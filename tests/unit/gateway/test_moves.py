"""A cell goes from one gateway to another: what is said of it, and what the next owner counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tenantry.gateway.peers.calling import NotAPeer, Peers
from tenantry.gateway.peers.listening import Called
from tenantry.gateway.peers.places import Place, machine_mark
from tenantry.gateway.peers.proofs import MOVES, derive_peer_key
from tenantry.gateway.peers.talking import MESSAGE_BYTES_MAX, CellEstate, Given, Kept, Said, Talk
from tenantry.gateway.upstream import Pools

KEY = derive_peer_key(b"p" * 32)
ESTATE = CellEstate("gw-a", {"org-1": 2}, 5.0, "here", ["acme"], [], [], [])


class Hearing:
    """A gateway that is called about moves; `takes`: it knows of them."""

    def __init__(self, *, takes: bool = True) -> None:
        self.heard: list[Said] = []
        self.was_told = asyncio.Event()
        self.ended = asyncio.Event()
        self.talks: list[Talk] = []
        called = Called(KEY, "gw-b", self._refuse, set(), self._hear if takes else None)
        self._called: Any = lambda: called

    def _refuse(self, _transport: asyncio.Transport, _unread: bytes) -> None:
        raise AssertionError("it is not about requests")

    def _hear(self, transport: asyncio.Transport, unread: bytes) -> None:
        talk = Talk(transport)
        self.talks.append(talk)
        talk.on_message, talk.on_end = self._on_message, self.ended.set
        talk.begin(unread)

    def _on_message(self, message: Said) -> None:
        self.heard.append(message)
        self.was_told.set()

    async def __aenter__(self) -> Hearing:
        self._server = await asyncio.get_running_loop().create_server(self._called, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def call(self) -> Talk:
        place = Place("127.0.0.1", self._server.sockets[0].getsockname()[1], False, machine_mark())
        talk = Talk(await Peers(Pools(), KEY).introduce("gw-b", place.text(), MOVES))
        talk.begin(b"")
        return talk


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


def test_what_is_said_comes_whole_and_in_order() -> None:
    async def work() -> tuple[list[Said], bool]:
        async with Hearing() as hearing:
            talk = await hearing.call()
            talk.say(ESTATE)
            talk.say(Given())
            talk.close()
            await hearing.ended.wait()
            return hearing.heard, hearing.talks[0].is_open

    assert run(work) == ([ESTATE, Given()], False)


def test_who_is_told_answers() -> None:
    async def work() -> Said:
        async with Hearing() as hearing:
            talk, answer = await hearing.call(), asyncio.get_running_loop().create_future()
            talk.on_message = answer.set_result
            talk.say(ESTATE)
            await hearing.was_told.wait()
            hearing.talks[0].say(Kept())
            said = await answer
            talk.close()
            await hearing.ended.wait()
            return said

    assert run(work) == Kept()


def test_a_gateway_of_a_release_that_knows_no_moves_is_not_one_to_move_to() -> None:
    async def work() -> None:
        async with Hearing(takes=False) as hearing:
            with pytest.raises(NotAPeer):
                await hearing.call()
            await asyncio.sleep(0)  # for both ends to be told

    run(work)


@pytest.mark.parametrize("said", [(MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"), b"\0\0\0\x02hi"])
def test_who_says_what_is_no_message_is_heard_no_more(said: bytes) -> None:
    async def work() -> bool:
        async with Hearing() as hearing:
            talk, ended = await hearing.call(), asyncio.Event()
            talk.on_end = ended.set
            talk._transport.write(said)
            await ended.wait()
            return talk.is_open

    assert run(work) is False
