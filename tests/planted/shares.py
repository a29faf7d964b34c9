"""Faults in what each has for itself: limits, money, rows, and its end."""

from __future__ import annotations

from typing import Any

from tenantry.domain.register import Register
from tenantry.domain.till import Money, Till
from tenantry.gateway import chores, process, request
from tenantry.gateway.caller import Caller
from tenantry.gateway.recorder import Recorder
from tenantry.wire import object_ids
from tests.planted import caught_by


@caught_by("bleed", "the quiet tenant beside the noisy one")
def lane_of_all() -> None:
    """All tenants stand in one lane: sessions, buckets, limits."""
    real = Register._lane
    Register._lane = lambda self, lanes, _name, *rest: real(self, lanes, "all", *rest)


@caught_by("bleed", "quiet tenant")
def bucket_of_all() -> None:
    """Each tenant has its own lane and limits, but all draw their requests from one bucket."""
    _share_bucket(lambda _self, _lanes: True)


@caught_by("sharing", "two keys of one tenant, one request a minute each")
def bucket_of_all_keys() -> None:
    """All keys draw their requests from one bucket."""
    _share_bucket(lambda self, lanes: lanes is self._keys)


@caught_by("sharing", "file_id of a document")
def ids_of_others_pass() -> None:
    """On a credential of several tenants a body may name what is another's."""
    request.find_object_id = lambda _body, _members=None: None


@caught_by("sharing", "file_id of a document")
def ids_of_others_pass_behind_a_space() -> None:
    """The same, where the body begins with white space."""
    real = request.find_object_id
    request.find_object_id = lambda body, members=None: None if body[:1].isspace() else real(body, members)


@caught_by("sharing", "file_id of a document, in bytes that are no text")
def ids_of_others_pass_in_bytes_that_are_no_text() -> None:
    """The same, where a byte in the name is no character."""
    object_ids._find_no_text = lambda _body: None


def _share_bucket(is_shared: Any) -> None:
    real = Register._lane
    shared: list[Any] = []

    def lane_of(self: Register, lanes: Any, *rest: Any) -> Any:
        lane = real(self, lanes, *rest)
        if lane.requests is not None and is_shared(self, lanes):
            shared.append(lane.requests)
            lane.requests = shared[0]
            del shared[1:]
        return lane

    Register._lane = lane_of


def _do_not_count_for(place: int) -> None:
    real = Money._pay

    def pay(self: Money, *rest: Any) -> None:
        account = self._accounts[place]
        before = account.since_nanos
        real(self, *rest)
        account.since_nanos = before

    Money._pay = pay


@caught_by("sharing", "budgets of two keys of one tenant")
def money_counts_for_the_tenant_only() -> None:
    """What a key spends is not counted for it."""
    _do_not_count_for(1)


@caught_by("bleed", "budget of the quiet tenant, used")
def money_counts_for_the_key_only() -> None:
    """What is spent is not counted for the tenant."""
    _do_not_count_for(0)


@caught_by("bleed", "budget of the quiet tenant, used")
def money_counts_for_all() -> None:
    """What one spends is counted for each."""
    real = Money._pay

    def pay(self: Money, cost: int, at_us: int) -> None:
        for (_, key_id), account in self._till._accounts.items():
            if not key_id and account is not self._accounts[0]:
                account.spend(cost, at_us)
        real(self, cost, at_us)

    Money._pay = pay


@caught_by("sharing", "budgets of two keys of one tenant")
def account_of_all_keys() -> None:
    """The keys of a tenant have one account."""
    real = Till._open
    first: dict[str, Any] = {}

    def opened(self: Till, name: str, tenant_id: str, key_id: str, budget: Any) -> Any:
        account = real(self, name, tenant_id, key_id, budget)
        if key_id and budget.caps:
            self._accounts[tenant_id, key_id] = account = first.setdefault(tenant_id, account)
        return account

    Till._open = opened


@caught_by("books", "ledger of the")
def rows_of_others() -> None:
    """Every fifth row is written for whoever was served before."""
    real = Caller.begin_template
    served: list[Any] = []

    def begin_template(self: Caller, principal: Any, *rest: Any) -> bytes:
        served.append(principal)
        self._begun = None
        wrong = next((one for one in reversed(served) if one.tenant is not principal.tenant), principal)
        return real(self, wrong if len(served) % 5 == 0 else principal, *rest)

    Caller.begin_template = begin_template


@caught_by("books", "ledger of the")
def streams_without_a_row() -> None:
    """The beginning of a stream is not written down."""
    real = Recorder.begin

    def begin(self: Recorder, document: bytes, then: Any) -> None:
        if b'"streaming":true' in document:
            self._call_soon(lambda: then(True))
        else:
            real(self, document, then)

    Recorder.begin = begin


@caught_by("switching", "revoked")
def slow_revocation() -> None:
    """The directory is followed at leisure."""
    chores.DIRECTORY_POLL_SECONDS = chores.QUIET_POLL_SECONDS = 3.0


def _is_stream(served: Any) -> bool:
    return served.fields is not None and served.fields.stream


@caught_by("switching", "a stream of a revoked key")
def streams_of_revoked_keys_go_on() -> None:
    """Who is in the midst of an answer may hear it out."""
    real = process._suspects
    tenants_only = process._is_tenant_active

    def suspects(change: Any, served: Any) -> list[Any]:
        found = real(change, served)
        return [
            one
            for one in found
            if not _is_stream(one) or not tenants_only(change.snapshot, one.principal.tenant.tenant_id)
        ]

    process._suspects = suspects


@caught_by("switching", "a stream of a disabled tenant")
def streams_of_disabled_tenants_go_on() -> None:
    """The same, where it is the tenant."""
    process._is_tenant_active = lambda _snapshot, _tenant_id: True


@caught_by("switching", "stream of another tenant")
def all_streams_are_cut() -> None:
    """With one, all."""
    real = process._no_longer_allowed
    process._suspects = lambda _change, served: list(served)

    def no_longer_allowed(snapshot: Any, principal: Any) -> Any:
        suspects = [one for one in snapshot.keys.values() if one.status is not process.KeyStatus.ACTIVE]
        return real(snapshot, principal) or (process.KeyNotActive() if suspects else None)

    process._no_longer_allowed = no_longer_allowed
