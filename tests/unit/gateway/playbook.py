"""A gateway without sockets, time or disk, for tests that read like a script.

`World` is one gateway whose clients, upstreams, clock and journal are doubles. What it does towards the outside is
a word in `told`; everything that happens to it is a call. `play` runs a script: `>>` is what happens, `<<` what the
gateway does, in order and with nothing left out; a `*` behind it says that it may do so several times in a row.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tenantry.domain.allowances import Allowance
from tenantry.domain.asks import capacity_name
from tenantry.domain.attempts import AttemptBegun, AttemptEnded
from tenantry.domain.budgets import Budget, Cap
from tenantry.domain.directory import (
    Change,
    Credential,
    Disconnect,
    GatewayKey,
    KeyStatus,
    Snapshot,
    Tenant,
    TenantStatus,
    Upstream,
)
from tenantry.domain.keys import digest_key
from tenantry.domain.limits import Limits
from tenantry.domain.opening import Opening
from tenantry.domain.prices import load_default_prices
from tenantry.gateway import upstream
from tenantry.gateway.cells import Cells
from tenantry.gateway.client import ClientConnection
from tenantry.gateway.deadlines import TICK_SECONDS
from tenantry.gateway.exchange import Exchange
from tenantry.gateway.parts import Clock, Parts
from tenantry.gateway.process import GatewayProcess, build_parts
from tenantry.gateway.upstream import ConnectFailed, Pool, Pools, UpstreamConnection
from tenantry.gateway.upstream.head import head_of
from tenantry.ledger.journal import JournalUnavailable, JournalWriter
from tenantry.ledger.lines import decode_line
from tenantry.settings import load_settings

PEPPER = b"p" * 32
MODEL = "claude-haiku-5-5"
PRICES = load_default_prices()
OPEN = Limits(sessions_max=100, requests_per_minute=None, queue_wait_ms_max=5_000)
# 2026-11-25 12:00 UTC: the middle of a day, a week and a month.
START_US = 1_795_608_000_000_000


class Handle:
    """A timer. A cancelled one lets go of what it would have called, as the loop's do."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.call = None


class Time:
    """Time, and what it sets off. `now` in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Any]] = []
        self._count = itertools.count()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        handle = Handle(callback)
        heapq.heappush(self._timers, (self.now + seconds, next(self._count), handle))
        return handle

    def turn(self) -> None:
        """What has been put off to the next turn of the loop, and what that puts off."""
        while self._soon:
            self._soon.popleft()()

    def next_timer(self, end: float) -> bool:
        """Call the next timer that is due by `end`, in its time."""
        if not self._timers or self._timers[0][0] > end:
            return False
        at, _, handle = heapq.heappop(self._timers)
        self.now = max(self.now, at)
        if handle.call is not None:
            handle.call()
        return True

    def forget_soon(self) -> None:
        """What was put off to the next turn never comes."""
        self._soon.clear()

    def forget_timers(self) -> None:
        """No timer ever comes."""
        self._timers.clear()

    @property
    def pending(self) -> int:
        """Timers that have not been cancelled."""
        return sum(1 for _, _, handle in self._timers if handle.call is not None)


class Disk(JournalWriter):
    """A journal writer. `works` is False while the disk is full; `events` are on the file."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told
        self._waiting: list[tuple[str, Any]] = []
        self.events: list[tuple[str, Any]] = []
        self.works = True

    def begin(self, event: Any) -> None:
        self._waiting.append(("begin", event))

    def progress(self, event: Any) -> None:
        self._waiting.append(("progress", event))

    def end(self, event: Any) -> None:
        self._waiting.append(("end", event))

    def tally(self, event: Any) -> None:
        self._waiting.append(("tally", event))

    def add(self, line: bytes) -> None:
        event = decode_line(line)
        kind = {AttemptBegun: "begin", AttemptEnded: "end"}[type(event)]  # type: ignore[index]
        self._waiting.append((kind, event))

    @property
    def has_lines(self) -> bool:
        return bool(self._waiting)

    def flush(self) -> None:
        if not self.works:
            self._waiting = [line for line in self._waiting if line[0] == "end"]
            self._told("journal full")
            raise JournalUnavailable("the journal's disk is full")
        self.events += self._waiting
        for kind, event in self._waiting:
            if kind == "end":
                self._told(f"journal end {event.outcome.value}" + (f" {event.error}" if event.error else ""))
            elif kind != "tally":
                self._told(f"journal {kind}")
        self._waiting = []


class Connection(UpstreamConnection):
    """A connection to the upstream."""

    def __init__(self, world: World, pool: UpstreamPool, *, used: bool = False) -> None:
        self.world = world
        self.pool = pool
        self.sink: Any = None
        self.used = used
        self.stage = ""  # what of its answer it has sent; for who plays the upstream
        self.is_open = True
        self.is_paused = False

    def send(self, sink: Any, head: bytes, body: bytes) -> None:
        assert self.is_open
        assert self.sink is None
        self.sink = sink
        self.world.sent.append(self)
        self.world.heads.append(head)
        self.world.tell(f"bytes up {self.pool.name}" if self.pool.name != "crd_acme" else "bytes up")

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def abandon(self) -> None:
        self.sink = None
        self.close()
        self.world.tell("abandon")

    def close(self) -> None:
        self.is_open = False
        if self in self.world.sent:
            self.world.sent.remove(self)

    # What the upstream does

    def head(self, status: int, headers: dict[str, str] | None = None) -> None:
        fields = [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
        self.sink.on_head(head_of(status, fields))

    def body(self, data: bytes) -> None:
        sink = self.sink
        sink.on_body(data)
        if self.sink is not None:
            sink.on_flush()

    def whole(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """An answer in one read."""
        fields = [(b"content-length", b"%d" % len(body))]
        fields += [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
        self._idle().on_whole(head_of(status, fields), body)

    def end(self) -> None:
        self._idle().on_end()

    def _idle(self) -> Any:
        """Its answer is whole: it can be used again."""
        sink, self.sink = self.sink, None
        if self in self.world.sent:
            self.world.sent.remove(self)
        self.pool.idle.append(Connection(self.world, self.pool, used=True))
        return sink

    def broken(self, reason: str = "upstream_dropped") -> None:
        sink, self.sink = self.sink, None
        self.close()
        if sink is not None:
            sink.on_broken(reason)


class Connecting(upstream.Connecting):
    """A connection that is being made."""

    def __init__(self, world: World, pool: UpstreamPool, then: Callable[[Any], None]) -> None:
        self.world = world
        self.pool = pool
        self._then = then
        world.connecting.append(self)
        world.tell("connect")

    def cancel(self) -> None:
        if self in self.world.connecting:
            self.world.connecting.remove(self)
            self.world.tell("connect cancelled")

    def made(self) -> None:
        self.world.connecting.remove(self)
        self._then(Connection(self.world, self.pool))

    def failed(self) -> None:
        self.world.connecting.remove(self)
        self._then(ConnectFailed("refused"))


class UpstreamPool(Pool):
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.idle: list[Connection] = []
        self.host = b"upstream"
        self.path_prefix = b""

    def take(self) -> Connection | None:
        return self.idle.pop() if self.idle else None

    def connect(self, then: Callable[[Any], None]) -> Connecting:
        return Connecting(self.world, self, then)


class UpstreamPools(Pools):
    def __init__(self, world: World) -> None:
        self.world = world
        self.pools: dict[tuple[str, str], UpstreamPool] = {}

    def of(self, _upstream: Upstream, credential_id: str, tenant_id: str) -> UpstreamPool:
        key = (credential_id, tenant_id)
        if key not in self.pools:
            self.pools[key] = UpstreamPool(self.world, credential_id)
        return self.pools[key]

    def sweep(self, _now: float) -> None:
        return

    def close(self) -> None:
        return


class ClientSocket:
    """A client and its transport. `answers` are the whole answers that it got."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.received = b""
        self.is_open = True
        self.is_read = True
        self.asked = 0
        self.answers: list[str] = []
        self.last = b""  # the latest answer, as it came
        self.left = False
        self.connection = ClientConnection(world.parts)
        self.connection.connection_made(self)  # type: ignore[arg-type]

    def ask(self, body: dict[str, Any], key: str = "acme", path: str = "/v1/messages", **headers: str) -> None:
        self.asked += 1
        self.connection.data_received(request_bytes(body, key, path, **headers))

    def leave(self) -> None:
        """The socket is gone."""
        if self.is_open:
            self.is_open = False
            self.left = True
            self.connection.connection_lost(None)

    # A transport

    def write(self, data: bytes) -> None:
        assert self.is_open
        self.received += data
        self._read()

    def writelines(self, several: list[bytes]) -> None:
        self.write(b"".join(several))

    def _read(self) -> None:
        """Take whole answers off what was received."""
        while True:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.received[:end].decode()
            status = int(head.split(" ")[1])
            length = re.search(r"\r\ncontent-length: (\d+)", head)
            if length is not None:
                total = end + 4 + int(length[1])
                if len(self.received) < total:
                    return
                body, self.received = self.received[end + 4 : total], self.received[total:]
            elif "transfer-encoding: chunked" in head:
                done = self.received.find(b"\r\n0\r\n\r\n", end) + 7
                if done < 7:
                    return
                body, self.received = self.received[end + 4 : done], self.received[done:]
            else:
                return
            self.last = head.encode() + b"\r\n\r\n" + body
            word = f"answer {status}"
            if b"event: error" in body:
                word += " interrupted"
            self.answers.append(word)
            self.world.tell(word if self.name == "c" else f"{self.name}: {word}")

    def abort(self) -> None:
        if self.is_open:
            self.is_open = False
            self.left = self.left or self.connection.is_paused  # who takes no bytes counts as gone
            cut = self.received.startswith(b"HTTP/1.1")
            self.received = b""
            if cut:
                self.answers.append("answer cut")
                self.world.tell("answer cut" if self.name == "c" else f"{self.name}: answer cut")
            self.world.time.call_soon(lambda: self.connection.connection_lost(None))

    close = abort

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        return

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def get_write_buffer_size(self) -> int:
        return 0


def request_bytes(body: dict[str, Any], key: str = "acme", path: str = "/v1/messages", **headers: str) -> bytes:
    """A request of `key`; `headers` by name, with `_` for `-`."""
    encoded = json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {key_of(key)}\r\n{lines}content-length: {len(encoded)}\r\n\r\n"
    )
    return head.encode() + encoded


def at_host(host: str, data: bytes) -> bytes:
    """The same request, for another host than `a`."""
    return data.replace(b"\r\nhost: a\r\n", f"\r\nhost: {host}\r\n".encode(), 1)


def key_of(slug: str) -> str:
    return f"sk-proxy-{slug}-DUMMY"


class World:
    """See the module. `limits` and `budget_usd` are those of every tenant; `capacity` that of the shared upstream."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        slugs: tuple[str, ...] = ("acme",),
        domain: str = "",
        limits: Limits = OPEN,
        capacity: Limits | None = None,
        budget_nanos: int | None = None,
        fallback: bool = False,
        disconnect: Disconnect = Disconnect.DRAIN,
        is_one_of_several: bool = False,
        allowance: Allowance | None = None,
    ) -> None:
        self.time = Time()
        self.cells = Cells(lambda: self.time.now) if is_one_of_several else None
        self.told: list[str] = []
        self.tell = self.told.append
        self.disk = Disk(self.tell)
        self.sent: list[Connection] = []
        self.heads: deque[bytes] = deque(maxlen=100)  # of the latest requests that went upstream
        self.connecting: list[Connecting] = []
        self.beside: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        upstream = Upstream("ups_1", "first", "http://first")
        if capacity is not None:
            upstream = replace(upstream, capacity=capacity, shares_capacity=True)
        second = Credential("crd_second", "second", Upstream("ups_2", "second", "http://second"), "sandbox-second")
        budget = Budget((), "hard") if budget_nanos is None else Budget((Cap("month", budget_nanos, ()),), "hard")
        tenants: dict[str, Tenant] = {}
        keys: dict[bytes, GatewayKey] = {}
        for slug in slugs:
            credential = Credential(f"crd_{slug}", slug, upstream, f"sandbox-{slug}")
            tenant = Tenant(
                f"tnt_{slug}",
                slug,
                slug,
                TenantStatus.ACTIVE,
                "test",
                limits,
                credential,
                second if fallback else None,
                disconnect=disconnect,
                budget=budget,
                allowance=allowance,
            )
            tenants[tenant.tenant_id] = tenant
            digest = digest_key(PEPPER, key_of(slug).encode())
            keys[digest] = GatewayKey(f"key_{slug}", tenant.tenant_id, digest, KeyStatus.ACTIVE)
        settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path)}).gateway
        clock = Clock(lambda: self.time.now, self.wall_us, self.time.call_soon, self.time.call_later)
        parts = build_parts(
            replace(settings, zone=ZoneInfo("UTC"), public_domain=domain),
            Snapshot(1, keys, tenants),
            PEPPER,
            PRICES,
            self.disk,
            Opening(START_US),
            clock,
            self._beside,
            self.cells,
        )
        self.pools = UpstreamPools(self)
        self.parts: Parts = replace(parts, pools=self.pools)  # type: ignore[arg-type]
        self.process = GatewayProcess(self.parts)
        self.process.collects = False
        Exchange.strict = True

    # The store, where this gateway is one of several

    def own(self, *tenant_ids: str) -> None:
        """The lease is renewed, and the store says of these tenants that they are this gateway's."""
        assert self.cells is not None
        tenure, snapshot = self.cells.tenure, self.parts.latest.snapshot
        tenure.renewed(math.inf, tenure.life)
        for tenant_id in tenant_ids:
            tenant = snapshot.tenants[tenant_id]
            drawn = [capacity_name(one) for one in (tenant.credential, tenant.fallback) if one is not None]
            tenure.take(dict.fromkeys(drawn, 1), {}, tenure.life)
            tenure.open(tenant_id, drawn[0], tenure.life)

    def raise_ceilings(self) -> None:
        """The store lets this gateway take what it asks for."""
        assert self.cells is not None
        till = self.parts.till
        for ceiling in self.cells.take_asked():
            account = till.account_under(ceiling)
            if account is not None:
                account.taken(
                    ceiling.next_taken(account.used_nanos, account.left_nanos(self.wall_us())), self.wall_us()
                )
        self.cells.answer_for_more()

    def wall_us(self) -> int:
        return START_US + int((self.time.now - 1000.0) * 1_000_000)

    def _beside(self, read: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self.beside.append((read, then))

    def read_beside(self) -> None:
        """The bodies that are read beside the loop have been read."""
        while self.beside:  # one at a time: each lets the next have its turn
            read, then = self.beside.pop(0)
            try:
                found = read()
            except Exception as error:  # noqa: BLE001 -- handed on as the real thing does
                then(error)
            else:
                then(found)

    def client(self, name: str = "c") -> ClientSocket:
        return ClientSocket(self, name)

    def turn(self) -> None:
        self.time.turn()

    def advance(self, seconds: float, tick_seconds: float = TICK_SECONDS) -> None:
        """Let time pass, with a tick of the process every so often: on a busy machine ticks come late."""
        end = self.time.now + seconds
        while True:
            self.turn()
            tick = self.time.now + tick_seconds
            while self.time.next_timer(min(tick, end)):
                self.turn()
            if tick > end:
                self.time.now = end
                return
            self.time.now = tick
            self.process.tick()
            self.turn()

    def change(self, slug: str, **changes: Any) -> None:
        """The directory has changed a tenant."""
        snapshot = self.parts.latest.snapshot
        tenants = dict(snapshot.tenants)
        tenants[f"tnt_{slug}"] = replace(tenants[f"tnt_{slug}"], **changes)
        changed = replace(snapshot, version=snapshot.version + 1, tenants=tenants)
        self.process.apply(Change(changed, frozenset({f"tnt_{slug}"}), frozenset()))

    def set_key(self, name: str, slug: str = "acme", **changes: Any) -> None:
        """The directory has changed a key of a tenant, or has a new one: `name` is what `key_of` makes it from."""
        snapshot = self.parts.latest.snapshot
        digest = digest_key(PEPPER, key_of(name).encode())
        known = snapshot.keys.get(digest)
        if known is None:
            known = GatewayKey(f"key_{name}", f"tnt_{slug}", digest, KeyStatus.ACTIVE)
        self._apply_keys(snapshot.keys | {digest: replace(known, **changes)}, digest)

    def forget_key(self, name: str) -> None:
        """The directory does not know the key any more."""
        digest = digest_key(PEPPER, key_of(name).encode())
        keys = {known: key for known, key in self.parts.latest.snapshot.keys.items() if known != digest}
        self._apply_keys(keys, digest)

    def _apply_keys(self, keys: dict[bytes, GatewayKey], changed: bytes) -> None:
        snapshot = self.parts.latest.snapshot
        snapshot = replace(snapshot, version=snapshot.version + 1, keys=keys)
        self.process.apply(Change(snapshot, frozenset(), frozenset({changed})))

    def stop(self) -> None:
        """The gateway begins to stop."""
        self.parts.population.is_stopping = True
        for served in list(self.parts.population.served):
            if served in self.parts.population.served:  # as the process: what one gives back may have ended another
                served.stop()

    # What has to hold

    def problems(self) -> list[str]:
        """What is wrong now, at any moment."""
        parts = self.parts
        found: list[str] = []
        begun = [event.attempt_id for kind, event in self.disk.events if kind == "begin"]
        ended = [event.attempt_id for kind, event in self.disk.events if kind == "end"]
        if len(set(begun)) != len(begun) or len(set(ended)) != len(ended):
            found.append("a begin or an end stands twice")
        if set(ended) - set(begun):
            found.append("an end without a begin")
        sending = {connection.sink.attempt_id for connection in self.sent if hasattr(connection.sink, "attempt_id")}
        if self.disk.works and sending - set(begun):
            found.append("sent before it was journalled")
        if sending & set(ended):
            found.append("ended, and still sending")
        if not parts.population.served and (parts.lanes.in_flight() or parts.lanes.waiting() or self.sent):
            found.append("nobody is served, and something is held")
        return found

    def leftovers(self) -> list[str]:
        """What is left when nothing is going on; nothing may be."""
        parts = self.parts
        counts = {
            "served": len(parts.population.served),
            "streams": len(parts.population.streams),
            "in flight": parts.lanes.in_flight(),
            "waiting": parts.lanes.waiting(),
            "held nanos": parts.till.held_nanos(),
            "connections upstream": len(self.sent),
            "connections being made": len(self.connecting),
            "bytes of bodies that wait": parts.bodies.waiting_bytes,
            "timers": self.time.pending,
            "unflushed": int(self.disk.has_lines),
        }
        found = [f"{count} {what}" for what, count in counts.items() if count]
        begun = {event.attempt_id for kind, event in self.disk.events if kind == "begin"}
        ended = {event.attempt_id for kind, event in self.disk.events if kind == "end"}
        return found + ([f"{len(begun - ended)} begins without an end"] if begun - ended else [])


def message(text: str = "hello", max_tokens: int = 100, *, stream: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {"model": MODEL, "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}]}
    return body | {"stream": True} if stream else body


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def start_event(input_tokens: int = 10) -> bytes:
    usage = {"input_tokens": input_tokens, "output_tokens": 1}
    return event("message_start", message={"id": "msg_1", "model": MODEL, "content": [], "usage": usage})


def text_event(text: str = "some text") -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def end_events(output_tokens: int = 7) -> bytes:
    delta = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": output_tokens})
    return delta + event("message_stop")


def whole_answer(input_tokens: int = 10, output_tokens: int = 5) -> bytes:
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    content = [{"type": "text", "text": "hi"}]
    return json.dumps(
        {"id": "msg_1", "model": MODEL, "stop_reason": "end_turn", "usage": usage, "content": content}
    ).encode()


def error_answer(kind: str = "overloaded_error") -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": "no"}}).encode()


def play(world: World, script: str) -> None:
    """Run a script; see the module. Raises AssertionError with the whole of what was told when a line differs."""
    steps = Steps(world)
    seen = len(world.told)
    expected: list[str] = []

    def check() -> None:
        nonlocal seen
        got, seen = world.told[seen:], len(world.told)
        repeated = {line.removesuffix("*") for line in expected if line.endswith("*")}
        got = [line for at, line in enumerate(got) if line not in repeated or got[at - 1 : at] != [line]]
        assert got == [line.removesuffix("*") for line in expected], (
            f"expected {expected}, got {got}; all that was told: {world.told}"
        )
        expected.clear()

    for line in filter(str.strip, script.splitlines()):
        kind, _, rest = line.strip().partition(" ")
        if kind == "<<":
            expected.append(rest)
        elif kind == ">>":
            check()
            word, *arguments = rest.split(" ")
            getattr(steps, word.replace("-", "_"))(*arguments)
            world.turn()
            assert world.problems() == []
        else:
            raise ValueError(line)
    check()


class Steps:
    """The words of a script."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clients: dict[str, ClientSocket] = {}

    def _client(self, name: str = "c") -> ClientSocket:
        if name not in self.clients:
            self.clients[name] = self.world.client(name)
        return self.clients[name]

    def ask(self, name: str = "c", slug: str = "acme") -> None:
        self._client(name).ask(message(), slug)

    def stream(self, name: str = "c", slug: str = "acme") -> None:
        self._client(name).ask(message(stream=True, max_tokens=100_000), slug)

    def big(self, name: str = "c") -> None:
        self._client(name).ask(message("x" * (1 << 20)))

    def unreadable(self, name: str = "c") -> None:
        self._client(name).ask({"model": MODEL, "big": "x" * (1 << 20)})

    def read(self) -> None:
        self.world.read_beside()

    def connected(self) -> None:
        self.world.connecting[0].made()

    def connect_failed(self) -> None:
        self.world.connecting[0].failed()

    def head(self, status: str, kind: str = "json", *fields: str) -> None:
        kinds = {"json": "application/json", "stream": "text/event-stream"}
        extra = dict(field.split("=", 1) for field in fields)
        self.world.sent[0].head(int(status), {"content-type": kinds[kind]} | extra)

    def whole(self, status: str = "200", *fields: str) -> None:
        """A whole answer that is not streamed."""
        body = whole_answer() if status == "200" else error_answer()
        connection = self.world.sent[0]
        extra = dict(field.split("=", 1) for field in fields)
        connection.head(int(status), {"content-type": "application/json", "content-length": str(len(body))} | extra)
        if connection.sink is not None:
            connection.body(body)
        if connection.sink is not None:
            connection.end()

    def half(self) -> None:
        self.world.sent[0].body(whole_answer()[:20])

    def flood(self) -> None:
        self.world.sent[0].body(b"x" * 70_000)

    def started(self) -> None:
        self.world.sent[0].body(start_event())

    def text(self, chars: str = "9") -> None:
        self.world.sent[0].body(text_event("x" * int(chars)))

    def finished(self) -> None:
        connection = self.world.sent[0]
        connection.body(end_events())
        connection.end()

    def end(self) -> None:
        self.world.sent[0].end()

    def reset(self) -> None:
        self.world.sent[0].broken()

    def stale(self) -> None:
        self.world.sent[0].broken("stale")

    def leave(self, name: str = "c") -> None:
        self._client(name).leave()

    def pause(self, name: str = "c") -> None:
        self._client(name).connection.pause_writing()

    def resume(self, name: str = "c") -> None:
        self._client(name).connection.resume_writing()

    def wait(self, seconds: str) -> None:
        self.world.advance(float(seconds))

    def disk_full(self) -> None:
        self.world.disk.works = False

    def disable(self, slug: str = "acme") -> None:
        self.world.change(slug, status=TenantStatus.DISABLED)

    def stop(self) -> None:
        self.world.stop()

    def count(self, tokens: str) -> None:
        connection = self.world.sent[0]
        connection.head(200, {"content-type": "application/json"})
        connection.body(json.dumps({"input_tokens": int(tokens)}).encode())
        connection.end()
