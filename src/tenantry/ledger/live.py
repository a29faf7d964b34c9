"""What each gateway uses now, and how it is: one typed record, which it rewrites each second beside its journal.

`write_live` is the only writer and `read_live` the only reader. A record that is torn, of another version or left by a
dead gateway is unknown; it never stops who asks.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from tenantry.domain.limits import Limits
from tenantry.domain.values import value
from tenantry.ledger.journal import is_alive

LIVE_FILE = "live.json"
# Ten times the time between two writings.
LIVE_SECONDS_MAX = 10.0
# 10,000 tenants in use take 3 MB.
_FILE_BYTES_MAX = 64 * 1024 * 1024


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


class LiveHealth(msgspec.Struct, omit_defaults=True):
    """Names of upstreams whose breaker is open; credentials that are of no use, with the time until then (RFC 3339).

    `directory_fault`: why changes of the directory are not followed; "" where they are.
    """

    upstreams_down: list[str] = []
    credentials_dead: dict[str, str | None] = {}
    journal_works: bool = True
    directory_fault: str = ""


class Live(msgspec.Struct):
    """All that a gateway tells. `at` is unix seconds; `tenants` are those that use something, by internal id."""

    at: float
    tenants: dict[str, LiveUse]
    health: LiveHealth


@value
class LiveGateway:
    """A gateway that lives. `told` is None where its record cannot be read, `age_seconds` where it has none yet."""

    run_id: str
    told: Live | None
    age_seconds: float | None

    @property
    def is_fresh(self) -> bool:
        return self.told is not None and self.age_seconds is not None and abs(self.age_seconds) <= LIVE_SECONDS_MAX


_DECODER = msgspec.json.Decoder(Live)


def write_live(path: Path, record: Live) -> None:
    """Replace the record in the file `path`; who reads meanwhile finds the one or the other, whole.

    Raises:
        OSError: the disk refused.
    """
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(msgspec.json.encode(record))
    draft.replace(path)


def read_live(journal_dir: Path, now: float | None = None) -> list[LiveGateway]:
    """Every gateway that lives, with what it tells. `now` is unix seconds."""
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
                found.append(LiveGateway(run.name, None, None))
            continue
        except OSError:
            continue
        told = _read(run / LIVE_FILE)
        found.append(LiveGateway(run.name, told, now - (told.at if told is not None else written)))
    return found


def _read(path: Path) -> Live | None:
    try:
        with path.open("rb") as file:
            return _DECODER.decode(file.read(_FILE_BYTES_MAX))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


@value
class LiveSums:
    """How many gateways told their use, and the use of each tenant that has any, by internal id."""

    gateways: int
    tenants: dict[str, LiveUse]


def sum_live(gateways: list[LiveGateway]) -> LiveSums:
    """The use in all gateways whose record is fresh."""
    count = 0
    tenants: dict[str, LiveUse] = {}
    for gateway in gateways:
        if gateway.told is None or not gateway.is_fresh:
            continue
        count += 1
        for tenant_id, use in gateway.told.tenants.items():
            known = tenants.get(tenant_id)
            tenants[tenant_id] = use if known is None else known.plus(use)
    return LiveSums(count, tenants)
