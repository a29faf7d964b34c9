"""What this gateway owns, where several serve: asked for each request, in memory (decision 0021).

A tenant's requests are granted by one gateway at a time. `owner_of` says who that is, as far as is known here; where
nothing is known, a request waits (`wait_for`) until the store was asked, which `gateway/claiming.py` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tenantry.domain.asks import Ask, capacity_name
from tenantry.domain.ceilings import Ceiling
from tenantry.domain.cells import Tenure
from tenantry.domain.directory import Credential, Tenant

# What the store has said of another owner is believed for so long: a cell that moves is found where it is by then.
ELSEWHERE_SECONDS: Final = 1.0
# How long a request waits for the store to say whose its tenant is, or for more of its budget to be taken.
WAIT_SECONDS_MAX: Final = 10.0
# After a failure, before the store is asked again.
RETRY_SECONDS: Final = 0.3
# Before it is asked again about an owner that cannot be reached, or that says it is none.
ASK_SECONDS: Final = 0.1


class At:
    """Another gateway grants for a tenant; `address` is where gateways reach it, "" where they cannot."""

    __slots__ = ("address", "gateway_id", "known_until")

    def __init__(self, gateway_id: str, address: str, known_until: float) -> None:
        self.gateway_id = gateway_id
        self.address = address
        self.known_until = known_until


class Mine:
    """This gateway grants for a tenant."""

    __slots__ = ()


class Unknown:
    """Nobody, as far as is known: the store has to be asked (`Cells.wait_for`)."""

    __slots__ = ()


def _nobody() -> None:
    """Nobody asks the store yet."""


MINE: Final = Mine()
UNKNOWN: Final = Unknown()
Owner = Mine | At | Unknown


class Cells:
    """`clock`: seconds that count suspends, read anew at each call.

    `sought`: tenants that requests wait for, whose owners are to be found. `asked`: ceilings that are to be raised.
    `ring` is called when there is something of either. `guests`: sessions that other gateways still have of what is
    granted here. `is_succeeded`: another gateway has taken this one's place, and counts for what goes on here.
    """

    __slots__ = (
        "_elsewhere",
        "_for_more",
        "_waiting",
        "asked",
        "clock",
        "guests",
        "is_succeeded",
        "ring",
        "sought",
        "tenure",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.ring: Callable[[], object] = _nobody
        self.tenure = Tenure()
        self.is_succeeded = False
        self.guests: dict[bytes, Ask] = {}
        self.sought: dict[str, None] = {}
        self.asked: list[Ceiling] = []
        self._elsewhere: dict[str, At] = {}
        self._waiting: dict[str, dict[Callable[[], None], None]] = {}
        self._for_more: dict[Callable[[], None], None] = {}

    # Asked by requests

    def may_grant(self, tenant_id: str, capacity: str) -> bool:
        """Whether a request of the tenant may go out from here under a capacity ("": under none), at this moment."""
        return self.tenure.may_grant(tenant_id, capacity, self.clock())

    def may_admit(self, tenant: Tenant) -> bool:
        """Whether its requests may go out under the credential that it has first; then it is vouched for."""
        if not self.may_grant(tenant.tenant_id, capacity_name(tenant.credential)):
            return False
        self.tenure.vouched[tenant.tenant_id] = tenant
        return True

    def may_send(self, tenant: Tenant, credential: Credential) -> bool:
        """Whether an attempt that is granted, and that stands in the journal, may leave at this moment."""
        tenure = self.tenure
        if (
            self.clock() < tenure.until
            and credential is tenant.credential
            and tenure.vouched.get(tenant.tenant_id) is tenant
        ):
            return True
        if self.is_succeeded or self.may_grant(tenant.tenant_id, capacity_name(credential)):
            return True
        tenure.vouched.clear()  # the requests that come now are told so before anything stands in the journal
        return False

    def has_given(self, tenant_id: str) -> bool:
        """Whether this gateway lives and does not grant for a tenant: who does is to begin anew with its requests."""
        return self.has_lease and not self.is_succeeded and tenant_id not in self.tenure.tenants

    def owner_of(self, tenant_id: str) -> Owner:
        """Who grants for a tenant."""
        now, tenure = self.clock(), self.tenure
        if now < tenure.until and tenant_id in tenure.tenants:
            return MINE
        found = self._elsewhere.get(tenant_id)
        return found if found is not None and now < found.known_until else UNKNOWN

    @property
    def has_lease(self) -> bool:
        """Whether this gateway may grant anything at all."""
        return self.clock() < self.tenure.until

    def wait_for(self, tenant_id: str, then: Callable[[], None]) -> Callable[[], None]:
        """Call `then`, once, when the store has said whose a tenant is, or could not be asked; the way to leave."""
        waiting = self._waiting.setdefault(tenant_id, {})
        waiting[then] = None
        self.sought[tenant_id] = None
        self.ring()

        def leave() -> None:
            waiting.pop(then, None)

        return leave

    def wait_for_more(self, then: Callable[[], None]) -> Callable[[], None]:
        """Call `then`, once, when more has been taken of the budgets that asked for it, or could not be."""
        waiting = self._for_more
        waiting[then] = None
        self.ring()

        def leave() -> None:
            waiting.pop(then, None)

        return leave

    # Told by who asks the store

    def take_sought(self) -> list[str]:
        sought, self.sought = list(self.sought), {}
        return sought

    def take_asked(self) -> list[Ceiling]:
        asked = self.asked.copy()
        self.asked.clear()
        return asked

    def is_at(self, tenant_id: str, gateway_id: str, address: str) -> None:
        """Another one grants for a tenant."""
        self._elsewhere[tenant_id] = At(gateway_id, address, self.clock() + ELSEWHERE_SECONDS)

    def is_doubtful(self, tenant_id: str) -> None:
        """Who was known to grant for a tenant cannot be reached, or says that it does not."""
        self._elsewhere.pop(tenant_id, None)

    def answer(self, tenant_ids: list[str]) -> None:
        """Whose these are has been said, or nobody can say it."""
        for tenant_id in tenant_ids:
            for then in self._waiting.pop(tenant_id, {}):
                then()

    def answer_for_more(self) -> None:
        waiting, self._for_more = self._for_more, {}
        for then in waiting:
            then()

    def forget_elsewhere(self) -> None:
        """What is believed of others for no longer is not kept."""
        now = self.clock()
        self._elsewhere = {name: one for name, one in self._elsewhere.items() if now < one.known_until}
