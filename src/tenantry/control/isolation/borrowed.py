"""Ids of another tenant's objects in body, header and query, on a credential that both use (reference 1.4).

Upstream such a credential is one customer: whoever names a message, file, container or skill that was made under it is
given it. So none may get there by a tenant's word. Every id that is tried is made up, and known by its form to the
recording upstream.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tenantry.control.isolation.canaries import CanaryUpstream
from tenantry.control.isolation.cases import MODEL, key_line
from tenantry.control.isolation.client import Address, Answer, NoAnswer, ask, request
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.probes import Probe
from tenantry.wire.routes import Kind, Sample, sample_targets


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A request that names what is another's. `is_thread`: SDKs do without when they are told so by code."""

    title: str
    body: dict[str, Any]
    lines: tuple[bytes, ...] = ()
    query: bytes = b""
    is_thread: bool = False
    only_messages: bool = False


def new_id(kind: str) -> str:
    """An id that nobody has, and that shows where it comes from."""
    return f"{kind}_borrowed{secrets.token_hex(4)}"


def list_borrowed() -> Iterator[Borrowed]:
    """Every place of the API that takes an id, and one that it has not yet."""
    thread = {"type": "continue", "previous_message_id": new_id("msg")}
    yield Borrowed("thread.previous_message_id", {"thread": thread}, is_thread=True)
    yield Borrowed("diagnostics.previous_message_id", {"diagnostics": {"previous_message_id": new_id("msg")}})
    yield Borrowed("container", {"container": new_id("container")})
    yield Borrowed("container.id", {"container": {"id": new_id("container")}})
    skill = {"type": "custom", "skill_id": new_id("skill"), "version": "latest"}
    yield Borrowed("container.skills", {"container": {"skills": [skill]}})
    yield Borrowed("fallback_credit_token", {"fallback_credit_token": new_id("fct")}, only_messages=True)
    for kind in ("document", "image"):
        source = {"type": "file", "file_id": new_id("file")}
        yield Borrowed(f"file_id of a {kind}", _content({"type": kind, "source": source}))
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": kind, "source": source}]}
        yield Borrowed(f"file_id of a {kind} in a tool's result", _content(result))
    yield Borrowed("file_id of a container_upload", _content({"type": "container_upload", "file_id": new_id("file")}))
    for name, kind in (("user_profile_id", "uprof"), ("workspace_id", "wrkspc")):
        yield Borrowed(f"{name} in the body", {name: new_id(kind)})
        yield Borrowed(f"{name} in the query", {}, query=f"?{name}={new_id(kind)}".encode())
        for header in (f"anthropic-{name.replace('_', '-')}", f"anthropic_{name}", f"Anthropic-{name.title()}"):
            yield Borrowed(f"{header} as a header", {}, lines=(f"{header}: {new_id(kind)}".encode(),))
    yield Borrowed("an id that the API has not yet", {"a_new_object_id": new_id("new")})
    yield Borrowed("such an id within", _content({"type": "text", "text": "x", "source": {"a_new_id": new_id("new")}}))


def list_lent() -> Iterator[Borrowed]:
    """What has a name that ends so, and is the caller's own: it has to go on working."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"file_id": "mine", "user_id": 7}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    yield Borrowed("tool_use_id", {"messages": messages})
    yield Borrowed("metadata.user_id", {"metadata": {"user_id": "mine"}}, only_messages=True)


def _content(block: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, block]}]}


def try_borrowed(group: Group, address: Address, upstream: CanaryUpstream, probe: Probe) -> None:
    """On every route that takes a body, as a tenant on a shared credential."""
    tried = list(list_borrowed())
    for sample in sample_targets():
        if not sample.route.body_bytes_max:
            continue
        for one in [*tried, *list_lent()]:
            if not one.only_messages or sample.route.kind is Kind.MESSAGES:
                for write in _writings_of(one):
                    _try(group, address, upstream, probe, sample, one, write)


# The same JSON, in the ways that a reader of bytes might take for another (RFC 8259 2 and 7).
_Write = Callable[[object], bytes]
_WRITINGS: Final[tuple[_Write, ...]] = (
    lambda body: json.dumps(body).encode(),
    lambda body: b"\r\n\t " + json.dumps(body, indent=1).encode() + b"\n",
    lambda body: json.dumps(body).replace("_id", "\\u005fi\\u0064").encode(),
)
_NAMES: Final = re.compile(rb'"(container|thread|fallback_credit_token|\w+_id)(?=":)')


def _write_no_text(body: object) -> bytes:
    """Like JSON, but for a byte in each such name that is no character: a lenient upstream drops it (RFC 8259 8.1).

    Without spaces, for a body with them is read more closely.
    """
    compact = json.dumps(body, separators=(",", ":")).encode()
    return _NAMES.sub(lambda found: found[0][:-1] + b"\xff" + found[0][-1:], compact)


def _writings_of(one: Borrowed) -> tuple[_Write, ...]:
    if not one.body:
        return _WRITINGS[:1]
    return _WRITINGS if _is_own(one) else (*_WRITINGS, _write_no_text)


def _is_own(one: Borrowed) -> bool:
    return "_borrowed" not in json.dumps(one.body) + repr(one.lines) + repr(one.query)


def _try(
    group: Group,
    address: Address,
    upstream: CanaryUpstream,
    probe: Probe,
    sample: Sample,
    one: Borrowed,
    write: _Write,
) -> None:
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    if sample.route.kind is Kind.MESSAGES:
        body["max_tokens"] = 16
    lines = [key_line(probe.holder.key), b"anthropic-version: 2023-06-01", b"connection: close", *one.lines]
    target = f"/t/{probe.holder.slug}".encode() + sample.path + one.query
    before = len(upstream.records)
    is_text = write is not _write_no_text
    title = f"{sample.name}: {one.title}{'' if is_text else ', in bytes that are no text'}"
    try:
        answer = ask(address, request(sample.method, target, lines, write(body | one.body)), b"POST")[0]
    except NoAnswer as error:
        group.add(title, "an answer", str(error), False)
        return
    came = [found for record in upstream.records[before:] for found in record.borrowed]
    is_own = _is_own(one)
    problems = [f"{found.partition('_')[0]} id went upstream" for found in came]
    if is_own and answer.status != 200:
        problems.append(f"answered {answer.status}")
    if one.body and not is_own:
        problems += _not_refused(answer, is_thread=one.is_thread and is_text)
    expected = "served" if is_own else "400 that names it" if one.body else "refused, or without it upstream"
    group.add(title, expected, "; ".join(problems) or f"{answer.status}, as expected", not problems)


def _not_refused(answer: Answer, *, is_thread: bool) -> list[str]:
    if answer.status != 400:
        return [f"answered {answer.status}"]
    if is_thread and b"thread_unsupported_request" not in answer.body:
        return ["not told as thread_unsupported_request"]
    return []
