"""What is shared, and must still keep its users apart: one credential of two tenants, one tenant with several keys."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tenantry.control.isolation.canaries import CanaryUpstream, Record, new_secret
from tenantry.control.isolation.client import Address, Answer, KeptConnection, NoAnswer
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.load import USED, cost_nanos, message
from tenantry.control.isolation.pace import Pace
from tenantry.control.isolation.probes import KEY_LABEL, Probe
from tenantry.control.isolation.search import Needles
from tenantry.storage.directory import Directory

# A change reaches every gateway in under a second (DESIGN 3); beyond it the answer is taken as it is.
ACTS_SECONDS_MAX = 1.0
WAIT_SECONDS_MAX = 3.0
POLL_SECONDS = 0.02
# So many requests of each tenant, one after the other: what one leaves idle is at hand for the other's next.
SHARED_REQUESTS = 10
ONE_REQUEST = {"requests_per_minute": 1, "request_burst": 1}
# Of a key whose budget is ten such requests, five have used four tenths when the last is answered.
BUDGET_REQUESTS, BUDGET_ASKED = 10, 5
BUDGET_TOKENS = 16
BUDGET_USED_MIN, BUDGET_FRESH_MAX = 0.3, 0.2


@dataclass(frozen=True, slots=True)
class Sharing:
    """What the checks of this group work on. `name` is the run's, of which everything made here has its own."""

    group: Group
    address: Address
    upstream: CanaryUpstream
    directory: Directory
    needles: Needles
    pace: Pace
    name: str


def share(on: Sharing, own: Probe, other: Probe) -> None:
    """After the books: the tenants get another credential here."""
    clients = [(probe, KeptConnection(on.address)) for probe in (own, other)]
    try:
        _share_credential(on, clients)
        _rotate(on, own, clients[0][1])
        _limit_keys(on, own)
        _budget_keys(on, own)
    finally:
        for _, client in clients:
            client.close()


def _share_credential(on: Sharing, clients: list[tuple[Probe, KeptConnection]]) -> None:
    secret = _new_secret(on)
    on.directory.add_credential(_name(on), secret, on.name, shared=True)
    for probe, _ in clients:
        on.directory.bind_credential(probe.holder.slug, _name(on))
    for probe, client in clients:
        ms = _leaves_under(on, probe, client, secret)
        _told_change(on.group, f"another credential of {probe.holder.slug}, on a kept connection", ms)
    first = len(on.upstream.records)
    for number in range(SHARED_REQUESTS):
        for probe, client in clients:
            _ask(client, message(probe, f"{probe.holder.slug}-shared-{number}"))
    records = on.upstream.records[first:]
    used = [{record.connection for record in records if record.tag.startswith(f"{p.holder.slug}-")} for p, _ in clients]
    both = used[0] & used[1]
    whole = all(used) and len(records) == SHARED_REQUESTS * len(clients)
    seen = f"{len(both)} of {len(used[0] | used[1])} connections carried both" if whole else f"{len(records)} requests"
    on.group.add(
        "connections upstream of two tenants that share a credential", "none is shared", seen, whole and not both
    )


def _rotate(on: Sharing, probe: Probe, client: KeptConnection) -> None:
    secret = _new_secret(on)
    on.directory.replace_secret(_name(on), secret)
    _told_change(on.group, "a rotated credential, on a kept connection", _leaves_under(on, probe, client, secret))


def _limit_keys(on: Sharing, probe: Probe) -> None:
    """Two keys that may each ask once."""
    keys = [on.directory.issue_key(probe.holder.slug, KEY_LABEL, limits=ONE_REQUEST).text for _ in range(2)]
    seen: list[str] = []
    for key in (keys[0], keys[0], keys[1], keys[1]):
        on.needles.add(f"a key of {probe.holder.slug} with a limit", key)
        client = KeptConnection(on.address)
        answer = _until_known(on, client, _under(probe, key, "limited"))
        client.close()
        seen.append(str(answer.status) if answer is not None else "no answer")
    words = "each of them 200 and then 429"
    told = ", ".join(seen)
    on.group.add("two keys of one tenant, one request a minute each", words, told, seen == ["200", "429"] * 2)


def _budget_keys(on: Sharing, probe: Probe) -> None:
    """Two keys with a budget each, of which one is used."""
    keys: list[str] = []
    for _ in range(2):
        key = on.directory.issue_key(probe.holder.slug, KEY_LABEL)
        on.needles.add(f"a key of {probe.holder.slug} with a budget", key.text)
        budget = {"day": BUDGET_REQUESTS * cost_nanos(BUDGET_TOKENS)}
        on.directory.set_budgets(probe.holder.slug, budget, key_id=key.key_id)
        keys.append(key.text)
    _await_followed(on, probe)
    used: list[float | None] = []
    for key, count in zip(keys, (BUDGET_ASKED, 1), strict=True):
        client = KeptConnection(on.address)
        data = _under(probe, key, "budgeted")
        answer = None
        for _ in range(count):
            answer = _until_known(on, client, data, USED)
        client.close()
        told = answer.field(USED) if answer is not None else b""
        used.append(float(told) if told else None)
    first, second = used
    ok = first is not None and second is not None and first >= BUDGET_USED_MIN and second <= BUDGET_FRESH_MAX
    expected = f"at least {BUDGET_USED_MIN:.0%}, and at most {BUDGET_FRESH_MAX:.0%} of the other's"
    seen = " and ".join("not told" if one is None else f"{one:.0%}" for one in used)
    on.group.add(f"budgets of two keys of one tenant, one with {BUDGET_ASKED} requests", expected, seen, ok)


def _await_followed(on: Sharing, probe: Probe) -> None:
    """Until the gateway knows the directory as it is now: a key that is known before its budget would count for it."""
    last = on.directory.issue_key(probe.holder.slug, KEY_LABEL)
    on.needles.add(f"the last key of {probe.holder.slug}", last.text)
    client = KeptConnection(on.address)
    _until_known(on, client, _under(probe, last.text, "followed"))
    client.close()


def _under(probe: Probe, key: str, what: str) -> bytes:
    data = message(probe, f"{probe.holder.slug}-{what}", tokens=BUDGET_TOKENS)
    return data.replace(probe.holder.key.encode(), key.encode())


def _until_known(on: Sharing, client: KeptConnection, data: bytes, field: bytes = b"") -> Answer | None:
    """The first answer that no longer refuses the key, and has the field where one is named."""
    deadline = on.pace.clock() + WAIT_SECONDS_MAX
    while True:
        answer = _ask(client, data)
        is_known = answer is not None and answer.status != 401 and (not field or answer.field(field) != b"")
        if is_known or on.pace.clock() > deadline:
            return answer
        time.sleep(POLL_SECONDS)


def _leaves_under(on: Sharing, probe: Probe, client: KeptConnection, secret: str) -> float | None:
    """After how many milliseconds the tenant's requests left under `secret`; None when they did not."""
    started = on.pace.clock()
    while on.pace.clock() - started < WAIT_SECONDS_MAX:
        before = len(on.upstream.records)
        _ask(client, message(probe, f"{probe.holder.slug}-change"))
        records: list[Record] = on.upstream.records[before:]
        if any(record.secret == secret for record in records):
            return (on.pace.clock() - started) * 1000
        time.sleep(POLL_SECONDS)
    return None


def _told_change(group: Group, tried: str, ms: float | None) -> None:
    seen = "it does not" if ms is None else f"after {ms:.0f} ms"
    ok = ms is not None and ms <= ACTS_SECONDS_MAX * 1000
    group.add(tried, f"leaves with requests within {ACTS_SECONDS_MAX:g} s", seen, ok, ms or 0.0)


def _ask(client: KeptConnection, data: bytes) -> Answer | None:
    try:
        return client.ask(data)[0]
    except NoAnswer:
        return None


def _name(on: Sharing) -> str:
    return f"{on.name}-both"


def _new_secret(on: Sharing) -> str:
    secret = new_secret("both")
    on.upstream.admit(secret)
    on.needles.add("the credential of two tenants", secret)
    return secret
