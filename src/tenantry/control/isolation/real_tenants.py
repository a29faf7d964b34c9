"""The proof on real tenants: throw-away keys, and nothing that would cost or disturb them.

Each tenant is tried against the next one. Only refusals and free routes are sent; a body of a message is one that the
gateway refuses by itself, should the refusal that is due not come. With `messages`, each tenant sends one real message.
"""

from __future__ import annotations

import json
import time

from tenantry.control.host_names import host_of
from tenantry.control.isolation import cases
from tenantry.control.isolation.books import wait_for_rows
from tenantry.control.isolation.cases import Holder
from tenantry.control.isolation.client import NoAnswer, ask, request
from tenantry.control.isolation.connection import try_connections
from tenantry.control.isolation.engine import CASES, conclude, generate, make_hand, name_keys, require_objects
from tenantry.control.isolation.findings import Group, Report
from tenantry.control.isolation.judge import Judge
from tenantry.control.isolation.probes import KEY_LABEL
from tenantry.control.isolation.searching import search_all
from tenantry.control.isolation.stage import Stage
from tenantry.control.isolation.waiting import ProofImpossible, require_gateway, wait_for_key
from tenantry.domain.directory import TenantStatus
from tenantry.ledger.booked import BookedRow, rows_of_keys
from tenantry.storage.records import TenantRecord

_NOT_ON_REAL = "needs probe tenants: run `tenantry verify isolation` without --tenants"
_SAID = [
    "Real tenants were tried with refusals and free routes only: no message was sent to a real upstream.",
    "Whose credential leaves, bleed under load and switching off: they need probe tenants.",
]


def prove_real(stage: Stage) -> Report:
    """What can be shown on the named tenants. The caller holds `clean_site`.

    Raises:
        ProofImpossible: fewer than two tenants, one that is disabled, or no gateway.
        NotInDirectory: no such tenant.
    """
    started = time.monotonic()
    slugs = list(dict.fromkeys(stage.options.tenants))
    if len(slugs) < 2:
        raise ProofImpossible("isolation is between tenants: name at least two different ones")
    rows = [stage.site.directory.get_tenant(slug) for slug in slugs]
    for row in rows:
        if row.status != TenantStatus.ACTIVE.value:
            raise ProofImpossible(f"tenant {row.slug} is disabled: everything it asks is refused anyway")
    require_gateway(stage.address)
    holders = [_holder(stage, row) for row in rows]
    for holder in holders:
        wait_for_key(stage.address, holder, stage.pace)
    stage.report.not_covered += _SAID[1:] if stage.options.messages else _SAID
    stage.skip("undisturbed", _NOT_ON_REAL)
    with stage.groups(*CASES, "connection") as groups:
        for own, other in zip(holders, [*holders[1:], holders[0]], strict=True):
            _try_pair(stage, groups, own, other)
        if not groups[cases.IDS].checks:
            groups[cases.IDS].not_run = "no route of this version takes ids of a tenant's objects"
    for name in ("answers", "credentials", "bleed", "sharing", "switching"):
        stage.skip(name, _NOT_ON_REAL)
    if stage.options.messages:
        with stage.groups("books") as groups:
            for holder in holders:
                _send_message(groups["books"], stage, holder)
    else:
        stage.skip("books", "no message was sent: --yes allows one for each tenant")
    search_all(stage)
    return conclude(stage, started)


def _holder(stage: Stage, row: TenantRecord) -> Holder:
    key = stage.site.directory.issue_key(row.slug, KEY_LABEL)
    stage.needles.add(f"the throw-away key of {row.slug}", key.text)
    return Holder(row.slug, row.tenant_id, key.text, host_of(stage.site.settings, row))


def _try_pair(stage: Stage, groups: dict[str, Group], own: Holder, other: Holder) -> None:
    hand = make_hand(stage, own, other, {}, careful=True)
    # A fresh key, so that the gateway has seen everything before it.
    wait_for_key(stage.address, _holder(stage, stage.site.directory.get_tenant(own.slug)), stage.pace)
    judge = Judge(stage.address, stage.needles, name_keys(hand))
    judge.try_all(groups, list(generate(hand, CASES)), lambda _share: None)
    try_connections(groups["connection"], judge, hand, careful=True)
    require_objects(groups[cases.IDS], hand)


def _send_message(group: Group, stage: Stage, holder: Holder) -> None:
    """One real message, and the one row that it has to become under this key."""
    body = json.dumps(
        {"model": cases.MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": "Reply with OK."}]}
    ).encode()
    lines = [cases.key_line(holder.key), b"anthropic-version: 2023-06-01", b"connection: close"]
    path = f"/t/{holder.slug}/v1/messages".encode()
    try:
        status = ask(stage.address, request(b"POST", path, lines, body), b"POST")[0].status
    except NoAnswer as error:
        group.add(f"one message of {holder.slug}", "200", str(error), False)
        return
    group.add(f"one message of {holder.slug}", "200", str(status), status == 200)
    rows = wait_for_rows(lambda: _rows_of_key(stage, holder), 1, stage.pace)
    owners = {row.tenant_id for row in rows}
    seen = f"{len(rows)} rows, {'its own' if owners <= {holder.tenant_id} else 'OF ANOTHER TENANT'}"
    ok = len(rows) >= 1 and owners == {holder.tenant_id}
    group.add(f"ledger rows of the throw-away key of {holder.slug}", "its own, one for each attempt", seen, ok)


def _rows_of_key(stage: Stage, holder: Holder) -> list[BookedRow]:
    keys = stage.site.directory.list_keys(holder.slug)
    known = [row.key_id for row in keys if row.label == KEY_LABEL and row.status == "active"]
    return rows_of_keys(stage.site.engine, known)
