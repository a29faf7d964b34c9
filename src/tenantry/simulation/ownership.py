"""What one simulated gateway owns: the edge that `gateway/claiming.py` is in production, around the same decisions.

It asks the store through a line that may be slow, lost or cut; who grants, until when, what is taken of budgets and
what others may have spent of them is decided by `domain/`: `Tenure`, `Cells`, `Envelopes`, `Doubt`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tenantry.domain.asks import capacities_of
from tenantry.domain.cells import RENEWALS_PER_LEASE, Linkage, lease_end
from tenantry.domain.directory import Credential, Tenant
from tenantry.domain.doubts import REVIEW_SECONDS
from tenantry.domain.owners import RETRY_SECONDS, Cells
from tenantry.simulation.asking import Asker
from tenantry.simulation.gateway import Gateway
from tenantry.simulation.leftovers import Books, Leftovers, Takeover
from tenantry.simulation.raising import Raiser
from tenantry.simulation.store import Claimed, Line, Store


@dataclass(slots=True)
class Terms:
    """Of a site's gateways: seconds of a lease, nano-dollars of an envelope."""

    lease_seconds: float = 30.0
    envelope_nanos: int = 1_000_000_000


class Ownership:
    """Of one life of a gateway. `pace`: how fast its own clock goes, beside the store's."""

    def __init__(
        self, gateway: Gateway, store: Store, line: Line, books: Books, terms: Terms, pace: float = 1.0
    ) -> None:
        self._gateway = gateway
        self._store = store
        self._asker = Asker(gateway, line)
        self._books = books
        self._lease = terms.lease_seconds
        self._me = gateway.name
        clock = gateway.surroundings.clock
        self.cells = Cells(lambda: clock.now * pace)
        self.cells.ring = self._ring
        self._raiser = Raiser(gateway, self.cells, store, self._asker)
        self.links = Linkage()
        self._leftovers = Leftovers(gateway, store, books, self._asker)
        self.elsewhere = self._leftovers.elsewhere
        self._leaving: dict[str, None] = {}
        self._turns: deque[Callable[[], None]] = deque()  # what is done one after the other
        self._has_turn = False
        self._is_claiming = False
        self._is_renewing = False

    # Asked by requests

    def may_admit(self, tenant: Tenant) -> bool:
        if self._gateway.faults.has("lease-not-checked"):
            return tenant.tenant_id in self.cells.tenure.tenants
        return self.cells.may_admit(tenant)

    def may_send(self, tenant: Tenant, credential: Credential) -> bool:
        if self._gateway.faults.has("lease-not-checked"):
            return True
        return self.cells.may_send(tenant, credential)

    # The edge

    def _take_turn(self, call: Callable[[], None]) -> None:
        self._turns.append(call)
        if not self._has_turn:
            self._next()

    def _next(self) -> None:
        self._has_turn = bool(self._turns)
        if self._has_turn:
            self._turns.popleft()()

    @property
    def _at_us(self) -> int:
        return self._gateway.wall.now_us()

    # The lease

    def begin(self) -> None:
        """Begin to live. Until the store has heard of it nothing is granted."""
        sent_at, tenure = self.cells.clock(), self.cells.tenure

        def joined(_: None) -> None:
            tenure.renewed(lease_end(sent_at, self._lease), tenure.life)
            self._gateway.call_later(self._lease / RENEWALS_PER_LEASE, self._keep_lease)
            self._gateway.call_later(REVIEW_SECONDS, self._review)

        def failed() -> None:
            self._gateway.call_later(RETRY_SECONDS, self.begin)

        self._asker.ask(lambda: self._store.join(self._me, self._lease), joined, failed)

    def _keep_lease(self) -> None:
        if not self._is_renewing:
            self._is_renewing = True
            self._renew()
        if self._gateway.is_busy():
            self._gateway.call_later(self._lease / RENEWALS_PER_LEASE, self._keep_lease)

    def rouse(self) -> None:
        """Go on with what is done by the clock, after a rest of the simulation."""
        self._keep_lease()
        self._review()

    def _renew(self) -> None:
        tenure = self.cells.tenure
        life, sent_at = tenure.life, self.cells.clock()

        def heard(is_renewed: bool) -> None:
            self._is_renewing = False
            if is_renewed and not tenure.is_between:
                tenure.renewed(lease_end(sent_at, self._lease), life)
            elif not self.cells.is_succeeded:
                self._is_renewing = True
                self._take_turn(self._live_again)

        def failed() -> None:
            self._is_renewing = False
            if not self.cells.has_lease:
                tenure.vouched.clear()

        self._asker.ask(lambda: self._store.renew(self._me, self._lease), heard, failed)

    def _live_again(self) -> None:
        tenure = self.cells.tenure
        tenure.lapse()
        sent_at = self.cells.clock()

        def heard(found: tuple[dict[str, int], dict[str, str]]) -> None:
            cells, pins = found
            if self._gateway.faults.has("kept-blindly"):
                cells = tenure.cells | cells
                pins = tenure.tenants | pins
            self._lose(tenure.keep(cells, pins, lease_end(sent_at, self._lease)))
            done()

        def done() -> None:
            self._is_renewing = False
            self._next()

        self._asker.ask(lambda: self._store.rejoin(self._me, self._lease), heard, done)

    def _lose(self, tenant_ids: Sequence[str]) -> None:
        self._gateway.suspense.lose({*tenant_ids})
        self._leaving.update(dict.fromkeys(tenant_ids))

    # Claims

    def _ring(self) -> None:
        if not self._is_claiming:
            self._is_claiming = True
            self._take_turn(self._claim)

    def _claim(self) -> None:
        sought = self.cells.take_sought()
        life, opening = self.cells.tenure.life, dict[str, str]()
        is_told = [True]
        left = deque(sought)

        def one_more() -> None:
            if left:
                self._find_owner(left.popleft(), found, failed)
            else:
                self._open(opening, life, lambda is_open: answer(is_open and is_told[0]))

        def found(tenant_id: str, cell: str | None) -> None:
            if cell == "":
                is_told[0] = False
            elif cell is not None and tenant_id not in self.cells.tenure.tenants:
                opening[tenant_id] = cell
            one_more()

        def failed() -> None:
            answer(False)

        def answer(is_done: bool) -> None:
            self._next()
            if is_done:
                tell()
            else:
                self._gateway.call_later(RETRY_SECONDS, tell)

        def tell() -> None:
            self._is_claiming = False
            self.cells.answer(sought)
            if self.cells.sought:
                self._ring()

        one_more()

    def _find_owner(self, tenant_id: str, then: Callable[[str, str | None], None], failed: Callable[[], None]) -> None:
        """The cell of a tenant that is this gateway's; None: it is another's, "": it is between two owners."""
        component, tenure = self.links.around(tenant_id), self.cells.tenure
        if not component.homes:
            then(tenant_id, None)
            return
        known = tenure.pins.get(tenant_id)
        if known in tenure.cells and tenure.owns(self.links.capacities_of(tenant_id)):
            then(tenant_id, known)
            return
        life, home = tenure.life, component.homes[tenant_id]

        def claimed(found: Claimed | None) -> None:
            if found is None:
                then(tenant_id, "")
            elif found.owner != self._me:
                self.cells.is_at(tenant_id, found.owner, found.owner)
                then(tenant_id, None)
            else:
                taken(found)

        def taken(found: Claimed) -> None:
            strange = tenure.strange(found.cells)
            if not tenure.take(found.cells, found.pins, life):
                then(tenant_id, "")
                return
            self._begin_empty(found, strange)
            cell = found.pins.get(tenant_id, "")
            if cell in tenure.cells and home not in tenure.cells:
                self._part(tenant_id, cell, home, lambda: then(tenant_id, ""), failed)
            else:
                then(tenant_id, cell if cell in tenure.cells else "")

        def looked(found: Claimed | None) -> None:
            if found is None or found.owner == self._me or not self._books.is_dead(found.owner, self._me):
                claimed(found)
            else:
                self._asker.ask(
                    lambda: self._store.end(found.owner), lambda _: self._asker.ask(claim, claimed, failed), failed
                )

        def claim() -> Claimed | None:
            return self._store.claim(self._me, tenant_id, component)

        self._asker.ask(claim, looked, failed)

    def _part(self, tenant_id: str, cell: str, home: str, then: Callable[[], None], failed: Callable[[], None]) -> None:
        """A tenant draws on a capacity that another gateway owns: it goes there, when nothing of it is held here."""
        self.cells.tenure.close(tenant_id)
        self._lose([tenant_id])
        if not self._is_idle(tenant_id):
            then()
            return

        def parted(_: bool) -> None:
            self.cells.tenure.unpin(tenant_id)
            then()

        self._lower(
            [tenant_id],
            lambda: self._asker.ask(lambda: self._store.repin(self._me, tenant_id, cell, home), parted, failed),
            failed,
        )

    def _is_idle(self, tenant_id: str) -> bool:
        return not self._gateway.till.has_holds(tenant_id) and self._gateway.is_unsent(tenant_id)

    def _begin_empty(self, found: Claimed, names: Sequence[str]) -> None:
        """Limits of what was another's begin as if that one had used all there was; until now, where nobody knows."""
        if names:
            gateway = self._gateway
            rested = {name: found.rested.get(name, 0.0) for name in names}
            keys = [client.key for client in gateway.clients.values()]
            gateway.lanes.register.begin_empty(rested, found.pins, keys, gateway.surroundings.clock.now)

    # Opening

    def _open(self, tenants: dict[str, str], life: int, then: Callable[[bool], None]) -> None:
        if not tenants:
            then(True)
            return
        gateway, at_us = self._gateway, self._at_us
        before = {tenant_id: gateway.till.spent_here(tenant_id) for tenant_id in tenants}

        def read() -> Takeover:
            self._store.statements["open"] += 1
            return self._books.open_tenants([*tenants], at_us, self._me)

        def opened(found: Takeover) -> None:
            tenure = self.cells.tenure
            entered = {one for one, cell in tenants.items() if tenure.open(one, cell, life)}
            for tenant_id in entered:
                self._gateway.envelopes.since_us.setdefault(tenant_id, at_us)
                self._leaving.pop(tenant_id, None)
                gateway.till.enter(tenant_id, found.opening, before[tenant_id])
            self._leftovers.enter(found, entered)
            then(len(entered) == len(tenants))

        if gateway.flush():
            self._asker.ask(read, opened, lambda: then(False))
        else:
            then(False)

    # What is looked at again

    def _review(self) -> None:
        self.cells.forget_elsewhere()
        self._leftovers.review()
        if self._leaving:
            idle = [one for one in self._leaving if self._is_idle(one)]
            if idle:
                self._take_turn(lambda: self._lower(idle, self._next, self._next))
        if self._gateway.is_busy():
            self._gateway.call_later(REVIEW_SECONDS, self._review)

    def _lower(self, tenant_ids: Sequence[str], then: Callable[[], None], failed: Callable[[], None]) -> None:
        """Nothing of these is held, and nothing is granted: what was taken of them and not used is let go."""
        rows = self._gateway.envelopes.lowered(tenant_ids, self._at_us)

        def lowered(_: object) -> None:
            for tenant_id in tenant_ids:
                self._leaving.pop(tenant_id, None)
            then()

        if rows:
            self._asker.ask(lambda: self._store.lower(rows), lowered, failed)
        else:
            lowered(None)

    # Ending, and the directory

    def leave(self) -> None:
        """This gateway ends: others may take what it owned at once."""
        self.cells.tenure.lapse()
        self._asker.ask(lambda: self._store.end(self._me), lambda _: None, lambda: None)

    def link(self, tenants: Mapping[str, Tenant]) -> None:
        """Who draws on what, as this gateway has heard."""
        for tenant_id, tenant in tenants.items():
            self.links.put(tenant_id, capacities_of(tenant))
