"""Sessions that other gateways still have of tenants that are granted for here: they count until they end (0021).

A gateway that has given a cell away tells of its sessions as they end (`receiving.py`). Of others, and of one that
tells nothing any more, the journal or the ledger says when (`leftovers.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tenantry.domain.asks import Ask
from tenantry.gateway.estates import credentials_of
from tenantry.gateway.handover import RunningRequest, Used
from tenantry.gateway.inheriting import adopt, untold
from tenantry.gateway.parts import Parts
from tenantry.ledger.lines import Begun

_PREFIX = "att_"


class _Guest:
    """`attempt_id`: "" for what costs nothing. `is_told`: who has it says when it ends."""

    __slots__ = ("ask", "attempt_id", "is_told", "run_id")

    def __init__(self, ask: Ask, attempt_id: str, run_id: str, *, is_told: bool) -> None:
        self.ask = ask
        self.attempt_id = attempt_id
        self.run_id = run_id
        self.is_told = is_told

    @property
    def whose(self) -> tuple[str, str]:
        """Its tenant, and the journal that it is in."""
        return self.ask.tenant.tenant_id, self.run_id


class Guests:
    """By the name of the request. `asks` has what each was given, for who takes this gateway's place."""

    def __init__(self, parts: Parts, asks: dict[bytes, Ask]) -> None:
        self._parts = parts
        self._asks = asks
        self._by_name: dict[bytes, _Guest] = {}
        # Attempts that have ended, by what was told: what they cost may not be known here yet.
        self._owing: dict[str, _Guest] = {}

    # Coming

    def take(self, requests: Collection[RunningRequest], run_id: str, own: Collection[bytes], shift: float) -> None:
        """They are told of from now on. `own`: what is served here, and counts already; `shift`: of their clock."""
        snapshot = self._parts.latest.snapshot
        credentials = {one.credential_id: one for one in credentials_of(snapshot)}
        for one in requests:
            tenant, key = snapshot.tenants.get(one.tenant_id), snapshot.keys.get(one.key)
            credential = credentials.get(one.credential_id) if one.credential_id is not None else None
            is_known = credential is not None or one.credential_id is None
            if not one.has_session or one.name in own or tenant is None or key is None or not is_known:
                continue
            attempt_id = one.attempt.attempt_id if one.attempt is not None else ""
            known = self._by_name.get(one.name)
            if known is not None:
                known.attempt_id, known.run_id, known.is_told = attempt_id or known.attempt_id, run_id, True
                continue
            ask = Ask(tenant, key, credential, one.model, one.input_tokens, untold)
            ask.output_tokens = one.output_tokens
            self._enter(one.name, _Guest(ask, attempt_id, run_id, is_told=True), one.begun_at + shift)

    def find(self, running: Sequence[tuple[str, Begun]], own: Collection[bytes]) -> None:
        """Journals say that gateways are in the middle of these attempts, each with the journal that it is in."""
        if not running:
            return
        snapshot, now = self._parts.latest.snapshot, self._parts.clock.now()
        keys = {one.key_id: one for one in snapshot.keys.values()}
        credentials = {one.credential_id: one for one in credentials_of(snapshot)}
        for run_id, begun in running:
            name = begun.attempt_id.removeprefix(_PREFIX).rpartition("_")[0].encode()
            tenant, key = snapshot.tenants.get(begun.tenant_id), keys.get(begun.key_id)
            credential = credentials.get(begun.credential_id)
            is_counted = name in self._by_name or name in own
            if not is_counted and tenant is not None and key is not None and credential is not None:
                ask = Ask(tenant, key, credential, begun.model_requested, 0, untold)
                self._enter(name, _Guest(ask, begun.attempt_id, run_id, is_told=False), now)

    def _enter(self, name: bytes, guest: _Guest, begun_at: float) -> None:
        self._by_name[name] = guest
        self._asks[name] = guest.ask
        adopt(self._parts, guest.ask, begun_at)

    # Going

    def used(self, used: Used) -> None:
        """Who has it says what it has used, and whether it goes on."""
        guest = self._by_name.get(used.name)
        if guest is not None:
            self._parts.lanes.settled(guest.ask, used.input_tokens, used.output_tokens)
            if not used.has_session:
                if guest.attempt_id:
                    self._owing[guest.attempt_id] = guest
                self._release(used.name)

    def are_told_no_more(self, names: Collection[bytes]) -> None:
        """Who has them has gone, or cannot be heard: the journal or the ledger is asked from now on."""
        for name in names:
            guest = self._by_name.get(name)
            if guest is not None:
                guest.is_told = False
                if not guest.attempt_id:
                    self._release(name)

    def ended(self, attempt_ids: Collection[str]) -> None:
        for name in [name for name, one in self._by_name.items() if not one.is_told and one.attempt_id in attempt_ids]:
            self._release(name)
        for attempt_id in self._owing.keys() & attempt_ids:
            del self._owing[attempt_id]

    def owe_no_more(self, but: Collection[tuple[str, str]]) -> None:
        """Of none but these tenants, each with a journal, anything is in doubt: what ended there need not be known."""
        self._owing = {name: one for name, one in self._owing.items() if one.whose in but}

    def _release(self, name: bytes) -> None:
        del self._asks[name]
        self._parts.lanes.release(self._by_name.pop(name).ask)

    # Asking

    def watched(self) -> Mapping[str, str]:
        """The attempts of which nobody tells, and those whose end was told, with the journals that they are in."""
        found = {one.attempt_id: one.run_id for one in self._by_name.values() if not one.is_told}
        return found | {name: one.run_id for name, one in self._owing.items()}

    def whose(self) -> set[tuple[str, str]]:
        """The tenants whose answers go on elsewhere, or have ended and are not known yet, each with their journal."""
        return {one.whose for one in (*self._by_name.values(), *self._owing.values())}

    def of(self, tenant_ids: Collection[str]) -> list[tuple[bytes, Ask, str]]:
        """Those of some tenants: name, what it was given, attempt."""
        return [
            (name, one.ask, one.attempt_id)
            for name, one in self._by_name.items()
            if one.ask.tenant.tenant_id in tenant_ids
        ]
