"""Traces for OpenTelemetry: a span for each attempt, made when it is booked. Importing this needs the extra:
`pip install 'tenantry[traces]'`.

The journal has all that a span says, with its times, so nothing is done for it on a request's way, and a gateway that
dies costs no span. Names are those of the conventions for generative AI (OpenTelemetry, semantic conventions 1.37 and
later: `gen_ai.*`); no span has a prompt, an answer or a secret.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from hashlib import sha256
from importlib import import_module
from typing import Any, Final

from tenantry import __version__
from tenantry.ledger.events import EndedAttempt
from tenantry.ledger.lines import Begun, Ended

log = logging.getLogger("tenantry.control")

# Loaded when traces are wanted: they take control a fifth of a second.
_trace: Any = import_module("opentelemetry.trace")
_sdk: Any = import_module("opentelemetry.sdk.trace")
_export: Any = import_module("opentelemetry.sdk.trace.export")
_resources: Any = import_module("opentelemetry.sdk.resources")
_otlp: Any = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")

# A stop does not wait longer for a collector that does not answer.
FLUSH_MS: Final = 2_000
_OPERATION: Final = "chat"


def otlp_exporter(endpoint: str) -> Any:
    """Spans go to this collector, by OTLP over HTTP. Headers and certificates are those of `OTEL_EXPORTER_OTLP_*`."""
    return _otlp.OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")


class Tracing:
    """Makes spans of what is booked. `name_of`: what people call a tenant or an upstream.

    `processor` has them; by default they are sent in the background, by a thread of its own that drops what it cannot
    get rid of. `OTEL_TRACES_SAMPLER` decides which are made, and the flag of the client's own trace.
    """

    def __init__(self, exporter: Any, name_of: Callable[[str], str], processor: Any = None) -> None:
        self._name_of = name_of
        self._ids = _TraceIds()
        resource = _resources.Resource.create({"service.name": "tenantry", "service.version": __version__})
        self._provider = _sdk.TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or _export.BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tenantry", __version__)

    def add(self, attempts: Iterable[EndedAttempt]) -> None:
        """What a transaction has booked. A fault here is told, and costs no booking."""
        try:
            for one in attempts:
                self._add(one.begun, one.end)
        except Exception:
            log.exception("spans of what was booked could not be made")

    def close(self) -> None:
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()

    def _add(self, begun: Begun, end: Ended) -> None:
        self._ids.request_id = begun.request_id
        waited_us = begun.queue_wait_us or 0
        span = self._tracer.start_span(
            f"{_OPERATION} {begun.model_requested}",
            context=_context_of(begun.traceparent),
            kind=_trace.SpanKind.CLIENT,
            start_time=(begun.begun_at_us - waited_us) * 1000,
            attributes=self._attributes(begun, end),
        )
        if waited_us:
            span.add_event("tenantry.turn", timestamp=begun.begun_at_us * 1000)
        if end.first_byte_at_us is not None:
            span.add_event("tenantry.first_byte", timestamp=end.first_byte_at_us * 1000)
        failed = end.error or (f"http_{end.status}" if end.status is not None and end.status >= 400 else None)
        if failed is not None:
            span.set_attribute("error.type", failed)
            span.set_status(_trace.Status(_trace.StatusCode.ERROR))
        span.end(end_time=max(end.ended_at_us, begun.begun_at_us) * 1000)

    def _attributes(self, begun: Begun, end: Ended) -> dict[str, Any]:
        usage = end.usage
        written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        told: dict[str, Any] = {
            "gen_ai.operation.name": _OPERATION,
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": begun.model_requested,
            "gen_ai.response.model": end.model_served,
            "gen_ai.response.finish_reasons": [end.stop_reason] if end.stop_reason else None,
            "gen_ai.usage.input_tokens": usage.input_tokens + written + usage.cache_read_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_creation.input_tokens": written,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
            "http.response.status_code": end.status,
            "http.request.resend_count": _resent(begun.attempt_id) or None,
            "tenantry.tenant": self._name_of(begun.tenant_id),
            "tenantry.key_id": begun.key_id,
            "tenantry.upstream": self._name_of(begun.upstream_id),
            "tenantry.request_id": begun.request_id,
            "tenantry.attempt_id": begun.attempt_id,
            "tenantry.upstream_request_id": end.upstream_request_id,
            "tenantry.streaming": begun.streaming,
            "tenantry.outcome": str(end.outcome),
            "tenantry.cost_nanos": end.cost_nanos,
            "tenantry.queue_wait_ms": begun.queue_wait_us // 1000 if begun.queue_wait_us is not None else None,
        }
        return {name: value for name, value in told.items() if value is not None}


class _TraceIds(_sdk.RandomIdGenerator):
    """The attempts of a request whose client has no trace are one trace: its id is made from the request's."""

    request_id = ""

    def generate_trace_id(self) -> int:
        return int.from_bytes(sha256(self.request_id.encode()).digest()[:16]) or 1


def _context_of(traceparent: str | None) -> Any:
    """Below what of the client's trace it stands; with none, it is a trace of its own."""
    if traceparent is None:
        return _trace.set_span_in_context(_trace.INVALID_SPAN)
    _, trace_id, span_id, flags = traceparent.split("-")
    known = _trace.SpanContext(int(trace_id, 16), int(span_id, 16), True, _trace.TraceFlags(int(flags, 16) & 1))
    return _trace.set_span_in_context(_trace.NonRecordingSpan(known))


def _resent(attempt_id: str) -> int:
    """How often the request had been sent before."""
    number = attempt_id.rpartition("_")[2]
    return int(number) - 1 if number.isdecimal() else 0
