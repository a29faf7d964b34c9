"""Which of a tenant's credentials a new request goes out under."""

from __future__ import annotations

from datetime import UTC, datetime

from tenantry.domain.directory import Credential, Tenant
from tenantry.domain.errors import ApiError, CredentialSpent, NoCredential, ObjectIdRefused, ThreadUnsupported
from tenantry.gateway.health import Health
from tenantry.wire.object_ids import NO_TEXT


def choose_credential(health: Health, tenant: Tenant, *, may_probe: bool = False) -> Credential:
    """The credential that a new request of the tenant goes out under. Nothing is spent: `Tries` takes a probe.

    `may_probe`: it can show whether one out of money has some again; a free request cannot.

    Raises:
        NoCredential: it has none.
        CredentialSpent: what it has is of no use until a date.
    """
    first, fallback = tenant.credential, tenant.fallback
    if first is None:
        raise NoCredential
    if not health.dead:
        return first
    until = health.dead_until(first)
    if until is None or (may_probe and health.may_probe(first)):
        return first
    if fallback is not None and (health.dead_until(fallback) is None or (may_probe and health.may_probe(fallback))):
        return fallback
    if not health.is_spent(first):
        return first
    raise spent_until(until)


def spent_until(until: datetime) -> CredentialSpent:
    """What a client is told whose credential is out of money."""
    spent = CredentialSpent(
        "The upstream account of this endpoint has reached its own limit of money. "
        f"Access returns on {until:%Y-%m-%d %H:%M} UTC. Ask your agency."
    )
    spent.retry_after_seconds = max(1, int((until - datetime.now(UTC)).total_seconds()) + 1)
    return spent


def refuse_object_id(where: str) -> ApiError:
    """The refusal of a request under a credential of several tenants that names something upstream, at `where`."""
    if where == "thread":
        return ThreadUnsupported()
    if where.startswith(NO_TEXT):
        return ObjectIdRefused(
            f"The request body is {where}, counted from 0, and JSON is UTF-8 (RFC 8259, section 8.1). An id could hide "
            "in it, and the upstream account of this endpoint serves several clients. Send it as UTF-8."
        )
    return ObjectIdRefused(
        f"{where}: ids of files, containers, skills and messages are not accepted on this endpoint, because its "
        "upstream account serves several clients. Send the content itself, or ask your agency for your own account."
    )
