"""The life of a request, as one table: in which state which event leads where, and what is to be done.

`TABLE[state][event]` is a cell, or None for an event that cannot come in that state: an error in a test, and in
production a logged and safe end. `gateway/exchange.py` looks here and does what the cell says; nothing else decides
where a request goes next: what is done without a look is the table's too (`straight`). `tenantry.domain.life.picture`
draws the table for the documentation.

A request is answered in exactly one way: by the one step of its life that leads to ENDED and is not LEAVE, or begun by
RELAY and ended by FINISH or INTERRUPT. What it took is given back on the way into ENDED and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class State(IntEnum):
    """What a request is waiting for."""

    READING = 0  # for its fields: a large body is read beside the event loop
    DECIDING = 1  # for nothing: the next step is being decided, in this very turn
    WAITING = 2  # for its turn
    COUNTING = 3  # for the upstream to count its prompt
    JOURNALLING = 4  # for its attempt to stand in the journal
    CONNECTING = 5  # for a connection
    SENT = 6  # for the head of an answer
    HELD_BACK = 7  # for the end of an answer that may be tried again; the client knows nothing of it
    BACKING_OFF = 8  # for the time of the next attempt
    RELAYING = 9  # for the end of the answer that the client is being given
    DRAINING = 10  # for the end of an answer whose client has left: it is read for the bill
    ENDED = 11  # for nothing; everything has been given back
    # Where several gateways serve
    CLAIMING = 12  # for the store to say whose its tenant is
    RAISING = 13  # for more of its budget to be taken


class Event(IntEnum):
    """What happens to a request."""

    # Decisions: what DECIDING comes to
    READ = 0  # the fields are known
    WAIT = 1  # only time is missing
    COUNT = 2  # the money may fit if the prompt is counted
    GO = 3  # lanes, money and the upstream's health allow an attempt, and it has been given what it needs
    AGAIN = 4  # the attempt that failed is made again, later
    GIVE_UP = 5  # the client gets the last answer, or is told that there is none
    REFUSE = 6  # the client is told why not
    # Lanes, till, journal
    GRANTED = 7  # its turn has come
    COUNTED = 8  # the prompt's tokens are known, or will not be
    SHORT = 9  # the next step of the stream does not fit into the budget
    WRITTEN = 10  # the attempt stands in the journal
    UNWRITTEN = 11  # the journal cannot be written
    # The upstream
    CONNECTED = 12  # the request has left
    HEAD = 13  # the head of an answer for the client
    FAULT = 14  # the head of an answer that may be tried again
    OVERFLOW = 15  # more of a held answer than is held
    END = 16  # the answer is whole
    BROKEN = 17  # no answer, or no more of it
    STALE = 18  # a connection that was used before had been closed; nothing of the request was processed
    # The client, the clock, the operator
    GONE = 19  # the client has left; its answer is to be read on for the bill
    GONE_CANCEL = 20  # the client has left; its answer is to be broken off
    STALLED = 21  # the client takes no bytes
    OVERDUE = 22  # the deadline of the state has passed
    DUE = 23  # the time of the next attempt has come
    STOP = 24  # the gateway is about to stop: who is not being served is sent away
    CUT = 25  # the key or tenant may not go on, or the gateway stops now
    # Where several gateways serve
    CLAIM = 26  # it is not known here who grants for its tenant
    CLAIMED = 27  # the store has said who does, or could not be asked
    RAISE = 28  # the budget has the money, and this gateway has not taken as much of it
    RAISED = 29  # more was taken, or could not be


class Do(IntEnum):
    """What a cell asks for."""

    NOTHING = 0
    ADMIT = 1  # decide on what the request says, and ask the lanes
    DECIDE = 2  # look at health and money; take what the attempt needs, or say why not
    TRY_AGAIN = 3  # the same for an attempt after a failed one
    ASK_COUNT = 4
    JOURNAL = 5  # write the attempt's beginning
    CONNECT = 6
    EXPECT = 7  # set the time by which an answer has to begin
    RELAY = 8  # give the client the head of its answer
    RELEASE_HELD = 9  # give the client the answer that was held
    HOLD = 10  # keep the answer from the client
    FAILED = 11  # settle the attempt, then decide on another
    BACK_OFF = 12
    DRAIN = 13  # read on without a client
    ASK_MORE = 14  # of the budget, from the store
    # Each of these ends the request: the attempt is settled, the client answered, what was taken given back.
    REFUSE = 15
    LAST_ANSWER = 16
    FINISH = 17
    INTERRUPT = 18
    LEAVE = 19  # nobody is there to be told


@dataclass(init=False, slots=True)
class Cell:
    to: Final[State]
    do: Final[Do]

    def __init__(self, to: State, do: Do) -> None:
        self.to = to
        self.do = do


S, E, D = State, Event, Do
_END_SILENTLY: Final = (S.ENDED, D.LEAVE)
_END_REFUSED: Final = (S.ENDED, D.REFUSE)
_END_INTERRUPTED: Final = (S.ENDED, D.INTERRUPT)
_GONE_EITHER_WAY: Final = {E.GONE: _END_SILENTLY, E.GONE_CANCEL: _END_SILENTLY}
# What follows an attempt that came to nothing: it is settled, and another one decided on.
_ATTEMPT_FAILS: Final = {E.BROKEN: (S.DECIDING, D.FAILED), E.OVERDUE: (S.DECIDING, D.FAILED)}

_CELLS: dict[State, dict[Event, tuple[State, Do]]] = {
    S.READING: {
        E.READ: (S.DECIDING, D.ADMIT),
        E.REFUSE: _END_REFUSED,
        E.STOP: _END_REFUSED,
        E.CUT: _END_REFUSED,
        E.OVERDUE: _END_REFUSED,
        **_GONE_EITHER_WAY,
    },
    S.DECIDING: {
        E.WAIT: (S.WAITING, D.NOTHING),
        E.COUNT: (S.COUNTING, D.ASK_COUNT),
        E.GO: (S.JOURNALLING, D.JOURNAL),
        E.AGAIN: (S.BACKING_OFF, D.BACK_OFF),
        E.GIVE_UP: (S.ENDED, D.LAST_ANSWER),
        E.REFUSE: _END_REFUSED,
        E.CLAIM: (S.CLAIMING, D.NOTHING),
        E.RAISE: (S.RAISING, D.ASK_MORE),
    },
    S.CLAIMING: {
        E.CLAIMED: (S.DECIDING, D.ADMIT),
        E.OVERDUE: _END_REFUSED,
        E.STOP: _END_REFUSED,
        E.CUT: _END_REFUSED,
        **_GONE_EITHER_WAY,
    },
    S.RAISING: {
        E.RAISED: (S.DECIDING, D.DECIDE),
        E.OVERDUE: (S.DECIDING, D.DECIDE),
        E.STOP: (S.RAISING, D.NOTHING),
        E.CUT: _END_REFUSED,
        **_GONE_EITHER_WAY,
    },
    S.WAITING: {
        E.GRANTED: (S.DECIDING, D.DECIDE),
        E.STOP: _END_REFUSED,
        E.CUT: _END_REFUSED,
        E.OVERDUE: _END_REFUSED,
        **_GONE_EITHER_WAY,
    },
    S.COUNTING: {
        E.COUNTED: (S.DECIDING, D.DECIDE),
        E.OVERDUE: (S.DECIDING, D.DECIDE),
        E.STOP: (S.COUNTING, D.NOTHING),
        E.CUT: _END_REFUSED,
        **_GONE_EITHER_WAY,
    },
    S.JOURNALLING: {
        E.WRITTEN: (S.CONNECTING, D.CONNECT),
        E.UNWRITTEN: _END_REFUSED,
        E.OVERDUE: _END_REFUSED,
        E.STOP: (S.JOURNALLING, D.NOTHING),
        E.CUT: _END_REFUSED,
        **_GONE_EITHER_WAY,
    },
    S.CONNECTING: {
        E.CONNECTED: (S.SENT, D.EXPECT),
        **_ATTEMPT_FAILS,
        E.STOP: (S.CONNECTING, D.NOTHING),
        E.CUT: _END_REFUSED,
        **_GONE_EITHER_WAY,
    },
    S.SENT: {
        E.HEAD: (S.RELAYING, D.RELAY),
        E.FAULT: (S.HELD_BACK, D.HOLD),
        E.STALE: (S.CONNECTING, D.CONNECT),
        **_ATTEMPT_FAILS,
        E.STOP: (S.SENT, D.NOTHING),
        E.CUT: _END_REFUSED,
        E.GONE: (S.DRAINING, D.DRAIN),
        E.GONE_CANCEL: _END_SILENTLY,
    },
    S.HELD_BACK: {
        E.END: (S.DECIDING, D.FAILED),
        E.OVERFLOW: (S.RELAYING, D.RELEASE_HELD),
        **_ATTEMPT_FAILS,
        E.STOP: (S.HELD_BACK, D.NOTHING),
        E.CUT: _END_REFUSED,
        **_GONE_EITHER_WAY,
    },
    S.BACKING_OFF: {
        E.DUE: (S.DECIDING, D.TRY_AGAIN),
        E.OVERDUE: (S.DECIDING, D.TRY_AGAIN),
        E.STOP: (S.ENDED, D.LAST_ANSWER),
        E.CUT: _END_REFUSED,
        **_GONE_EITHER_WAY,
    },
    S.RELAYING: {
        E.END: (S.ENDED, D.FINISH),
        E.BROKEN: _END_INTERRUPTED,
        E.OVERDUE: _END_INTERRUPTED,
        E.SHORT: _END_INTERRUPTED,
        E.STOP: (S.RELAYING, D.NOTHING),
        E.CUT: _END_INTERRUPTED,
        E.STALLED: (S.DRAINING, D.DRAIN),
        E.GONE: (S.DRAINING, D.DRAIN),
        E.GONE_CANCEL: _END_SILENTLY,
    },
    S.DRAINING: {
        E.HEAD: (S.DRAINING, D.NOTHING),
        E.FAULT: (S.DRAINING, D.NOTHING),
        E.STALE: _END_SILENTLY,
        E.END: _END_SILENTLY,
        E.BROKEN: _END_SILENTLY,
        E.OVERDUE: _END_SILENTLY,
        E.SHORT: _END_SILENTLY,
        E.STOP: (S.DRAINING, D.NOTHING),
        E.CUT: _END_SILENTLY,
    },
    S.ENDED: {},
}

TABLE: list[list[Cell | None]] = [
    [Cell(*_CELLS[state][event]) if event in _CELLS[state] else None for event in Event] for state in State
]


def straight(state: State, event: Event, do: Do) -> State:
    """Where the table leads, for what is done without looking there: `do` is what stands in its cell."""
    cell = TABLE[state][event]
    if cell is None or cell.do is not do:
        raise AssertionError(f"the table says something else of {event.name} in {state.name}")
    return cell.to


def picture() -> str:
    """The table as a Mermaid state diagram: one arrow for each pair of states, its events on it."""
    lines = ["stateDiagram-v2", "    [*] --> READING"]
    for state in State:
        arrows: dict[State, list[str]] = {}
        for event in Event:
            cell = TABLE[state][event]
            if cell is not None and cell.to is not state:
                arrows.setdefault(cell.to, []).append(event.name.lower())
        lines += [f"    {state.name} --> {to.name}: {', '.join(events)}" for to, events in arrows.items()]
    return "\n".join([*lines, "    ENDED --> [*]"])
