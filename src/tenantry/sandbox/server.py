"""The simulated Messages API as a server. It listens where it is told to, normally on loopback only."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httptools

from tenantry.domain.admission import Bucket
from tenantry.sandbox.answers import (
    MODELS,
    Answer,
    compose,
    error_body,
    events,
    model_info,
    model_page,
    prompt_tokens,
    whole,
)
from tenantry.sandbox.log import SandboxLog
from tenantry.sandbox.scenarios import Scenario, UnknownScenario, parse_scenario
from tenantry.wire.http1 import LAST_CHUNK, chunk, response_head

log = logging.getLogger("tenantry.sandbox")

# Every model that could be Claude's is answered, also one that has no price yet; others are unknown, as upstream.
MODEL_BEGIN = "claude-"
# The API repeats the name that it does not know.
_MODEL_ECHO_CHARS_MAX = 80

# What must never reach an upstream; its presence is a fault of the gateway in front (reference 2.1, 2.3).
_LEAKS = ("x-tenant-id", "cookie", "x-forwarded-for", "x-forwarded-host", "proxy-authorization")


class _Request:
    __slots__ = ("body", "fields", "keep_alive", "method", "target")

    def __init__(self, method: str, target: str, fields: dict[str, str], body: bytes, keep_alive: bool) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
        self.keep_alive = keep_alive


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class _Connection(asyncio.Protocol):
    """Reads requests with llhttp; answers them one after the other."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._parser = httptools.HttpRequestParser(self)
        self._queue: asyncio.Queue[_Request | None] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._target = b""
        self._fields: dict[str, str] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # pyright: ignore[reportAttributeAccessIssue] -- a stream transport
        self._worker = asyncio.get_running_loop().create_task(self._work())

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self._worker is not None:
            self._worker.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def on_message_begin(self) -> None:
        self._target, self._fields, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        keep = self._parser.should_keep_alive()
        self._queue.put_nowait(
            _Request(method, self._target.decode("latin-1"), self._fields, b"".join(self._body), keep)
        )

    async def _work(self) -> None:
        while True:
            request = await self._queue.get()
            if request is None:
                return
            await self._sandbox.answer(request, self)
            if not request.keep_alive or self.transport.is_closing():
                self.transport.close()
                return

    async def write(self, data: bytes) -> None:
        await self._writable.wait()
        self.transport.write(data)


class Sandbox:
    """Answers requests, and keeps the log."""

    def __init__(self, journal: SandboxLog) -> None:
        self._log = journal
        self._count = 0
        self._failed: Counter[str] = Counter()
        self._cached: set[str] = set()
        self._limits: dict[tuple[str, int], Bucket] = {}
        self._synced: asyncio.Future[None] | None = None

    async def answer(self, request: _Request, to: _Connection) -> None:
        self._count += 1
        request_id = f"req_sandbox{self._count:012d}"
        path, _, query = request.target.partition("?")
        try:
            _check_credential(request)
            scenario, model = _scenario_of(request)
            if request.method == "GET" and path == "/v1/models":
                await _send(to, 200, request_id, json.dumps(_models(query)).encode())
            elif request.method == "GET" and path.removeprefix("/v1/models/") in MODELS:
                await _send(to, 200, request_id, json.dumps(model_info(path.removeprefix("/v1/models/"))).encode())
            elif request.method == "POST" and path in ("/v1/messages", "/v1/messages/count_tokens"):
                await self._post(request, to, request_id, path.endswith("tokens"), scenario, model)
            else:
                raise _Refused(404, f"sandbox: no such endpoint: {request.method} {path}")
        except _Refused as refusal:
            await _send(to, refusal.status, request_id, error_body(refusal.status, str(refusal), request_id))

    async def _post(
        self, request: _Request, to: _Connection, request_id: str, counting: bool, scenario: Scenario, model: str
    ) -> None:
        body = _parse(request.body)
        if not model.startswith(MODEL_BEGIN):
            raise _Refused(404, f"model: {model[:_MODEL_ECHO_CHARS_MAX]}")
        if counting:
            await _send(to, 200, request_id, json.dumps({"input_tokens": prompt_tokens(body)}).encode())
            return
        if head_ms := scenario.number("head-ms", 0):
            await asyncio.sleep(head_ms / 1000)
        scenario = self._after_failures(request, scenario)
        quota = self._quota(request, scenario)
        if await _refuse(to, request_id, scenario, quota):
            return
        answer = compose(request.body, body, model, scenario)
        if "cache" in scenario:
            self._read_from_cache(answer.usage, body)
        streaming = body.get("stream") is True
        self._log.write(
            {
                "event": "begin",
                "request_id": request_id,
                "credential": _fingerprint(request),
                "model": model,
                "stream": streaming,
                "max_tokens": body.get("max_tokens"),
                "tag": request.fields.get("x-sandbox-tag", ""),
                "input_tokens": answer.usage["input_tokens"],
                "user_agent": request.fields.get("user-agent", ""),
            }
        )
        await self._on_disk()
        if await _misbehave(to, scenario):
            return
        if streaming:
            await self._stream(to, answer, scenario, request_id, quota)
        else:
            await _send(to, 200, request_id, whole(answer), quota, cut="bad-length" in scenario)
        self._log.write({"event": "end", "request_id": request_id, "output_tokens": answer.usage["output_tokens"]})

    def _read_from_cache(self, usage: dict[str, Any], body: dict[str, Any]) -> None:
        prefix = hashlib.sha256(json.dumps(body.get("system")).encode()).hexdigest()
        if prefix in self._cached and usage["cache_creation_input_tokens"]:
            usage["cache_read_input_tokens"] = usage["cache_creation_input_tokens"]
            usage["cache_creation_input_tokens"] = 0
            usage["cache_creation"] = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
        elif usage["cache_creation_input_tokens"]:
            self._cached.add(prefix)

    def _after_failures(self, request: _Request, scenario: Scenario) -> Scenario:
        """The scenario without its faults, once it has failed often enough."""
        times = scenario.number("fail-times", 0)
        if not times:
            return scenario
        tag = request.fields.get("x-sandbox-tag", "")
        self._failed[tag] += 1
        return scenario if self._failed[tag] <= times else Scenario()

    def _quota(self, request: _Request, scenario: Scenario) -> list[tuple[bytes, bytes]]:
        """The quota fields under `limit-rpm`; with `retry-after` among them, the request is one too many."""
        per_minute = scenario.number("limit-rpm", 0)
        if not per_minute:
            return []
        now = asyncio.get_running_loop().time()
        key = (_fingerprint(request), per_minute)
        bucket = self._limits.get(key)
        if bucket is None:
            bucket = self._limits[key] = Bucket(per_minute, max(1, per_minute // 60), now)
        wait = bucket.wait(1, now)
        if wait == 0:
            bucket.take(1)
        fields = [
            (b"anthropic-ratelimit-requests-limit", b"%d" % per_minute),
            (b"anthropic-ratelimit-requests-remaining", b"%d" % bucket.remaining()),
        ]
        return [*fields, (b"retry-after", b"%d" % (int(wait) + 1))] if wait else fields

    async def _stream(
        self,
        to: _Connection,
        answer: Answer,
        scenario: Scenario,
        request_id: str,
        quota: list[tuple[bytes, bytes]],
    ) -> None:
        kind = b"text/event-stream; charset=utf-8"
        fields = [*_fields(request_id, kind), *quota, (b"cache-control", b"no-cache")]
        await to.write(response_head(200, [*fields, (b"transfer-encoding", b"chunked")]))
        pause = scenario.number("chunk-ms", 0) / 1000
        parts = list(events(answer, scenario))
        for number, event in enumerate(parts):
            if number >= len(parts) // 2 and ("drop-midstream" in scenario or "drop-mid-event" in scenario):
                if "drop-mid-event" in scenario:
                    await to.write(chunk(event[: len(event) // 2]))
                await asyncio.sleep(0.05)
                to.transport.close()
                return
            if number == scenario.number("cut-after", len(parts)):
                await asyncio.sleep(0.02)
                to.transport.close()
                return
            await to.write(chunk(event))
            if pause:
                await asyncio.sleep(pause)
        await to.write(LAST_CHUNK)

    async def _on_disk(self) -> None:
        """Group commit: everyone who waits shares one sync."""
        if self._synced is None:
            self._synced = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.001, self._sync)
        await asyncio.shield(self._synced)

    def _sync(self) -> None:
        waiting, self._synced = self._synced, None
        self._log.sync()
        if waiting is not None:
            waiting.set_result(None)


async def _refuse(to: _Connection, request_id: str, scenario: Scenario, quota: list[tuple[bytes, bytes]]) -> bool:
    """The errors that replace an answer; True when one did. Nothing of it would be billed."""
    extra = quota
    if "spend-cap" in scenario:
        status, message = 429, "You have reached your API usage limits: sandbox. You will regain access on 2030-01-01."
    elif status := scenario.number("error", 0):
        message = f"sandbox: simulated error {status}"
        if status == 429:
            extra = [(b"retry-after", b"%d" % scenario.number("retry-after", 1))]
    elif quota and quota[-1][0] == b"retry-after":
        status, message = 429, "sandbox: this would exceed the requests per minute of the organization"
    else:
        return False
    await _send(to, status, request_id, error_body(status, message, request_id), extra)
    return True


async def _misbehave(to: _Connection, scenario: Scenario) -> bool:
    """The faults that replace a whole answer; True when one did."""
    if "hang" in scenario:
        await asyncio.sleep(3600)
    elif "drop-before-head" in scenario:
        to.transport.close()
    elif "half-head" in scenario:
        await to.write(b"HTTP/1.1 200 OK\r\ncontent-type: appli")
        to.transport.close()
    elif "garbage" in scenario:
        await to.write(b"\x00\xffthis is not HTTP\r\n\r\n")
        to.transport.close()
    else:
        return False
    return True


def _check_credential(request: _Request) -> None:
    fields = request.fields
    bearer = fields.get("authorization", "").removeprefix("Bearer ")
    presented = fields.get("x-api-key") or bearer
    if "sk-proxy-" in presented or any(name in fields for name in _LEAKS):
        raise _Refused(500, "sandbox_leak: the request carries what a gateway must not forward")
    if not presented.startswith(("sk-ant-", "sandbox-")):
        raise _Refused(401, "sandbox: invalid x-api-key")


def _scenario_of(request: _Request) -> tuple[Scenario, str]:
    try:
        model = json.loads(request.body).get("model") if request.body else None
    except (ValueError, AttributeError):
        model = None
    name, _, behind = model.partition("+") if isinstance(model, str) else ("", "", "")
    text = ";".join(filter(None, (request.fields.get("x-sandbox-scenario", ""), behind)))
    try:
        return parse_scenario(text), name
    except UnknownScenario as error:
        raise _Refused(400, str(error)) from None


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        raise _Refused(400, "sandbox: the request body is not valid JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):  # pyright: ignore[reportUnknownMemberType] -- decoded JSON
        raise _Refused(400, "messages: Field required")
    return body  # pyright: ignore[reportUnknownVariableType] -- decoded JSON


def _models(query: str) -> dict[str, Any]:
    asked = parse_qs(query)
    limit = asked.get("limit", ["20"])[0]
    return model_page(int(limit) if limit.isdigit() else 20, asked.get("after_id", [None])[0])


def _fingerprint(request: _Request) -> str:
    presented = request.fields.get("x-api-key") or request.fields.get("authorization", "")
    return hashlib.sha256(presented.encode()).hexdigest()[:12]


def _fields(request_id: str, content_type: bytes) -> list[tuple[bytes, bytes]]:
    """Response fields as the API sends them, those that a gateway must hide included."""
    return [
        (b"content-type", content_type),
        (b"request-id", request_id.encode()),
        (b"x-tenantry-sandbox", b"simulation"),
        (b"anthropic-organization-id", b"00000000-0000-4000-8000-00000000abcd"),
        (b"anthropic-workspace-id", b"wrkspc_sandbox"),
        (b"anthropic-priority-input-tokens-limit", b"1000000"),
        (b"cf-ray", b"0000000000000000-SBX"),
        (b"server", b"tenantry-sandbox"),
    ]


async def _send(
    to: _Connection,
    status: int,
    request_id: str,
    body: bytes,
    extra: list[tuple[bytes, bytes]] | None = None,
    cut: bool = False,
) -> None:
    promised = len(body) + (1000 if cut else 0)
    fields = [*_fields(request_id, b"application/json"), *(extra or []), (b"content-length", b"%d" % promised)]
    await to.write(response_head(status, fields) + body)
    if cut:
        to.transport.close()


async def serve_sandbox(
    host: str,
    port: int,
    log_path: Path,
    ready: Callable[[int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until `stop` is set, or for ever. `ready` is called with the port."""
    journal = SandboxLog(log_path)
    sandbox = Sandbox(journal)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(sandbox), host, port, backlog=4096)
    bound = server.sockets[0].getsockname()[1]
    log.info("SIMULATION: the sandbox answers on http://%s:%d; nothing here is Claude", host, bound)
    if ready is not None:
        ready(bound)
    try:
        await (stop or asyncio.Event()).wait()
    finally:
        server.close()
        journal.close()
