"""Takes what another gateway leaves with cells that it gives to this one (decision 0021).

An estate comes before its cells do. It is entered in the very turn in which this gateway learns from the store that it
owns one of them in the epoch that the estate names: before that nothing of it counts here, and nothing is granted
without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from tenantry.domain.doubts import Taken
from tenantry.domain.owners import Cells
from tenantry.gateway.asking import Fault
from tenantry.gateway.estates import shift_lanes, take_lanes, take_standings
from tenantry.gateway.handover import Used
from tenantry.gateway.leftovers import Leftovers
from tenantry.gateway.parts import Parts
from tenantry.gateway.peers.talking import CellEstate, Given, Kept, Lent, More, Said, Talk, Withdrawn

log = logging.getLogger("tenantry.gateway")

# So many tenants that were in use are opened at once when their cell comes; the others are when they ask for something.
OPENED_MAX: Final = 256


class _Arrival:
    """What one gateway has to say of one gift. `names`: the requests that it tells of, once its estate is entered."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.estate: CellEstate | None = None
        self.names: set[bytes] = set()
        self.is_entered = False


class Receiver:
    def __init__(self, parts: Parts, cells: Cells, leftovers: Leftovers, machine: str) -> None:
        self._parts = parts
        self._cells = cells
        self._leftovers = leftovers
        self._machine = machine
        self.pass_on: Callable[[Taken, int], object] = _nobody  # what the next owner is to be asked
        self.takes = True  # until this gateway ends
        self._fault = Fault("no more could be lent of budgets", parts.clock.now)
        self._arrivals: list[_Arrival] = []
        self._told: dict[str, int] = {}  # cells of which an estate was entered, with the epoch in which they came
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, talk: Talk) -> None:
        """Another gateway is about to give something."""
        arrival = _Arrival(talk)
        talk.on_message = lambda message: self._on_message(arrival, message)
        talk.on_end = lambda: self._on_end(arrival)

    def _on_message(self, arrival: _Arrival, message: Said) -> None:
        if isinstance(message, CellEstate):
            self._keep(arrival, message)
        elif isinstance(message, Used):
            self._on_used(arrival, message)
        elif isinstance(message, More):
            self._do(arrival, message)
        elif isinstance(message, Withdrawn):
            self._drop(arrival)
        elif isinstance(message, Given) and arrival.estate is not None:
            for tenant_id in arrival.estate.tenants[:OPENED_MAX]:
                self._cells.is_doubtful(tenant_id)
                self._cells.sought[tenant_id] = None
            self._cells.ring()

    def _keep(self, arrival: _Arrival, estate: CellEstate) -> None:
        if not self.takes or self._cells.is_succeeded:
            arrival.talk.close()
            return
        for other in self._arrivals.copy():  # what was left with the same cells before was never given
            if other.estate is not None and not other.is_entered and estate.cells.keys() & other.estate.cells.keys():
                self._drop(other)
        arrival.estate = estate
        self._arrivals.append(arrival)
        arrival.talk.say(Kept())

    def _on_used(self, arrival: _Arrival, used: Used) -> None:
        if arrival.is_entered:
            self._leftovers.guests.used(used)
            if not used.has_session:
                arrival.names.discard(used.name)
        elif arrival.estate is not None:
            for one in arrival.estate.requests:
                if one.name == used.name:
                    one.input_tokens, one.output_tokens = used.input_tokens, used.output_tokens
                    one.has_session = used.has_session

    def _on_end(self, arrival: _Arrival) -> None:
        """It has told all, or cannot be heard any more. What was not entered may still be needed: it is kept."""
        self._leftovers.guests.are_told_no_more(arrival.names)
        if arrival.is_entered and arrival in self._arrivals:
            self._arrivals.remove(arrival)

    def _drop(self, arrival: _Arrival) -> None:
        if arrival in self._arrivals:
            self._arrivals.remove(arrival)
        arrival.estate = None

    # Taking

    def taken(self, cells: Mapping[str, int]) -> set[str]:
        """These are this gateway's from this moment on, each in its epoch; those that came with an estate."""
        for arrival in self._arrivals.copy():
            estate = arrival.estate
            if estate is None or arrival.is_entered:
                continue
            epochs = [cells[name] - epoch for name, epoch in estate.cells.items() if name in cells]
            if any(later > 0 for later in epochs):
                self._drop(arrival)  # it was never given: the cell has gone another way since
            elif 0 in epochs:
                self._enter(arrival, estate)
                self._told.update(estate.cells)
        return {name for name, epoch in cells.items() if self._told.get(name) == epoch}

    def _enter(self, arrival: _Arrival, estate: CellEstate) -> None:
        parts, guests = self._parts, self._leftovers.guests
        shift = parts.clock.now() - estate.now
        if estate.machine == self._machine:
            shift = 0.0  # one clock
        else:
            for one in estate.standings:
                one.breaker = None  # its times are another machine's
        shift_lanes(estate.lanes, shift)
        take_lanes(parts, estate.lanes)
        take_standings(parts, estate.standings)
        guests.take(estate.requests, estate.gateway_id, self._leftovers.own_names(), shift)
        arrival.names = {one.name for one in estate.requests if one.has_session}
        arrival.is_entered = True
        log.info(
            "gateway %s leaves %d cells, with %d requests", estate.gateway_id, len(estate.cells), len(arrival.names)
        )
        if not arrival.talk.is_open:
            self._on_end(arrival)

    # Lending

    def _do(self, arrival: _Arrival, more: More) -> None:
        task = asyncio.get_running_loop().create_task(self._lend(arrival, more))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lend(self, arrival: _Arrival, more: More) -> None:
        if arrival.estate is None:
            return
        gateway_id = more.gateway_id or arrival.estate.gateway_id
        wanted = Taken(more.tenant_id, more.key_id, more.unit, gateway_id, more.taken, 0)
        if wanted.tenant_id not in self._cells.tenure.tenants:
            self.pass_on(wanted, more.passed + 1)
            return
        lent = None
        with self._fault.noted():  # closed: it takes no more than it had
            lent = await self._leftovers.lend(wanted)
        if lent is not None:
            arrival.talk.say(Lent(lent.tenant_id, lent.key_id, lent.unit, lent.taken, gateway_id))

    def pass_back(self, lent: Lent) -> None:
        """The next owner has lent something to who gave the cell to this one."""
        for arrival in self._arrivals:
            estate = arrival.estate
            if estate is not None and estate.gateway_id == lent.gateway_id and lent.tenant_id in estate.tenants:
                arrival.talk.say(lent)

    def close(self) -> None:
        for arrival in self._arrivals:
            arrival.talk.close()


def _nobody(_wanted: Taken, _passed: int) -> None:
    """Nothing has been given to anybody from here."""
