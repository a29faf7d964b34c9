"""Whether a tenant's answers depend on who else is there."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry.control.isolation import cases
from tenantry.control.isolation.cases import Holder
from tenantry.control.isolation.client import Address, Answer, NoAnswer, ask, request
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.judge import Judge
from tenantry.control.isolation.probes import Probes
from tenantry.wire.routes import sample_targets


@dataclass(frozen=True, slots=True)
class Plain:
    """A request whose answer must not depend on that."""

    title: str
    method: bytes
    data: bytes


def plain_requests(probes: Probes, own: Holder) -> list[Plain]:
    """Of every route, in the own name and in one that another tenant will have."""
    found: list[Plain] = []
    key, close = cases.key_line(own.key), b"connection: close"
    other = probes.slug("other")
    for sample in sample_targets():
        body = cases.body_of(sample.route, "tag=plain")
        for slug, named in (
            (own.slug, own.slug),
            (own.slug, other),
            (own.slug, probes.tenant_id("other")),
            (other, ""),
        ):
            lines = [key, close, *([f"x-tenant-id: {named}".encode()] if named else [])]
            path = f"/t/{slug}".encode() + sample.path
            title = f"{sample.name}: path of {slug}, x-tenant-id {named or 'none'}"
            found.append(Plain(title, sample.method, request(sample.method, path, lines, body)))
    return found


def answers_to(address: Address, plain: list[Plain]) -> list[Answer | None]:
    """One for each; None where there was none."""
    answers: list[Answer | None] = []
    for one in plain:
        try:
            answers.append(ask(address, one.data, one.method)[0])
        except NoAnswer:
            answers.append(None)
    return answers


def compare_answers(group: Group, judge: Judge, plain: list[Plain], alone: list[Answer | None]) -> None:
    """`alone` are those from before other tenants were there."""
    for one, before, now in zip(plain, alone, answers_to(judge.address, plain), strict=True):
        if before is None or now is None:
            group.add(one.title, "equal bytes", "no answer", False)
            continue
        equal = before.comparable(moving=False) == now.comparable(moving=False)
        leaks = judge.leaks(now)
        seen = "; ".join(leaks) or (
            f"{now.status}, equal bytes" if equal else f"{before.status}, then {now.status}: differs"
        )
        group.add(one.title, "equal bytes without and with other tenants", seen, equal and not leaks)
