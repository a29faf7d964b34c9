"""What each gateway uses now, and how it is: a record beside its journal, to which it adds what changed.

The record is a file of JSON lines. A line of a tenant or a capacity replaces the one before it; a head tells when all
of it was true, and how the gateway is. A bucket stands there as it was, with its rate: readers refill it, so that
nothing has to be written because time passes. `LiveFile` is the only writer; `read_live` and `read_health` are the only
readers. A last line without its end is passed over, and so are lines and members that a later version has added. A
record that cannot be read or was left by a dead gateway is unknown; it never stops who asks.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from tenantry.domain.limits import Limits
from tenantry.domain.values import value
from tenantry.ledger.journal import is_alive

LIVE_FILE = "live.jsonl"
# Three times what may lie between two heads, and more.
LIVE_SECONDS_MAX = 10.0
# 10,000 tenants in use take 3 MB, and as much again before the file is written anew.
_FILE_BYTES_MAX = 64 * 1024 * 1024
# The file is written anew when it has grown to twice what it was then, and by this: forty minutes of heads alone.
_SLACK_BYTES = 256 * 1024
# A head names the credentials that are of no use: some hundreds of them. A larger one is found by reading everything.
_HEAD_BYTES = 64 * 1024
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# A bucket's level that rounding made a little less than it is.
_LACK_MIN = 1e-6


class LiveUse(msgspec.Struct):
    """What one tenant uses. What remains is None where nothing limits it.

    `spent_nanos` is by period kind (day, week, month), of tenants that have a budget or money held; `excess_nanos` is
    what was billed above what had been held, ever.
    """

    sessions: int = 0
    waiting: int = 0
    requests_remaining: int | None = None
    input_tokens_remaining: int | None = None
    output_tokens_remaining: int | None = None
    held_nanos: int = 0
    spent_nanos: dict[str, int] = {}
    excess_nanos: int = 0

    @staticmethod
    def idle(limits: Limits) -> LiveUse:
        """Of a tenant that no gateway tells of: nothing is in use, and its buckets are full."""
        return LiveUse(
            requests_remaining=limits.request_burst if limits.requests_per_minute is not None else None,
            input_tokens_remaining=limits.input_tokens_per_minute,
            output_tokens_remaining=limits.output_tokens_per_minute,
        )

    def plus(self, other: LiveUse) -> LiveUse:
        """The use in two gateways together: each has buckets of its own."""
        kinds = {**self.spent_nanos, **other.spent_nanos}
        return LiveUse(
            self.sessions + other.sessions,
            self.waiting + other.waiting,
            _sum(self.requests_remaining, other.requests_remaining),
            _sum(self.input_tokens_remaining, other.input_tokens_remaining),
            _sum(self.output_tokens_remaining, other.output_tokens_remaining),
            self.held_nanos + other.held_nanos,
            {kind: self.spent_nanos.get(kind, 0) + other.spent_nanos.get(kind, 0) for kind in kinds},
            self.excess_nanos + other.excess_nanos,
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


class LiveBucket(msgspec.Struct, array_like=True, frozen=True):
    """A bucket as it stood: `level` of `size`, refilled by `per_minute`."""

    level: float
    per_minute: float
    size: float

    def remaining(self, seconds: float) -> int:
        """What it gives so many seconds later, when nothing was taken since."""
        level = min(self.size, self.level + max(0.0, seconds) * self.per_minute / 60)
        return max(0, math.floor(level + _LACK_MIN))


class LiveSpent(msgspec.Struct, array_like=True, frozen=True):
    """What was spent in a period, and when that ends (unix microseconds)."""

    nanos: int
    end_us: int


class LiveTenant(msgspec.Struct, tag_field="line", tag="tenant", omit_defaults=True):
    """A line of the file: what one tenant, by internal id, used at `at` (unix seconds).

    `budget_percent`: how much of the budget that is nearest to its end has been spent. `grants`: the gateway that tells
    it grants for the tenant; one of several that no longer does may still be in the middle of something of it, which
    counts at the one that does.
    """

    tenant_id: str
    at: float
    sessions: int = 0
    waiting: int = 0
    requests: LiveBucket | None = None
    input_tokens: LiveBucket | None = None
    output_tokens: LiveBucket | None = None
    held_nanos: int = 0
    spent: dict[str, LiveSpent] = {}
    excess_nanos: int = 0
    budget_percent: int | None = None
    grants: bool = True

    def use(self, now: float) -> LiveUse:
        """What it uses now, nothing having been told since; `now` is unix seconds."""
        seconds = now - self.at
        return LiveUse(
            self.sessions,
            self.waiting,
            _remaining(self.requests, seconds),
            _remaining(self.input_tokens, seconds),
            _remaining(self.output_tokens, seconds),
            self.held_nanos,
            {kind: one.nanos if now * 1_000_000 < one.end_us else 0 for kind, one in self.spent.items()},
            self.excess_nanos,
        )


def _remaining(bucket: LiveBucket | None, seconds: float) -> int | None:
    return None if bucket is None else bucket.remaining(seconds)


class LiveHealth(msgspec.Struct, omit_defaults=True):
    """Names of upstreams whose breaker is open; credentials that are of no use, with the time until then (RFC 3339).

    `credentials_spent`: those of them whose account upstream is out of money. `directory_fault`: why changes of the
    directory are not followed; "" where they are. `credentials_closed`: why some credentials do not open, in words.
    """

    upstreams_down: list[str] = []
    credentials_dead: dict[str, str | None] = {}
    credentials_spent: list[str] = []
    journal_works: bool = True
    directory_fault: str = ""
    credentials_closed: list[str] = []


class LiveHead(msgspec.Struct, tag_field="line", tag="head"):
    """A line of the file: at `at` (unix seconds) all that stands before it was true.

    `added` and `added_us` are the counts and the sum of what the gateway has added to requests since it began
    (`domain.histograms.OWN_BOUNDS_US`), `loop_lag_us` the longest that its loop came late since the last head.
    """

    at: float
    health: LiveHealth
    added: list[int] = []
    added_us: int = 0
    loop_lag_us: int = 0


class LiveCapacity(msgspec.Struct, tag_field="line", tag="capacity"):
    """A line of the file: the limits that an upstream announces, by model and limit.

    `name` is the credential's id, or that of its upstream where all credentials together are one organization.
    """

    name: str
    announced: dict[str, dict[str, int]]


Line = LiveHead | LiveTenant | LiveCapacity


@value
class Live:
    """All that a gateway tells. `at` is unix seconds; `lines`: of tenants that it has served, by internal id.

    `announced`: by capacity, model and limit, where nothing is declared. `head`: what it tells of itself.
    """

    at: float
    lines: dict[str, LiveTenant]
    announced: dict[str, dict[str, dict[str, int]]]
    health: LiveHealth
    head: LiveHead


@value
class LiveGateway:
    """A gateway that lives. `told` is None where its record cannot be read, `age_seconds` where it has none yet.

    `read_at`: unix seconds.
    """

    run_id: str
    told: Live | None
    age_seconds: float | None
    read_at: float

    @property
    def is_fresh(self) -> bool:
        return self.told is not None and self.age_seconds is not None and abs(self.age_seconds) <= LIVE_SECONDS_MAX


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Line)
_KINDS = frozenset(one.__struct_config__.tag for one in (LiveHead, LiveTenant, LiveCapacity))


class _Kind(msgspec.Struct):
    """A line of any version's."""

    line: str


_KIND_DECODER = msgspec.json.Decoder(_Kind)


def encode_line(line: Line) -> bytes:
    """One line of the file, its end included."""
    return _ENCODER.encode(line) + b"\n"


class LiveFile:
    """The record that one gateway writes. Its calls may come from any thread, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, bytes] = {}  # the latest of each tenant and capacity
        self._file = -1
        self._size = 0
        self._size_max = 0

    def write(self, head: LiveHead, changed: Mapping[str, bytes]) -> None:
        """Add the lines of tenants and capacities that changed, by id, and a head. What cannot be written comes later.

        Raises:
            OSError: the disk refused.
        """
        self._lines.update(changed)
        try:
            if self._size >= self._size_max:
                self._write_anew(encode_line(head))
            else:
                self._add(b"".join((*changed.values(), encode_line(head))))
        except OSError:
            self.close()  # a part may stand there: the next time everything is written
            raise

    def _add(self, lines: bytes) -> None:
        while lines:
            written = os.write(self._file, lines)
            self._size += written
            lines = lines[written:]

    def _write_anew(self, head: bytes) -> None:
        """Who reads meanwhile finds the old file or the new one, whole."""
        self.close()
        draft = self._path.with_suffix(".new")
        self._file = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._add(b"".join((*self._lines.values(), head)))
        draft.replace(self._path)
        self._size_max = 2 * self._size + _SLACK_BYTES

    def clear(self) -> None:
        """Nothing of what was told is true any more; the next head says only that the gateway lives."""
        if self._lines:
            self._lines.clear()
            self.close()

    def close(self) -> None:
        file, self._file, self._size, self._size_max = self._file, -1, 0, 0
        if file >= 0:
            os.close(file)


def read_live(journal_dir: Path, now: float | None = None) -> list[LiveGateway]:
    """Every gateway that lives, with what it tells. `now` is unix seconds."""
    return _read_each(journal_dir, now, _read)


def read_health(journal_dir: Path) -> list[LiveGateway]:
    """Every gateway that lives, with what it tells of itself and nothing of tenants: however many it has, as cheap."""
    return _read_each(journal_dir, None, _read_head)


def _read_each(journal_dir: Path, now: float | None, read: Callable[[Path], Live | None]) -> list[LiveGateway]:
    now = time.time() if now is None else now
    found: list[LiveGateway] = []
    for lock in sorted(journal_dir.glob("*/lock")):
        run = lock.parent
        try:
            if not is_alive(run):
                continue
            written = os.stat(run / LIVE_FILE).st_mtime
        except FileNotFoundError:  # of the record: it has just begun. Of the lock: it has just ended.
            if lock.exists():
                found.append(LiveGateway(run.name, None, None, now))
            continue
        except OSError:
            continue
        told = read(run / LIVE_FILE)
        found.append(LiveGateway(run.name, told, now - (told.at if told is not None else written), now))
    return found


# How the words of one that is out of money begin.
SPENT = "out of money upstream"


@value
class DeadCredential:
    """A credential that is of no use until a time (RFC 3339; "" where nobody knows). `is_spent`: it is out of money;
    else the upstream has just refused it."""

    until: str
    is_spent: bool

    @property
    def words(self) -> str:
        return f"{SPENT if self.is_spent else 'refused upstream'} until {self.until or 'who knows'}"


def dead_credentials(gateways: Iterable[LiveGateway]) -> dict[str, DeadCredential]:
    """By name, as these tell now."""
    found: dict[str, DeadCredential] = {}
    for gateway in gateways:
        if gateway.told is not None and gateway.is_fresh:
            health = gateway.told.health
            for name, until in health.credentials_dead.items():
                found[name] = DeadCredential(until or "", name in health.credentials_spent)
    return found


def _read_head(path: Path) -> Live | None:
    """The last head, which stands at the end of what was written last; where it does not, the whole record is read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _HEAD_BYTES))
            lines = file.read(_HEAD_BYTES).splitlines(keepends=True)
        line = _DECODER.decode(lines[-1]) if lines and lines[-1].endswith(b"\n") else None
    except (OSError, *_UNREADABLE):
        line = None
    return Live(line.at, {}, {}, line.health, line) if isinstance(line, LiveHead) else _read(path)


def _read(path: Path) -> Live | None:
    try:
        with path.open("rb") as file:
            return decode_live(file.read(_FILE_BYTES_MAX))
    except OSError:
        return None


def encode_live(live: Live) -> bytes:
    """A record that says the same, each thing once."""
    capacities = [LiveCapacity(name, announced) for name, announced in live.announced.items()]
    return b"".join(map(encode_line, (*live.lines.values(), *capacities, live.head)))


def decode_live(text: bytes) -> Live | None:
    """What a record tells; None where it cannot be read, or has no head yet."""
    head: LiveHead | None = None
    tenants: dict[str, LiveTenant] = {}
    announced: dict[str, dict[str, dict[str, int]]] = {}
    try:
        for line in _decode_known(text[: text.rfind(b"\n") + 1]):
            if isinstance(line, LiveHead):
                head = line
            elif isinstance(line, LiveCapacity):
                announced[line.name] = line.announced
            else:
                tenants[line.tenant_id] = line
    except _UNREADABLE:
        return None
    if head is None:
        return None
    return Live(head.at, tenants, announced, head.health, head)


def _decode_known(text: bytes) -> Iterable[Line]:
    """The lines of kinds that this version knows. Raises: as msgspec."""
    try:
        return _DECODER.decode_lines(text)
    except msgspec.ValidationError:
        return [_DECODER.decode(line) for line in text.splitlines() if _KIND_DECODER.decode(line).line in _KINDS]


@value
class LiveSums:
    """How many gateways told their use, and the use of each tenant that one has served, by internal id.

    `announced`: the limits that upstreams announce, by capacity and model.
    """

    gateways: int
    tenants: dict[str, LiveUse]
    announced: dict[str, dict[str, dict[str, int]]]


def sum_live(gateways: list[LiveGateway]) -> LiveSums:
    """The use in all gateways whose record is fresh.

    Of a tenant it is told by those that grant for it; where none does, by the last one that did.
    """
    count = 0
    tenants: dict[str, LiveUse] = {}
    said: dict[str, tuple[bool, float]] = {}  # what counts so far: by who grants, and when
    announced: dict[str, dict[str, dict[str, int]]] = {}
    for gateway in gateways:
        if gateway.told is None or not gateway.is_fresh:
            continue
        count += 1
        announced |= gateway.told.announced
        for tenant_id, line in gateway.told.lines.items():
            before, use = said.get(tenant_id), line.use(gateway.read_at)
            if before is not None and before[0] and line.grants:
                tenants[tenant_id] = tenants[tenant_id].plus(use)
            elif before is None or (line.grants, line.at) > before:
                tenants[tenant_id], said[tenant_id] = use, (line.grants, line.at)
    return LiveSums(count, tenants, announced)
