"""A site that is watched: Prometheus' page, traces at a collector, the log as JSON; nothing secret in any of them."""

from __future__ import annotations

import http.server
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.stack import PATIENCE_SECONDS, Stack, wait_for
from tests.unit.control.test_metrics import read_page

_messages: Any = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROMPT = "canary-of-a-prompt"


class Collector(http.server.ThreadingHTTPServer):
    """What a collector of OpenTelemetry is to an exporter."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def spans(self) -> list[Any]:
        found: list[Any] = []
        for body in list(self.bodies):
            told = _messages.ExportTraceServiceRequest.FromString(body)
            found += [span for one in told.resource_spans for scope in one.scope_spans for span in scope.spans]
        return found


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = import_module("gzip").decompress(body)
        assert self.path == "/v1/traces"
        self.server.bodies.append(body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.shutdown()
    made.server_close()


def page_of(stack: Stack) -> dict[str, str]:
    url = f"http://127.0.0.1:{stack.settings.control_port}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        return read_page(answer.read())


def test_what_is_served_is_told_to_those_who_watch(tmp_path: Path, collector: Collector) -> None:
    stack = Stack(
        tmp_path,
        TENANTRY_METRICS_OPEN="true",
        TENANTRY_LOG_FORMAT="json",
        TENANTRY_TRACES_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    key = stack.tenant("acme", sessions_max=1, queue_wait_ms_max=10_000)
    try:
        stack.start()
        asked = [{"role": "user", "content": PROMPT}]
        body = json.dumps({"model": "claude-sonnet-5-5", "max_tokens": 64, "messages": asked}).encode()
        lines = {"x-api-key": key, "traceparent": TRACEPARENT}
        assert stack.call("POST", "/v1/messages", lines, body)[0] == 200
        assert stack.message(key, messages=asked)[0] == 200
        assert stack.message(key, model="no-such-model")[0] == 404
        # What a gateway tells of itself and what is booked arrive each in its time.
        counts = "tenantry_added_seconds_count", "tenantry_booked_rows_total"
        told = wait_for(
            lambda: all((found := page_of(stack))[name] == "3" for name in counts) and found, what="three requests"
        )
        assert told["tenantry_booked_rows_total"] == "3"
        assert told['tenantry_requests_total{tenant="acme",outcome="settled"}'] == "2"
        assert told['tenantry_requests_total{tenant="acme",outcome="voided"}'] == "1"
        assert told["tenantry_gateways"] == "1"
        spans = wait_for(lambda: len(collector.spans) == 3 and collector.spans, what="three spans")
        assert {span.trace_id.hex() for span in spans if span.parent_span_id} == {TRACEPARENT.split("-")[1]}
    finally:
        stack.stop()
    logs = [(tmp_path / f"{name}.log").read_text() for name in ("gateway", "control")]
    for line in "".join(logs).splitlines():
        assert json.loads(line)["level"] in ("info", "warning"), line
    for text in (*logs, json.dumps(told), *(body.decode("latin-1") for body in collector.bodies)):
        for secret in (PROMPT, key, "sandbox-canary-shared"):
            assert secret not in text
        assert not re.search("sk-proxy-[a-z]", text)


def test_a_collector_that_is_not_there_costs_no_booking(tmp_path: Path) -> None:
    stack = Stack(tmp_path, TENANTRY_TRACES_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="100")
    key = stack.tenant("acme")
    try:
        stack.start()
        for _ in range(3):
            assert stack.message(key)[0] == 200
        wait_for(lambda: len(stack.rows()) == 3, what="three rows")
    finally:
        stack.stop()
