"""Spans for OpenTelemetry: what was booked, in the words of its conventions, in the client's own trace."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tenantry.control.tracing import Tracing
from tenantry.domain.attempts import AttemptBegun, AttemptEnded, Outcome
from tenantry.domain.usage import Usage
from tenantry.ledger.events import EndedAttempt
from tenantry.settings import load_settings
from tenantry.wire.trace_context import read_traceparent
from tests.template import init_from_template
from tests.unit.ledger.books import START_US, attempt

_export: Any = import_module("opentelemetry.sdk.trace.export")
_memory: Any = import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def spans_of(*attempts: tuple[AttemptBegun, AttemptEnded]) -> list[Any]:
    exporter = _memory.InMemorySpanExporter()
    names = {"tnt_a": "acme", "ups_1": "anthropic"}
    tracing = Tracing(None, lambda name: names.get(name, name), _export.SimpleSpanProcessor(exporter))
    tracing.add([EndedAttempt(begun, end, 1, 0, b"", b"") for begun, end in attempts])
    found = list(exporter.get_finished_spans())
    tracing.close()
    return found


def test_a_span_says_what_the_ledger_says_with_the_times_of_the_attempt() -> None:
    begun, end = attempt(1, usage=Usage(5, 6, 7, 8, 9), cost_nanos=77)
    begun = replace(begun, attempt_id="att_1_1", queue_wait_us=250_000)
    (span,) = spans_of((begun, replace(end, attempt_id="att_1_1")))
    assert span.name == "chat claude-haiku-5-5"
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-haiku-5-5",
        "gen_ai.response.model": "claude-haiku-5-5",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 26,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_creation.input_tokens": 13,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "http.response.status_code": 200,
        "tenantry.tenant": "acme",
        "tenantry.key_id": "key_1",
        "tenantry.upstream": "anthropic",
        "tenantry.request_id": "req_1",
        "tenantry.attempt_id": "att_1_1",
        "tenantry.upstream_request_id": "req_up_1",
        "tenantry.streaming": True,
        "tenantry.outcome": "settled",
        "tenantry.cost_nanos": 77,
        "tenantry.queue_wait_ms": 250,
    }
    assert (span.start_time, span.end_time) == ((START_US - 1_750_000) * 1000, START_US * 1000)
    assert [one.name for one in span.events] == ["tenantry.turn", "tenantry.first_byte"]
    assert span.resource.attributes["service.name"] == "tenantry"
    assert not span.status.description


def test_a_span_stands_in_the_trace_of_its_client_and_attempts_of_one_request_in_one() -> None:
    begun, end = attempt(1)
    again = replace(begun, attempt_id="att_1_2"), replace(end, attempt_id="att_1_2")
    other, of_client = attempt(2), (replace(begun, traceparent=TRACEPARENT), end)
    first, second, third, below = spans_of((begun, end), again, other, of_client)
    assert first.parent is None
    assert first.context.trace_id == second.context.trace_id != third.context.trace_id
    assert second.attributes["http.request.resend_count"] == 1
    assert f"{below.context.trace_id:032x}" == TRACEPARENT.split("-")[1]
    assert f"{below.parent.span_id:016x}" == TRACEPARENT.split("-")[2]


def test_a_client_that_does_not_sample_its_trace_has_no_span_of_it() -> None:
    begun, end = attempt(1)
    assert spans_of((replace(begun, traceparent=f"{TRACEPARENT[:-2]}00"), end)) == []


def test_what_went_wrong_is_an_error_by_its_word() -> None:
    begun, end = attempt(1, status=529, outcome=Outcome.VOIDED, error="overloaded_error", cost_nanos=0)
    (span,) = spans_of((begun, end))
    assert span.attributes["error.type"] == "overloaded_error"
    assert span.status.status_code.name == "ERROR"


def test_a_fault_in_a_span_costs_no_booking(caplog: pytest.LogCaptureFixture) -> None:
    begun, end = attempt(1)
    assert len(spans_of((replace(begun, traceparent="nonsense"), end))) == 0
    assert "could not be made" in caplog.text


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (TRACEPARENT.encode(), True),
        (TRACEPARENT.replace("00-", "01-", 1).encode() + b"-more", True),
        (TRACEPARENT.encode() + b"-more", False),
        (TRACEPARENT.replace("00-", "ff-", 1).encode(), False),
        (TRACEPARENT.upper().encode(), False),
        (b"00-" + b"0" * 32 + TRACEPARENT[35:].encode(), False),
        (b"", False),
        (b"\xff" * 55, False),
    ],
)
def test_a_traceparent_is_one_or_none(told: bytes, known: bool) -> None:
    assert read_traceparent(told) == (told[:55].decode() if known else None)


@pytest.mark.sqlite
def test_nothing_of_it_is_loaded_where_no_traces_are_made(tmp_path: Path) -> None:
    program = "import sys, tenantry.control_process, tenantry.gateway.serving; print('opentelemetry' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, env=dict(os.environ)
    )
    assert done.stdout.strip() == "False"


@pytest.mark.sqlite
def test_without_the_extra_control_says_what_to_install_and_ends(tmp_path: Path) -> None:
    environ = {"TENANTRY_DATA_DIR": str(tmp_path / "data"), "TENANTRY_TRACES_ENDPOINT": "http://127.0.0.1:4318"}
    environ["TENANTRY_CONTROL_PORT"] = "0"
    init_from_template(load_settings(None, environ))
    program = (
        "import os, sys; sys.modules['opentelemetry.trace'] = None; from tenantry.app import Processes;"
        "from tenantry.settings import load_settings; sys.exit(Processes().control(load_settings(None, os.environ)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=os.environ | environ
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "tenantry: traces_endpoint is set, and what sends traces is not installed: pip install"
    )
    assert "Traceback" not in done.stderr
