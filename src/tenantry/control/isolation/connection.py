"""Requests on one connection of which each is nearly the one before: none may be taken for it.

What a head is compared with is what a connection keeps; so the right one comes first, then one that differs in a single
character, at each place in turn, and then the right one again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tenantry.control.isolation.cases import Hand, body_of, key_line
from tenantry.control.isolation.client import Address, Answer, KeptConnection, NoAnswer, request
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.judge import Judge
from tenantry.control.isolation.repeat import repeat_line
from tenantry.wire.routes import Sample, sample_targets

_LISTED_MAX = 5


@dataclass(frozen=True, slots=True)
class _Nearly:
    """Requests that are nearly the right one: `others` by what differs, to be answered `status`."""

    what: str
    others: list[tuple[str, bytes]]
    status: int


def try_connections(group: Group, judge: Judge, hand: Hand, careful: bool = False) -> None:
    """Every route that asks for a key. `careful`: nothing is sent that would be forwarded."""
    for sample in sample_targets():
        if not sample.route.open_to_all and (sample.route.body_bytes_max or not careful):
            good = _data(hand, sample, hand.own.key, hand.own.slug, hand.own.slug, careful)
            for nearly in _near(hand, sample, careful):
                _in_turn(group, judge, sample, good, nearly)
                _at_once(group, judge, sample, good, nearly)
            if hand.own.host and hand.other.host:
                good = _by_host(hand, sample, hand.own.key, hand.own.host, careful)
                nearly = _near_hosts(hand, sample, careful)
                _in_turn(group, judge, sample, good, nearly)
                _at_once(group, judge, sample, good, nearly)


def _data(hand: Hand, sample: Sample, key: str, slug: str, named: str, careful: bool) -> bytes:
    lines = [key_line(key), b"anthropic-version: 2023-06-01", b"x-tenant-id: " + named.encode()]
    path = f"/t/{slug}".encode() + sample.path
    return request(sample.method, path, lines, body_of(sample.route, careful=careful))


def _by_host(hand: Hand, sample: Sample, key: str, host: str, careful: bool, slug: str = "") -> bytes:
    """Only the host names the tenant, unless `slug` does so too."""
    lines = [key_line(key), b"anthropic-version: 2023-06-01"]
    path = f"/t/{slug}".encode() + sample.path if slug else sample.path
    return request(sample.method, path, lines, body_of(sample.route, careful=careful), host.encode())


def _near_hosts(hand: Hand, sample: Sample, careful: bool) -> _Nearly:
    own, other = hand.own, hand.other
    others = [
        ("path of the other", _by_host(hand, sample, own.key, own.host, careful, other.slug)),
        ("key of the other", _by_host(hand, sample, other.key, own.host, careful)),
        ("host in capitals", _by_host(hand, sample, own.key, other.host.upper(), careful)),
        ("host", _by_host(hand, sample, own.key, other.host, careful)),
    ]
    return _Nearly("host of the other tenant, which differs in one character", others, 403)


def _near(hand: Hand, sample: Sample, careful: bool) -> Iterator[_Nearly]:
    own, slug = hand.own.key, hand.own.slug
    keys = [(f"at {at}", _data(hand, sample, key, slug, slug, careful)) for at, key in _altered(own)]
    yield _Nearly("key with another character at each place", keys, 401)
    shorter = [(f"{cut} less", _data(hand, sample, own[:-cut], slug, slug, careful)) for cut in range(1, 9)]
    yield _Nearly("key without its last characters", shorter, 401)
    paths = [(f"at {at}", _data(hand, sample, own, name, slug, careful)) for at, name in _altered(slug)]
    yield _Nearly("path of a tenant with another character at each place", paths, 403)
    names = [(f"at {at}", _data(hand, sample, own, slug, name, careful)) for at, name in _altered(slug)]
    yield _Nearly("x-tenant-id with another character at each place", names, 403)
    foreign = [
        ("path", _data(hand, sample, own, hand.other.slug, slug, careful)),
        ("x-tenant-id", _data(hand, sample, own, slug, hand.other.slug, careful)),
        ("both", _data(hand, sample, own, hand.other.slug, hand.other.slug, careful)),
        ("key", _data(hand, sample, hand.other.key, slug, slug, careful)),
    ]
    yield _Nearly("path, x-tenant-id or key of the other tenant", foreign, 403)
    spent = [(name, _data(hand, sample, key, slug, slug, careful)) for name, key in hand.spares.items()]
    yield _Nearly("key that is over", spent, 403)


def _altered(text: str) -> Iterator[tuple[int, str]]:
    """The text with another letter at each place, of the same kind, so that it stays a key or a slug by its form."""
    for at, char in enumerate(text):
        if char.isalnum():
            yield at, text[:at] + ("x" if char != "x" else "y") + text[at + 1 :]


def _in_turn(group: Group, judge: Judge, sample: Sample, good: bytes, nearly: _Nearly) -> None:
    client = KeptConnection(judge.address)
    problems: list[str] = []
    repeat = ""
    for name, data in nearly.others:
        if judge.has_given_up:
            problems.append("the rest was not tried: the gateway stopped answering")
            break
        for title, sent, wanted in (("the right one", good, None), (name, data, nearly.status)):
            try:
                answer = client.ask(sent)[0]
            except NoAnswer as error:
                judge.heard_nothing()
                problems.append(f"{title}: {error}")
                break
            found = _problems(judge, answer, wanted)
            problems += [f"{title}: {problem}" for problem in found]
            if found and not repeat:
                repeat = repeat_line(judge.address, sent, judge.keys)
    client.close()
    expected = f"{nearly.status} each, and the right one between them served"
    seen = "; ".join(problems[:_LISTED_MAX]) or f"{len(nearly.others)} x {nearly.status}"
    group.add(f"{sample.name}: {nearly.what}, behind the right one", expected, seen, not problems, repeat=repeat)


def _at_once(group: Group, judge: Judge, sample: Sample, good: bytes, nearly: _Nearly) -> None:
    """The right one and the other in one write: the second waits for the answer to the first."""
    if judge.has_given_up:
        return
    name, data = nearly.others[-1]
    problems: list[str] = []
    try:
        answers = KeptConnection(judge.address).ask_together(good + data, 2)
    except NoAnswer as error:
        judge.heard_nothing()
        problems.append(str(error))
    else:
        for answer, wanted in zip(answers, (None, nearly.status), strict=True):
            problems += _problems(judge, answer, wanted)
    title = f"{sample.name}: {nearly.what} ({name}), behind it at once"
    expected = f"the right one served, then {nearly.status}"
    group.add(title, expected, "; ".join(problems) or "as expected", not problems)


def _problems(judge: Judge, answer: Answer, wanted: int | None) -> list[str]:
    refused = answer.status in (401, 403)
    wrong = refused if wanted is None else answer.status != wanted
    return ([str(answer.status)] if wrong else []) + judge.leaks(answer)


def ask_alike(address: Address, asked: list[bytes]) -> list[Answer]:
    """The answers to requests that are all under way before the first is read, each on a connection of its own.

    Raises:
        NoAnswer: one of them got none.
    """
    clients = [KeptConnection(address) for _ in asked]
    try:
        for client, data in zip(clients, asked, strict=True):
            client.send(data)
        return [client.read() for client in clients]
    finally:
        for client in clients:
            client.close()
