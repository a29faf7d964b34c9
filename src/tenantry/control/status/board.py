"""What the status page shows: now, and 90 days."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from tenantry.control.site import Site
from tenantry.control.status.looking import GATEWAY, MODELS, look
from tenantry.domain.values import value
from tenantry.storage.status_log import DAY_MINUTES, DOWN, IMPAIRED, UP, DayRow, Incident, StatusLog, day_of

SHOWN_DAYS: Final = 90
INCIDENTS_SHOWN: Final = 50
# A look that fell into a restart is counted, and is no incident.
INCIDENT_LOOKS_MIN: Final = 2
UNKNOWN: Final = "unknown"
# However many ask, one look in this time is made for them.
KEPT_SECONDS: Final = 15.0
NAMES: Final = {GATEWAY: "Gateway", MODELS: "Claude models"}
_WORDS: Final = {
    (GATEWAY, DOWN): "The gateway did not answer.",
    (GATEWAY, IMPAIRED): "Part of the gateway did not answer; requests may have failed and worked when repeated.",
    (MODELS, DOWN): "The models could not be reached; requests were refused.",
    (MODELS, IMPAIRED): "Some of the models could not be reached.",
}
_NOTHING: Final = DayRow(0, 0, 0)


@value
class Day:
    """Minutes of a day (UTC). `unknown`: in which nobody looked."""

    day: date
    up: int
    impaired: int
    down: int
    unknown: int

    @property
    def state(self) -> str:
        """The worst that was found, or unknown where nobody looked at all."""
        if self.down:
            return DOWN
        if self.impaired:
            return IMPAIRED
        return UP if self.up else UNKNOWN

    @property
    def words(self) -> str:
        told = [f"{count} min {word}" for count, word in ((self.down, DOWN), (self.impaired, IMPAIRED)) if count]
        if self.up and not told:
            told.append(UP)
        if self.unknown and (self.unknown < DAY_MINUTES or not told):
            told.append(f"{self.unknown} min not looked at" if told else "not looked at")
        return f"{self.day.isoformat()}: {', '.join(told)}"


@value
class Part:
    """`up_hundredths`: hundredths of a percent of the minutes that were looked at; None: nobody looked."""

    part: str
    name: str
    state: str
    days: Sequence[Day]
    up_hundredths: int | None

    @property
    def percent(self) -> str:
        return "unknown" if self.up_hundredths is None else f"{self.up_hundredths / 100:.2f} %"


@value
class Told:
    """An incident in plain words. Minutes since 1970; `ended_at` None: it goes on."""

    name: str
    worst: str
    words: str
    began_at: datetime
    ended_at: datetime | None
    minutes: int


@value
class Board:
    as_of: datetime
    state: str
    parts: Sequence[Part]
    incidents: Sequence[Told]

    def as_json(self) -> dict[str, Any]:
        return {
            "as_of": _stamp(self.as_of),
            "state": self.state,
            "parts": [
                {
                    "part": one.part,
                    "name": one.name,
                    "state": one.state,
                    "up_percent": None if one.up_hundredths is None else one.up_hundredths / 100,
                    "days": [
                        {
                            "day": day.day.isoformat(),
                            "up_minutes": day.up,
                            "impaired_minutes": day.impaired,
                            "down_minutes": day.down,
                            "unknown_minutes": day.unknown,
                        }
                        for day in one.days
                    ],
                }
                for one in self.parts
            ],
            "incidents": [
                {
                    "part": one.name,
                    "state": one.worst,
                    "words": one.words,
                    "began_at": _stamp(one.began_at),
                    "ended_at": _stamp(one.ended_at) if one.ended_at is not None else None,
                    "minutes": one.minutes,
                }
                for one in self.incidents
            ],
        }


class Boards:
    """The board of now, made anew every few seconds. Asked by several threads. `now`: unix seconds."""

    def __init__(self, site: Site, now: Callable[[], float] = time.time) -> None:
        self._site = site
        self._now = now
        self._lock = threading.Lock()
        self._kept: tuple[float, Board] | None = None

    def read(self) -> Board:
        with self._lock:
            now = self._now()
            if self._kept is None or not 0 <= now - self._kept[0] < KEPT_SECONDS:
                self._kept = (now, board_of(self._site, now))
            return self._kept[1]


def board_of(site: Site, now: float) -> Board:
    """`now`: unix seconds."""
    minute, log = int(now // 60), StatusLog(site.engine)
    today, states = day_of(minute), look(site).states
    first = today - timedelta(days=SHOWN_DAYS - 1)
    rows = log.read_days(first)
    parts: list[Part] = []
    for part, name in NAMES.items():
        days: list[Day] = []
        for number in range(SHOWN_DAYS):
            day = first + timedelta(days=number)
            row = rows.get((day.isoformat(), part), _NOTHING)
            minutes = DAY_MINUTES if day < today else minute % DAY_MINUTES + 1
            unknown = max(0, minutes - row.up - row.impaired - row.down)
            days.append(Day(day, row.up, row.impaired, row.down, unknown))
        parts.append(Part(part, name, states.get(part, UNKNOWN), days, _up(days)))
    since = minute - SHOWN_DAYS * DAY_MINUTES
    seen = log.read_incidents(since, INCIDENTS_SHOWN)
    worth = [one for one in seen if one.last_minute - one.began_minute + 1 >= INCIDENT_LOOKS_MIN]
    found = [one.state for one in parts]
    worst = next((one for one in (DOWN, IMPAIRED, UNKNOWN) if one in found), UP)
    return Board(datetime.fromtimestamp(now, UTC), worst, parts, [_told(one) for one in worth])


def _up(days: Sequence[Day]) -> int | None:
    """Cut off, and not rounded: what was not always up is never 100 %."""
    known = sum(one.up + one.impaired + one.down for one in days)
    return sum(one.up + one.impaired for one in days) * 10_000 // known if known else None


def _told(one: Incident) -> Told:
    until = one.ended_minute if one.ended_minute is not None else one.last_minute + 1
    ended = _moment(one.ended_minute) if one.ended_minute is not None else None
    words = _WORDS[one.part, one.worst]
    return Told(NAMES[one.part], one.worst, words, _moment(one.began_minute), ended, until - one.began_minute)


def _moment(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
