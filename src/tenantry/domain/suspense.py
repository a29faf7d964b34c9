"""What is held in a till for gateways that had its tenants before, until what they spent is known (decision 0021)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from tenantry.domain.doubts import Doubt, Taken, found_since, rest_of
from tenantry.domain.till import Till


class Suspense:
    """One doubt for each account and gateway; each is found by its name, however many there are."""

    __slots__ = ("_by_name", "_lending", "_till")

    def __init__(self, till: Till) -> None:
        self._till = till
        self._by_name: dict[tuple[str, str, str, str], Doubt] = {}
        self._lending: set[tuple[str, str, str, str]] = set()  # held, and perhaps not in the store yet

    def all(self) -> list[Doubt]:
        return list(self._by_name.values())

    def enter(self, doubts: Iterable[Doubt], tenant_ids: Collection[str], at_us: int) -> None:
        """Hold those of these tenants, which are granted for here from now on; `at_us`: when that was read."""
        for doubt in doubts:
            if doubt.taken.tenant_id in tenant_ids:
                self._forget(self._by_name.get(doubt.taken.name))
                self._find(doubt, rest_of(doubt), at_us)  # what is known is in the opening
                self._keep(doubt, 0, may_grow=not doubt.is_over)

    def lose(self, tenant_ids: Collection[str]) -> None:
        """Other gateways grant for these: what they hold for others is theirs."""
        for doubt in self.all():
            if doubt.taken.tenant_id in tenant_ids:
                self._forget(doubt)

    def _forget(self, doubt: Doubt | None) -> None:
        if doubt is not None:
            self._till.doubt(*doubt.account, -doubt.nanos)
            del self._by_name[doubt.taken.name]

    def _find(self, doubt: Doubt, found: dict[str, int], at_us: int) -> None:
        if found:
            self._till.find(*doubt.account, found, at_us)

    def _keep(self, doubt: Doubt, held_nanos: int, *, may_grow: bool) -> None:
        """Hold it in the place of `held_nanos`; of one that is over, know what counts as spent."""
        if doubt.is_over:
            doubt.nanos = 0
        if doubt.nanos != held_nanos:
            self._till.doubt(*doubt.account, doubt.nanos - held_nanos)
        if doubt.nanos or doubt.rest or may_grow:
            self._by_name[doubt.taken.name] = doubt
        else:
            self._by_name.pop(doubt.taken.name, None)

    def look(self, before: Doubt, after: Doubt, at_us: int, *, may_grow: bool = False) -> None:
        """What was found at `at_us` counts as what it is, and is in doubt no more.

        `may_grow`: answers of the tenant go on where that is, which may cost more than was held for them. Nothing is
        done where `before` is held no longer: its tenant was lost meanwhile, or more was lent.
        """
        name = before.taken.name
        if self._by_name.get(name) is not before:
            return
        if name in self._lending:
            after.nanos = min(before.nanos, after.nanos)  # what is being lent is held already
        self._find(before, found_since(before, after), at_us)
        self._keep(after, before.nanos, may_grow=may_grow and not after.is_over)

    def lend(self, wanted: Taken, at_us: int) -> tuple[Taken, int] | None:
        """Hold more for a gateway that wants to take more of an account: how much it may have taken, and how much more
        that is. `lent` has to follow. None: there is no more."""
        doubt = self._by_name.get(wanted.name)
        account = self._till.accounts_by_name(wanted.tenant_id).get((wanted.key_id, wanted.unit))
        if doubt is None or account is None:
            return None
        more = min(wanted.taken - doubt.taken.taken, account.left_nanos(at_us))
        if more <= 0:
            return None
        self._till.doubt(*doubt.account, more)
        self._lending.add(wanted.name)
        return replace(doubt.taken, taken=doubt.taken.taken + more), more

    def lent(self, taken: Taken, more: int, *, is_lent: bool) -> bool:
        """It stands in the store, or does not. False: who wanted it is not to be told, and does not spend it.

        Only now it is of the doubt: a look at the store that was begun before must not take it for less.
        """
        self._lending.discard(taken.name)
        doubt = self._by_name.get(taken.name)
        if doubt is None or not is_lent:
            self._till.doubt(taken.tenant_id, taken.key_id, taken.unit, -more)
            return False
        self._by_name[taken.name] = replace(doubt, taken=taken, nanos=doubt.nanos + more)
        return True
