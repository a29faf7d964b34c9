"""A gateway with one planted fault: `python -m tests.faulty_gateway FAULT`. For tests only; see `FAULTS`.

The faults are put in from outside: the program itself has no switch for any of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from tenantry.gateway import authentication, caller
from tenantry.gateway.register import Register
from tenantry.gateway.serving import serve_gateway
from tenantry.gateway.till import Money
from tenantry.gateway.upstream import Pools
from tenantry.settings import load_settings


def cache_on_a_prefix() -> None:
    """Who a key belongs to is remembered by its first characters only."""
    known: dict[bytes, authentication.Principal] = {}
    real = authentication.authenticate

    def authenticate(fields: dict[bytes, bytes], *rest: Any) -> authentication.Principal:
        presented = fields.get(b"x-api-key", b"")[:PREFIX_CHARS]
        if presented in known:
            return known[presented]
        principal = real(fields, *rest)
        if presented:
            known[presented] = principal
        return principal

    caller.authenticate = authenticate


def cache_on_a_long_prefix() -> None:
    """The same, with nearly the whole key."""
    global PREFIX_CHARS
    PREFIX_CHARS = 60
    cache_on_a_prefix()


PREFIX_CHARS = 12


def route_without_scope() -> None:
    """One route forgets which tenant its path names."""
    real = caller.find_target

    def find_target(method: bytes, target: bytes) -> Any:
        found = real(method, target)
        if found.path == b"/v1/messages/count_tokens":
            found.slug = None
        return found

    caller.find_target = find_target


def shared_lane() -> None:
    """All tenants stand in one lane: sessions, buckets, limits."""
    real = Register._lane
    Register._lane = lambda self, lanes, _name, *rest: real(self, lanes, "all", *rest)


def shared_bucket() -> None:
    """Each tenant has its own lane and limits, but all draw their requests from one bucket."""
    real = Register._lane
    shared: list[Any] = []

    def lane_of(self: Register, *rest: Any) -> Any:
        lane = real(self, *rest)
        if lane.requests is not None:
            shared.append(lane.requests)
            lane.requests = shared[0]
            del shared[1:]
        return lane

    Register._lane = lane_of


def swapped_credential() -> None:
    """Every twentieth request leaves under the credential of whoever was served before."""
    real = caller.Caller.way_up
    served: list[Any] = []

    def way_up(self: caller.Caller, parts: Any, principal: Any, credential: Any, *rest: Any, **more: Any) -> Any:
        served.append(credential)
        if len(served) % 20 == 0 and principal.tenant.slug.endswith(("-own", "-other")):
            others = [one for one in served if one.credential_id != credential.credential_id]
            credential = others[-1] if others else credential
        return real(self, parts, principal, credential, *rest, **more)

    caller.Caller.way_up = way_up


def answer_that_names_the_tenant() -> None:
    """The refusal of a foreign tenant tells whether it exists."""
    real = authentication.authenticate

    def authenticate(fields: dict[bytes, bytes], slug: bytes | None, snapshot: Any, *rest: Any) -> Any:
        try:
            return real(fields, slug, snapshot, *rest)
        except authentication.ForeignTenant:
            names = {tenant.slug.encode() for tenant in snapshot.tenants.values()}
            if slug is not None and slug in names:
                raise authentication.ForeignTenant("This key does not belong to that tenant.") from None
            raise

    caller.authenticate = authenticate


def key_in_the_log() -> None:
    """A careless line in a log."""
    real = authentication.authenticate

    def authenticate(fields: dict[bytes, bytes], *rest: Any) -> authentication.Principal:
        logging.getLogger("tenantry.gateway").warning("asked by %r", fields.get(b"x-api-key"))
        return real(fields, *rest)

    caller.authenticate = authenticate


def slow_revocation() -> None:
    """The directory is followed at leisure."""
    from tenantry.gateway import chores

    chores.DIRECTORY_POLL_SECONDS = chores.QUIET_POLL_SECONDS = 2.0


def careless_of_what_is_kept() -> None:
    """Several at once, each of which a check of its own has to see: see `test_isolation`."""
    _share_connections()
    _keep_secrets()
    _keep_callers()
    _share_key_lanes()
    _count_for_the_tenant_only()


def _share_connections() -> None:
    """Pools are kept by upstream and credential, as they once were."""
    real = Pools.of
    Pools.of = lambda self, upstream, credential_id, _tenant_id: real(self, upstream, credential_id, "")


def _keep_secrets() -> None:
    """A credential is what it was when it was first used."""
    real = caller.Caller.way_up
    known: dict[str, Any] = {}

    def way_up(self: caller.Caller, parts: Any, principal: Any, credential: Any, *rest: Any) -> Any:
        return real(self, parts, principal, known.setdefault(credential.credential_id, credential), *rest)

    caller.Caller.way_up = way_up


def _keep_callers() -> None:
    """Who a connection's caller is holds until the directory changes, whenever its key ends."""
    real = caller.Caller.principal

    def principal(self: caller.Caller, parts: Any) -> Any:
        if self._principal is not None and self._snapshot is parts.latest.snapshot:
            return self._principal
        return real(self, parts)

    caller.Caller.principal = principal


def _share_key_lanes() -> None:
    """All keys draw their requests from one bucket."""
    real = Register._lane
    shared: list[Any] = []

    def lane_of(self: Register, lanes: Any, *rest: Any) -> Any:
        lane = real(self, lanes, *rest)
        if lanes is self._keys and lane.requests is not None:
            shared.append(lane.requests)
            lane.requests = shared[0]
        return lane

    Register._lane = lane_of


def _count_for_the_tenant_only() -> None:
    """What a key spends is not counted for it."""
    real = Money._pay

    def pay(self: Money, *rest: Any) -> None:
        of_key = self._accounts[1]
        before = of_key.since_nanos
        real(self, *rest)
        of_key.since_nanos = before

    Money._pay = pay


def count_for_the_key_only() -> None:
    """What is spent is not counted for the tenant."""
    real = Money._pay

    def pay(self: Money, *rest: Any) -> None:
        own = self._accounts[0]
        before = own.since_nanos
        real(self, *rest)
        own.since_nanos = before

    Money._pay = pay


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        cache_on_a_prefix,
        cache_on_a_long_prefix,
        route_without_scope,
        shared_lane,
        shared_bucket,
        swapped_credential,
        answer_that_names_the_tenant,
        key_in_the_log,
        slow_revocation,
        careless_of_what_is_kept,
        count_for_the_key_only,
    )
}


def main() -> int:
    settings = load_settings(None, os.environ)
    logging.basicConfig(level=settings.log_level, stream=sys.stderr)
    FAULTS[sys.argv[1]]()
    listener = socket.create_server((settings.gateway_host, settings.gateway_port))
    return asyncio.run(serve_gateway(settings.gateway, listener))


if __name__ == "__main__":
    sys.exit(main())
