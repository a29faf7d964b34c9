"""Which credential a request goes out under: its tenant's own, and never one that is nobody's or another's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tenantry.domain.directory import Change, Credential, Snapshot, Tenant, TenantStatus, Upstream
from tenantry.domain.errors import CredentialSpent, NoCredential
from tenantry.domain.limits import Limits
from tenantry.gateway.credentials import choose_credential
from tenantry.gateway.health import PROBE_SPENT_SECONDS, Health

UPSTREAM = Upstream("ups_1", "first", "http://first")
FIRST, SECOND, OTHER = (Credential(f"crd_{name}", name, UPSTREAM, f"sandbox-{name}") for name in ("1", "2", "3"))
SOON, PAST = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(hours=1)


def tenant(first: Credential | None, fallback: Credential | None = None) -> Tenant:
    return Tenant("tnt_acme", "acme", "Acme", TenantStatus.ACTIVE, "test", Limits(), first, fallback)


def health(*dead: tuple[Credential, datetime, bool]) -> Health:
    known = Health(lambda: 0.0)
    for credential, until, is_spent in dead:
        known.mark_dead(credential, until, is_spent=is_spent)
    return known


def test_the_first_while_it_can_be_used_and_then_the_fallback() -> None:
    assert choose_credential(health(), tenant(FIRST, SECOND)) is FIRST
    for is_spent in (True, False):
        assert choose_credential(health((FIRST, SOON, is_spent)), tenant(FIRST, SECOND)) is SECOND
        assert choose_credential(health((FIRST, PAST, is_spent)), tenant(FIRST, SECOND)) is FIRST
        # What is told of another's says nothing of the own.
        assert choose_credential(health((OTHER, SOON, is_spent)), tenant(FIRST, SECOND)) is FIRST


def test_without_a_first_there_is_none() -> None:
    for fallback in (None, SECOND):
        with pytest.raises(NoCredential):
            choose_credential(health(), tenant(None, fallback))


def test_one_that_was_only_refused_is_tried_where_there_is_no_other() -> None:
    for fallback in (None, SECOND):
        dead = health((FIRST, SOON, False), (SECOND, SOON, False))
        assert choose_credential(dead, tenant(FIRST, fallback)) is FIRST


@pytest.mark.parametrize("fallback", [None, SECOND])
def test_one_without_money_is_not_sent_to_and_the_client_is_told_for_how_long(fallback: Credential | None) -> None:
    left = int((SOON - datetime.now(UTC)).total_seconds())
    with pytest.raises(CredentialSpent) as caught:
        choose_credential(health((FIRST, SOON, True), (SECOND, SOON, False)), tenant(FIRST, fallback))
    assert left - 60 < (caught.value.retry_after_seconds or 0) <= left + 2
    assert f"{SOON:%Y-%m-%d %H:%M} UTC" in caught.value.message


def test_a_rotated_credential_is_another_one() -> None:
    dead = health((FIRST, SOON, True))
    rotated = replace(FIRST, secret="sandbox-rotated")
    assert choose_credential(dead, tenant(rotated)) is rotated


def test_one_without_money_is_tried_again_once_in_an_interval_by_a_request_that_can_show_it() -> None:
    now = [0.0]
    known = Health(lambda: now[0])
    known.mark_dead(FIRST, SOON, is_spent=True)
    acme = tenant(FIRST, SECOND)
    assert choose_credential(known, acme, may_probe=True) is SECOND
    now[0] = PROBE_SPENT_SECONDS
    assert choose_credential(known, acme) is SECOND
    assert choose_credential(known, acme, may_probe=True) is FIRST
    known.probed(FIRST)
    assert choose_credential(known, acme, may_probe=True) is SECOND


def test_only_what_went_out_since_shows_that_there_is_money_again() -> None:
    now = [10.0]
    known = Health(lambda: now[0])
    known.mark_dead(FIRST, SOON, is_spent=True)
    known.paid(FIRST, 9.0)
    assert known.dead_until(FIRST) == SOON
    known.paid(FIRST, 11.0)
    assert known.dead_until(FIRST) is None


def test_one_that_was_checked_by_hand_is_another_one_and_told_no_more() -> None:
    dead = health((FIRST, SOON, True))
    assert dead.facts()["credentials_spent"] == ["1"]
    checked = replace(FIRST, checked_at=datetime.now(UTC))
    dead.apply(Change(Snapshot(1, {}, {"tnt_acme": tenant(checked)}), frozenset({"tnt_acme"}), frozenset()))
    assert dead.facts()["credentials_dead"] == {}
    assert choose_credential(dead, tenant(checked)) is checked
