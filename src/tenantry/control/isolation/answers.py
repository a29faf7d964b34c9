"""Two tenants ask the same, to the byte: each has to be asked for upstream, and answered for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tenantry.control.isolation.canaries import CanaryUpstream
from tenantry.control.isolation.cases import Hand, body_of, key_line
from tenantry.control.isolation.client import Answer, KeptConnection, NoAnswer, request
from tenantry.control.isolation.connection import ask_alike
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.judge import Judge
from tenantry.control.isolation.probes import Probe
from tenantry.wire.routes import Kind, Sample, sample_targets

# At once: time for both to be on their way before the first is answered.
WAIT_MS = 30


@dataclass(frozen=True, slots=True)
class _Equal:
    """What both send: `data` of each differs in the key alone."""

    title: str
    data: list[bytes]
    at_once: bool = False


def try_equal(group: Group, judge: Judge, upstream: CanaryUpstream, hand: Hand, probes: Sequence[Probe]) -> None:
    """Every route whose answers come from upstream."""
    for sample in sample_targets():
        if sample.route.kind in (Kind.MESSAGES, Kind.COUNT_TOKENS, Kind.MODELS) and not sample.route.scopes:
            for equal in _generate(hand, sample, probes):
                _try(group, judge, upstream, probes, equal)


def _generate(hand: Hand, sample: Sample, probes: Sequence[Probe]) -> Iterator[_Equal]:
    takes_body = sample.route.body_bytes_max > 0
    what = "equal bodies" if takes_body else "equal requests"
    plain = body_of(sample.route, "tag=equal")
    yield _Equal(f"{sample.name}: {what} of two tenants", _all(hand, sample, probes, plain))
    if takes_body:
        slow = body_of(sample.route, f"tag=equal wait={WAIT_MS}")
        yield _Equal(f"{sample.name}: {what} of two tenants at once", _all(hand, sample, probes, slow), at_once=True)
    if sample.route.kind is Kind.MESSAGES:
        stream = body_of(sample.route, "tag=equal", stream=True)
        yield _Equal(f"{sample.name}: equal streams of two tenants", _all(hand, sample, probes, stream))
    lines = (b"idempotency-key: equal", b"x-request-id: equal")
    data = _all(hand, sample, probes, body_of(sample.route, "tag=named"), lines)
    yield _Equal(f"{sample.name}: one idempotency-key of two tenants", data)


def _all(hand: Hand, sample: Sample, probes: Sequence[Probe], body: bytes, lines: Sequence[bytes] = ()) -> list[bytes]:
    found: list[bytes] = []
    for probe in probes:
        named = [b"x-tenant-id: " + probe.holder.slug.encode()] if hand.require_tenant_id else []
        head = [key_line(probe.holder.key), b"anthropic-version: 2023-06-01", *named, *lines]
        found.append(request(sample.method, sample.path, head, body))
    return found


def _try(group: Group, judge: Judge, upstream: CanaryUpstream, probes: Sequence[Probe], equal: _Equal) -> None:
    """Twice each, in turn."""
    before = len(upstream.records)
    asked = equal.data * 2
    try:
        if equal.at_once:
            answers = ask_alike(judge.address, asked)
        else:
            answers = [_ask(judge, data) for data in asked]
    except NoAnswer as error:
        judge.heard_nothing()
        group.add(equal.title, "each its own answer", str(error), False)
        return
    problems: list[str] = []
    for probe, answer in zip([*probes] * 2, answers, strict=True):
        whole = answer.comparable()
        if answer.status != 200 or probe.mark.encode() not in whole:
            problems.append(f"{probe.holder.slug} got {answer.status} without its mark")
        others = [other for other in probes if other is not probe and other.mark.encode() in whole]
        problems += [f"{probe.holder.slug} got the mark of {other.holder.slug}" for other in others]
        problems += [f"the answer holds {name}" for name in judge.needles.find(whole)]
    records = upstream.records[before:]
    for probe in probes:
        count = sum(record.secret == probe.secret for record in records)
        if count != 2:
            problems.append(f"{count} of 2 requests of {probe.holder.slug} went upstream")
    seen = "; ".join(dict.fromkeys(problems)) or f"{len(records)} requests upstream, each answer its own"
    group.add(equal.title, "each asked for upstream, each answer its own", seen, not problems)


def _ask(judge: Judge, data: bytes) -> Answer:
    client = KeptConnection(judge.address)
    try:
        return client.ask(data)[0]
    finally:
        client.close()
