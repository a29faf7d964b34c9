"""What a site has written: something is said on every way that a prompt or an answer can go, and then looked for."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from tenantry.control.isolation import search
from tenantry.control.isolation.books import wait_for_rows
from tenantry.control.isolation.canaries import CanaryUpstream
from tenantry.control.isolation.cases import MODEL, key_line
from tenantry.control.isolation.client import KeptConnection, NoAnswer, request
from tenantry.control.isolation.probes import Probe
from tenantry.control.isolation.stage import Stage
from tenantry.control.isolation.tricks import made_up_key
from tenantry.control.isolation.written import files_elsewhere
from tenantry.ledger.booked import rows_of_tenant
from tenantry.wire.routes import Kind, Sample, sample_targets

# Large enough to be read beside the event loop.
_LARGE_CHARS: Final = 1_100_000
_PROMPT: Final = "the prompt stands here"


def say_everywhere(stage: Stage, upstream: CanaryUpstream, probe: Probe) -> None:
    """Prompts of a tenant, each of them known: served, streamed, refused for each reason, failed and left alone.

    Waits for the rows of what was served, so that whoever searches the ledger finds them.
    """
    slug = probe.holder.slug
    stage.words.add(f"an answer to {slug}", upstream.words[probe.secret])
    for what, data in _ways_to_say(probe):
        words = f"prompt{secrets.token_hex(8)}"  # as long as what it stands for: the length has been told
        stage.words.add(f"a prompt of {slug} ({what})", words)
        client = KeptConnection(stage.address)
        with contextlib.suppress(NoAnswer):  # what comes of it is another group's matter
            client.send(data.replace(_PROMPT.encode(), words.encode()))
            if what != _LEFT:
                client.read()
        client.close()
    sent = sum(record.path == "/v1/messages" for record in upstream.of(probe.secret))
    wait_for_rows(partial(rows_of_tenant, stage.site.engine, probe.holder.tenant_id), sent, stage.pace)


_LEFT: Final = "a stream that is left"


def _ways_to_say(probe: Probe) -> Iterator[tuple[str, bytes]]:
    key, slug = probe.holder.key, probe.holder.slug
    for sample in sample_targets():
        if not sample.route.body_bytes_max:
            continue
        plain = _body(sample)
        yield f"{sample.name}, served", _data(sample, slug, key, plain)
        yield f"{sample.name}, other fields", _data(sample, slug, key, _body(sample, **_fields()))
        yield f"{sample.name}, large", _data(sample, slug, key, _body(sample, stop_sequences=["x" * _LARGE_CHARS]))
        yield f"{sample.name}, malformed", _data(sample, slug, key, plain[:-1])
        yield f"{sample.name}, unreadable", _data(sample, slug, key, _body(sample, max_tokens="many", model=7))
        yield f"{sample.name}, made-up key", _data(sample, slug, made_up_key(slug), plain)
        yield f"{sample.name}, foreign path", _data(sample, f"{slug}-2", key, plain)
        if sample.route.kind is Kind.MESSAGES:
            yield f"{sample.name}, streamed", _data(sample, slug, key, _body(sample, stream=True))
            yield f"{sample.name}, failed at first", _data(sample, slug, key, _body(sample, asks="fail=1"))
            yield _LEFT, _data(sample, slug, key, _body(sample, asks="wait=50", stream=True))


def _data(sample: Sample, slug: str, key: str, body: bytes) -> bytes:
    lines = [key_line(key), b"anthropic-version: 2023-06-01"]
    return request(sample.method, f"/t/{slug}".encode() + sample.path, lines, body)


def _body(sample: Sample, asks: str = "", **more: Any) -> bytes:
    said = f"{_PROMPT} tag=said-{secrets.token_hex(4)} {asks}"
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": said}]}
    if sample.route.kind is Kind.MESSAGES:
        body["max_tokens"] = 16
    return json.dumps(body | more).encode()


def _fields() -> dict[str, Any]:
    """Where else a client may say something."""
    tool = {"name": "look", "description": _PROMPT, "input_schema": {"type": "object"}}
    return {"system": _PROMPT, "metadata": {"user_id": _PROMPT}, "tools": [tool], "a_new_field": {"text": _PROMPT}}


def search_all(stage: Stage) -> None:
    """Everything that the site writes, and whatever else was named."""
    settings = stage.site.settings
    sought = stage.needles.with_all(stage.words)
    with stage.groups("search") as groups:
        group = groups["search"]
        ports = (settings.gateway_port, settings.control_port)
        named = [settings.data_dir, *stage.options.logs]
        paths = [*named, *files_elsewhere(ports, named, stage.since)]
        too_large = search.search_files(group, sought, paths, stage.since)
        search.search_database(group, stage.site.engine, sought, stage.since)
        search.search_processes(group, sought)
        control = (settings.control_host, settings.control_port)
        missing = search.search_metrics(group, sought, stage.address, control)
    stage.report.not_covered += [f"{path}: too large to search within the time" for path in too_large] + missing
    if not stage.options.logs:
        stage.report.not_covered.append("Logs outside the data directory: name them with --logs to have them searched.")
