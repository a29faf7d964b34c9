"""Switching off and on: a client is refused within a second, and works again without any change of its own.

What is under way ends, too: a stream of whoever is switched off is cut in its midst, those of others go on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tenantry.control.isolation.canaries import CanaryUpstream
from tenantry.control.isolation.client import Address, KeptConnection, NoAnswer
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.load import message
from tenantry.control.isolation.pace import Pace
from tenantry.control.isolation.probes import KEY_LABEL, Probe
from tenantry.control.isolation.search import Needles
from tenantry.control.isolation.streams import STREAM_SECONDS_MAX, Cut, OpenStream
from tenantry.domain.directory import TenantStatus
from tenantry.storage.directory import Directory

# DESIGN 6: a revoked key stops at once, in under a second.
ACTS_SECONDS_MAX: Final = 1.0
# Beyond it the answer is taken as it is.
WAIT_SECONDS_MAX: Final = 2.5
POLL_SECONDS: Final = 0.02
# How long a key lasts whose end is waited for: time to be seen and used; longer where that was too short.
BRIEF_SECONDS: Final = 1.5
BRIEF_SECONDS_MAX: Final = 30.0


@dataclass(frozen=True, slots=True)
class Switching:
    """What the checks of this group work on: `probe` is switched off and on, `bystander` is not."""

    group: Group
    address: Address
    upstream: CanaryUpstream
    directory: Directory
    needles: Needles
    pace: Pace
    probe: Probe
    bystander: Probe

    def stream(self, who: str, key: str, probe: Probe) -> OpenStream:
        tag = f"{probe.holder.slug}-{who}"
        data = message(probe, tag, stream=True, asks="lasting").replace(probe.holder.key.encode(), key.encode())
        return OpenStream(self.address, data, self.pace, lambda: self.upstream.release(tag))


def switch(on: Switching) -> None:
    """On one connection of one client with one key, which is never opened anew unless the gateway closes it."""
    client, beside = KeptConnection(on.address), KeptConnection(on.address)
    slug = on.probe.holder.slug
    data, other = message(on.probe, f"{slug}-switch"), message(on.bystander, f"{on.bystander.holder.slug}-switch")
    try:
        _expect(on, client, data, 200, "a client works")
        _disable(on, client, beside, data, other)
        second = _issue(on, "second")
        again = data.replace(on.probe.holder.key.encode(), second.encode())
        _expect(on, beside, again, 200, "the tenant's second key")
        _revoke(on, client, data, second)
        _expect(on, client, again, 200, "the tenant's second key on the same connection")
        _end_key(on, client, data)
    finally:
        client.close()
        beside.close()


def _issue(on: Switching, name: str, ends_at: datetime | None = None) -> str:
    key = on.directory.issue_key(on.probe.holder.slug, KEY_LABEL, ends_at).text
    on.needles.add(f"the {name} key of {on.probe.holder.slug}", key)
    return key


def _disable(on: Switching, client: KeptConnection, beside: KeptConnection, data: bytes, other: bytes) -> None:
    stream = on.stream("disabled", on.probe.holder.key, on.probe)
    untouched = on.stream("beside", on.bystander.holder.key, on.bystander)
    try:
        on.directory.set_tenant_status(on.probe.holder.slug, TenantStatus.DISABLED)
        began = on.pace.clock()
        _expect(on, client, data, 403, "its tenant is disabled")
        _expect(on, beside, other, 200, "another tenant meanwhile")
        _expect_cut(on, "a stream of a disabled tenant", stream.wait_for_cut(), began)
        _expect_whole(on, "the stream of another tenant meanwhile", untouched)
        on.directory.set_tenant_status(on.probe.holder.slug, TenantStatus.ACTIVE)
        _expect(on, client, data, 200, "its tenant is enabled: same client, same key")
    finally:
        stream.close()
        untouched.close()


def _revoke(on: Switching, client: KeptConnection, data: bytes, second: str) -> None:
    stream = on.stream("revoked", on.probe.holder.key, on.probe)
    untouched = on.stream("second", second, on.probe)
    try:
        on.directory.revoke_key(on.probe.key_id)
        began = on.pace.clock()
        _expect(on, client, data, 403, "its key is revoked")
        _expect_cut(on, "a stream of a revoked key", stream.wait_for_cut(), began)
        _expect_whole(on, "the stream of the tenant's second key meanwhile", untouched)
    finally:
        stream.close()
        untouched.close()


def _end_key(on: Switching, client: KeptConnection, data: bytes) -> None:
    """Last, for nothing else may change: a gateway that asks again at each change would see the end by that."""
    lasts, key = BRIEF_SECONDS, on.probe.holder.key
    while True:
        ends_at = datetime.now(UTC) + timedelta(seconds=lasts)
        passing = _issue(on, "passing", ends_at)
        mine = data.replace(key.encode(), passing.encode())
        seen = _ask_until(on, client, mine, 200)
        if seen[0] == "200" or lasts >= BRIEF_SECONDS_MAX:
            break
        lasts *= 2  # it was over before it had come to the gateway: the machine is busy
    _judge(on, seen, 200, "a key whose time ends soon")
    time.sleep(max(0.0, (ends_at - datetime.now(UTC)).total_seconds()))
    _expect(on, client, mine, 403, "the key's time is over")


def _expect(on: Switching, client: KeptConnection, data: bytes, status: int, what: str) -> None:
    _judge(on, _ask_until(on, client, data, status), status, what)


def _ask_until(on: Switching, client: KeptConnection, data: bytes, status: int) -> tuple[str, float]:
    """The last answer, and after how many seconds it came."""
    started = on.pace.clock()
    while True:
        try:
            seen = str(client.ask(data)[0].status)
        except NoAnswer as error:
            seen = str(error)
        seconds = on.pace.clock() - started
        if seen == str(status) or seconds > WAIT_SECONDS_MAX:
            return seen, seconds
        time.sleep(POLL_SECONDS)


def _judge(on: Switching, seen: tuple[str, float], status: int, what: str) -> None:
    told, seconds = seen
    ok = told == str(status) and seconds <= ACTS_SECONDS_MAX
    ms = seconds * 1000
    on.group.add(what, f"{status} within {ACTS_SECONDS_MAX:g} s", f"{told} after {ms:.0f} ms", ok, ms)


def _expect_cut(on: Switching, what: str, cut: Cut, began: float) -> None:
    ms = max(0.0, cut.at - began) * 1000
    ok = cut.is_cut and ms <= STREAM_SECONDS_MAX * 1000
    expected = f"cut within {STREAM_SECONDS_MAX:g} s, with an error event"
    on.group.add(what, expected, f"{cut.words} after {ms:.0f} ms", ok, ms)


def _expect_whole(on: Switching, what: str, stream: OpenStream) -> None:
    end = stream.let_end()
    on.group.add(what, "goes on, and ends whole", end.words, end.is_whole)
