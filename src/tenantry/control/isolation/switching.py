"""Switching off and on: a client is refused within a second, and works again without any change of its own."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from tenantry.control.isolation.client import Address, KeptConnection, NoAnswer
from tenantry.control.isolation.findings import Group
from tenantry.control.isolation.load import message
from tenantry.control.isolation.probes import KEY_LABEL, Probe
from tenantry.domain.directory import TenantStatus
from tenantry.storage.directory import Directory

# DESIGN 6: a revoked key stops at once, in under a second.
ACTS_MS_MAX = 1000.0
# Beyond it the answer is taken as it is.
WAIT_SECONDS_MAX = 2.5
POLL_SECONDS = 0.02
# How long a key lasts whose end is waited for: time to be seen and used.
BRIEF_SECONDS = 1.5


def switch(group: Group, address: Address, directory: Directory, probe: Probe, bystander: Probe) -> None:
    """On one connection of one client with one key, which is never opened anew unless the gateway closes it."""
    client, beside = KeptConnection(address), KeptConnection(address)
    data, other = message(probe, f"{probe.holder.slug}-switch"), message(bystander, f"{bystander.holder.slug}-switch")
    try:
        _expect(group, client, data, 200, "a client works")
        directory.set_tenant_status(probe.holder.slug, TenantStatus.DISABLED)
        _expect(group, client, data, 403, "its tenant is disabled")
        _expect(group, beside, other, 200, "another tenant meanwhile")
        directory.set_tenant_status(probe.holder.slug, TenantStatus.ACTIVE)
        _expect(group, client, data, 200, "its tenant is enabled: same client, same key")
        second = directory.issue_key(probe.holder.slug, KEY_LABEL)
        directory.revoke_key(probe.key_id)
        _expect(group, client, data, 403, "its key is revoked")
        again = data.replace(probe.holder.key.encode(), second.text.encode())
        _expect(group, client, again, 200, "the tenant's second key on the same connection")
        # Last, for nothing else may change: a gateway that asks again at each change would see the end by that.
        ends_at = datetime.now(UTC) + timedelta(seconds=BRIEF_SECONDS)
        passing = directory.issue_key(probe.holder.slug, KEY_LABEL, ends_at)
        data = data.replace(probe.holder.key.encode(), passing.text.encode())
        _expect(group, client, data, 200, "a key whose time ends soon")
        time.sleep(max(0.0, (ends_at - datetime.now(UTC)).total_seconds()))
        _expect(group, client, data, 403, "the key's time is over")
    finally:
        client.close()
        beside.close()


def _expect(group: Group, client: KeptConnection, data: bytes, status: int, what: str) -> None:
    started = time.monotonic()
    seen = "no answer"
    while True:
        try:
            answer, _ = client.ask(data)
            seen = str(answer.status)
        except NoAnswer as error:
            seen = str(error)
        ms = (time.monotonic() - started) * 1000
        if seen == str(status) or ms > WAIT_SECONDS_MAX * 1000:
            break
        time.sleep(POLL_SECONDS)
    ok = seen == str(status) and ms <= ACTS_MS_MAX
    group.add(what, f"{status} within {ACTS_MS_MAX:g} ms", f"{seen} after {ms:.0f} ms", ok, ms)
