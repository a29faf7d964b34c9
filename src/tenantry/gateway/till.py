"""The money of this process: one account for each tenant and key, and the only door through which it is held."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from tenantry.domain.budget_answers import Use, budget_refusal, nearest_cap, refusal_message, use_headers
from tenantry.domain.budgets import Budget
from tenantry.domain.directory import Snapshot
from tenantry.domain.errors import ApiError, BudgetReached
from tenantry.domain.estimates import Histories, StreamMeter, rough_input_bound, worst_case_nanos
from tenantry.domain.holds import Account, Hold, Short, place
from tenantry.domain.prices import PriceTable
from tenantry.domain.settlement import Settlement
from tenantry.domain.usage import Usage
from tenantry.gateway.authentication import Principal
from tenantry.ledger.opening import Opening
from tenantry.wire.inspect import MessageFields

# Header lines that are kept as text.
LINES_MAX = 1000


class Till:
    """`opening` is what had been spent before this process began."""

    def __init__(self, prices: PriceTable, zone: ZoneInfo, contact: str, opening: Opening) -> None:
        self.prices = prices
        self.histories = Histories()
        self._zone = zone
        self._contact = contact
        self._opening = opening
        self._accounts: dict[tuple[str, str], Account] = {}
        self._lines: dict[Use, bytes] = {}
        # Of accounts that nobody has used yet.
        self._corrections: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def accounts_of(self, principal: Principal) -> tuple[Account, Account]:
        """The tenant's account and the key's. All spending passes both, so a cap that is set later is right at once."""
        tenant, key = principal.tenant, principal.key
        own = self._accounts.get((tenant.tenant_id, ""))
        if own is None:
            own = self._open(f"tenant {tenant.slug}", tenant.tenant_id, "", tenant.budget)
        of_key = self._accounts.get((tenant.tenant_id, key.key_id))
        if of_key is None:
            of_key = self._open(f"key {key.key_id}", tenant.tenant_id, key.key_id, key.budget)
        return own, of_key

    def _open(self, name: str, tenant_id: str, key_id: str, budget: Budget) -> Account:
        opening = self._opening
        account = Account(name, budget, self._zone, opening.of(tenant_id, key_id), opening.at_us)
        self._accounts[tenant_id, key_id] = account
        for at_us, nanos in self._corrections.pop((tenant_id, key_id), ()):
            account.correct(nanos, at_us)
        return account

    def adjust(self, tenant_id: str, key_id: str, at_us: int, nanos: int) -> None:
        """Count a correction that was booked since the opening, in the periods that hold `at_us`."""
        for holder in ((tenant_id, ""), (tenant_id, key_id)):
            account = self._accounts.get(holder)
            if account is not None:
                account.correct(nanos, at_us)
            else:
                self._corrections.setdefault(holder, []).append((at_us, nanos))

    def apply(self, snapshot: Snapshot, at_us: int) -> None:
        """Go on under the budgets of another snapshot."""
        keys = {key.key_id: key for key in snapshot.keys.values()} if self._accounts else {}
        for (tenant_id, key_id), account in self._accounts.items():
            holder = keys.get(key_id) if key_id else snapshot.tenants.get(tenant_id)
            if holder is not None:
                account.apply(holder.budget, at_us)

    def reserve(
        self, principal: Principal, fields: MessageFields, body_bytes: int, at_us: int, prompt_tokens: int | None = None
    ) -> Reservation | Short:
        """Hold what an attempt may cost. `prompt_tokens`: what the upstream has counted, else the bytes bound it."""
        accounts = self.accounts_of(principal)
        if not accounts[0].budget.caps and not accounts[1].budget.caps:
            return Reservation(self, accounts, None, None, at_us)
        bound = rough_input_bound(body_bytes, fields) if prompt_tokens is None else prompt_tokens
        meter: StreamMeter | None = None
        if fields.stream:
            history = self.histories.of(principal.tenant.tenant_id, fields.model)
            meter = StreamMeter(self.prices, fields, bound, history, at_us)
            amount = meter.first_nanos
        else:
            amount = worst_case_nanos(self.prices, fields, bound, at_us)
        hold = place(accounts, amount, at_us)
        return hold if isinstance(hold, Short) else Reservation(self, accounts, hold, meter, at_us)

    def refusal(self, short: Short, at_us: int) -> ApiError:
        """What a client is told when its request does not fit."""
        return budget_refusal(short, self._zone, at_us, self._contact)

    def interruption(self, short: Short | None) -> ApiError:
        """What ends a stream whose next step does not fit."""
        if short is None:
            return BudgetReached()
        return BudgetReached(refusal_message(short, self._zone, self._contact))

    def header_lines(self, principal: Principal, at_us: int) -> bytes:
        """The budget's fields of a success (reference 7.4) as header lines; nothing where there is no budget."""
        if not (principal.tenant.budget.caps or principal.key.budget.caps):
            return b""
        most = nearest_cap(self.accounts_of(principal), at_us)
        if most is None:
            return b""
        # Answers of the same percent share the text: there are a hundred of them in a period.
        lines = self._lines.get(most)
        if lines is None:
            if len(self._lines) > LINES_MAX:
                self._lines.clear()
            lines = self._lines[most] = b"".join(b"%b: %b\r\n" % field for field in use_headers(most))
        return lines

    def standing(self) -> dict[str, dict[str, Any]]:
        """What is held and spent now, by tenant, in nano-dollars: of those that have a budget or money held."""
        at_us = time.time_ns() // 1000
        found: dict[str, dict[str, Any]] = {}
        for (tenant_id, key_id), account in self._accounts.items():
            if not key_id and (account.budget.caps or account.held_nanos):
                account.advance(at_us)
                found[tenant_id] = {
                    "held_nanos": account.held_nanos,
                    "spent_nanos": dict(account.spent),
                    "excess_nanos": account.excess_nanos,
                }
        return found


class Reservation:
    """The money of one attempt, from before its first byte goes upstream to its settlement.

    Without a budget there is no hold: what it costs is counted when it is known.
    """

    __slots__ = ("_accounts", "_hold", "_is_open", "_meter", "_started_us", "_till")

    def __init__(
        self, till: Till, accounts: Sequence[Account], hold: Hold | None, meter: StreamMeter | None, at_us: int
    ) -> None:
        self._till = till
        self._accounts = accounts
        self._hold = hold
        self._is_open = True
        self._meter = meter
        self._started_us = at_us

    @property
    def is_metered(self) -> bool:
        """Whether the hold has to grow with a stream."""
        return self._meter is not None

    @property
    def short(self) -> Short | None:
        return self._hold.short if self._hold is not None else None

    def started(self, model: str | None, usage: Usage, at_us: int) -> bool:
        """The prompt's cost is known. False: even that does not fit."""
        meter, hold = self._meter, self._hold
        if meter is None or hold is None:
            return True
        self._started_us = at_us
        return hold.resize(meter.started(self._till.prices, model or "", usage, at_us), at_us)

    def produced(self, chars: int, at_us: int) -> bool | None:
        """So much has been generated. True: more had to be held, and fits; False: it does not; None: nothing to do."""
        meter, hold = self._meter, self._hold
        if meter is None or hold is None:
            return None
        wanted = meter.produced(chars, at_us - self._started_us)
        return None if wanted is None else hold.resize(wanted, at_us)

    def settle(self, booked: Settlement, at_us: int) -> None:
        """Exactly once. An attempt without a price is taken at what was held for it: unknown is not free."""
        hold = self._hold
        if hold is not None:
            hold.settle(booked.cost_nanos if booked.cost_nanos is not None else hold.held_nanos, at_us)
        elif self._is_open and booked.cost_nanos:
            for account in self._accounts:
                account.spend(booked.cost_nanos, at_us)
        self._is_open = False

    def void(self) -> None:
        """Give the money back, unless it has been settled."""
        self._is_open = False
        if self._hold is not None:
            self._hold.void()
