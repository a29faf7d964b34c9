"""The money of this process: one account for each tenant and key, and the only door through which it is held."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from tenantry.domain.allowances import Allowance
from tenantry.domain.asked import MessageFields
from tenantry.domain.attempts import Outcome
from tenantry.domain.budgets import Budget
from tenantry.domain.ceilings import ENVELOPE_NANOS_MIN, ENVELOPE_TOKENS_MIN, Ceiling
from tenantry.domain.directory import NO_BUDGET, Change, GatewayKey, Snapshot, Tenant
from tenantry.domain.estimates import (
    Bound,
    Histories,
    History,
    StreamMeter,
    bound_of,
    nanos_by_time,
    per_second,
    rough_input_bound,
    tokens_bound,
)
from tenantry.domain.holds import TOKENS, Account, Hold, Short, place, settle_plainly, take_plainly
from tenantry.domain.opening import PERIODS, Opening
from tenantry.domain.periods import DAY, MONTH, period_of
from tenantry.domain.prices import PriceTable
from tenantry.domain.settlement import BY_USAGE, Settlement
from tenantry.domain.usage import Usage

Accounts = tuple[Account, Account]
_VOIDED = Outcome.VOIDED


class Till:
    """`opening` is what had been spent before this process began.

    `asked`: where ceilings gather that want more, where several gateways serve (decision 0021). `envelope_nanos`: what
    is taken of a budget at a time, at least.
    """

    def __init__(
        self,
        prices: PriceTable,
        zone: ZoneInfo,
        opening: Opening,
        asked: list[Ceiling] | None = None,
        envelope_nanos: int = ENVELOPE_NANOS_MIN,
    ) -> None:
        self.prices = prices
        self.histories = Histories()
        self._zone = zone
        self._opening = opening
        self._accounts: dict[tuple[str, str], Account] = {}
        # Where a plan throttles and what it includes is used up, or nearly.
        self._near: dict[str, Account] = {}
        # Of accounts that nobody has used yet.
        self._corrections: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self._snapshot: Snapshot | None = None  # the latest, once the directory has changed
        self.entry_id = opening.entry_id  # up to which row of the ledger corrections were counted
        self._asked = asked
        self._envelope_nanos = envelope_nanos
        self._opened: dict[str, Opening] = {}  # tenants that were opened later, each with what was read for it
        # Of accounts that nobody has used yet: what others may have spent, and what they were found to have, and when.
        self._doubted: dict[tuple[str, str, str], int] = {}
        self._found: dict[tuple[str, str, str], list[tuple[int, Mapping[str, int]]]] = {}
        self._tokens_since: dict[str, int] = {}  # of tenants that were in use before their tokens were counted
        self._keys: dict[str, list[str]] = {}  # the keys of each tenant that have accounts; "" is the tenant's own

    def accounts_of(self, tenant: Tenant, key: GatewayKey) -> Accounts:
        """The tenant's account and the key's. All spending passes both, so a cap that is set later is right at once."""
        own = self._accounts.get((tenant.tenant_id, ""))
        if own is None:
            tenant = self._as_it_is(tenant)
            own = self._open(f"tenant {tenant.slug}", tenant.tenant_id, "", tenant.budget, tenant.allowance)
            self._count_tokens(tenant, own)
        of_key = self._accounts.get((tenant.tenant_id, key.key_id))
        if of_key is None:
            key = self._key_as_it_is(key)
            of_key = self._open(f"key {key.key_id}", tenant.tenant_id, key.key_id, key.budget)
        return own, of_key

    def _as_it_is(self, tenant: Tenant) -> Tenant:
        """As the directory has it now: a request that had to wait knows it as it was."""
        return self._snapshot.tenants.get(tenant.tenant_id, tenant) if self._snapshot is not None else tenant

    def _key_as_it_is(self, key: GatewayKey) -> GatewayKey:
        return self._snapshot.keys.get(key.digest, key) if self._snapshot is not None else key

    def _open(
        self, name: str, tenant_id: str, key_id: str, budget: Budget, allowance: Allowance | None = None
    ) -> Account:
        opening = self._opened.get(tenant_id, self._opening)
        account = Account(name, budget, self._zone, opening.of(tenant_id, key_id), opening.at_us, allowance)
        self._accounts[tenant_id, key_id] = account
        self._keys.setdefault(tenant_id, []).append(key_id)
        self._limit(account, tenant_id, key_id)
        self._count_others(account, tenant_id, key_id)
        for at_us, nanos in self._corrections.pop((tenant_id, key_id), ()):
            account.correct(nanos, at_us)
        return account

    def _count_tokens(self, tenant: Tenant, own: Account, since_us: int = 0) -> None:
        """An account of tokens, from when a plan of the tenant includes tokens; it stays then.

        `since_us`: where that is later than the tenant's first use here.
        """
        allowance = tenant.allowance
        if allowance is None or not allowance.counts_tokens or own.tokens is not None:
            return
        if since_us:
            self._tokens_since[tenant.tenant_id] = since_us
        opening = self._opened.get(tenant.tenant_id, self._opening)
        opened = opening.tokens.get(tenant.tenant_id, {})
        booked = dict(allowance.booked_tokens)
        # Both are less than was used at most: the one by what came since, the other by what is not booked yet.
        spent = {kind: max(opened.get(kind, 0), booked.get(kind, 0)) for kind in (DAY, MONTH)}
        own.tokens = Account(own.holder, NO_BUDGET, self._zone, spent, opening.at_us, allowance, TOKENS)
        self._limit(own.tokens, tenant.tenant_id, "")
        self._count_others(own.tokens, tenant.tenant_id, "")

    # Where several gateways serve

    def _limit(self, account: Account, tenant_id: str, key_id: str, *, is_in_use: bool = False) -> None:
        """What refuses is taken beforehand; what does not is nobody's business.

        `is_in_use`: something may be spent already, or be going on without a hold: that is to stand in the store too.
        """
        if self._asked is None:
            return
        if not account.is_limited:
            if account.ceiling is not None:
                account.limit_by(None)
        elif account.ceiling is None:
            least = ENVELOPE_TOKENS_MIN if account.unit == TOKENS else self._envelope_nanos
            since_us = self._tokens_since.get(tenant_id, 0) if account.unit == TOKENS else 0
            ceiling = Ceiling(least, tenant_id, key_id, account.unit, self._asked, since_us)
            account.limit_by(ceiling)
            if is_in_use:
                ceiling.ask(0)

    def _count_others(self, account: Account, tenant_id: str, key_id: str) -> None:
        """What others may have spent, and were found to have spent, before anybody asked for this account here."""
        name = (tenant_id, key_id, account.unit)
        for at_us, spent in self._found.pop(name, ()):
            account.find(spent, at_us)
        doubted = self._doubted.pop(name, 0)
        if doubted:
            account.doubt(doubted)

    def accounts_by_name(self, tenant_id: str) -> dict[tuple[str, str], Account]:
        """The accounts of a tenant, by key ("" is its own) and unit."""
        found: dict[tuple[str, str], Account] = {}
        for key_id in self._keys.get(tenant_id, ()):
            account = self._accounts[tenant_id, key_id]
            found[key_id, account.unit] = account
            if account.tokens is not None:
                found[key_id, TOKENS] = account.tokens
        return found

    def has_holds(self, tenant_id: str) -> bool:
        """Whether requests hold anything of a tenant's accounts; what is held for other gateways does not count."""
        return any(one.held_nanos != one.unknown_nanos for one in self.accounts_by_name(tenant_id).values())

    def account_under(self, ceiling: Ceiling) -> Account | None:
        """The account that a ceiling is of, unless it has another by now."""
        account = self._accounts.get((ceiling.tenant_id, ceiling.key_id))
        if account is not None and ceiling.unit == TOKENS:
            account = account.tokens
        return account if account is not None and account.ceiling is ceiling else None

    def spent_here(self, tenant_id: str) -> dict[tuple[str, str], int]:
        """What was spent of a tenant's accounts since they were opened: to be asked before an opening is read."""
        return {name: account.spent_here for name, account in self.accounts_by_name(tenant_id).items()}

    def enter(self, tenant_id: str, opening: Opening, spent_before: Mapping[tuple[str, str], int]) -> None:
        """A tenant is granted for here from now on: `opening` is what was spent, wherever it was."""
        self._opened[tenant_id] = opening
        for key_id in {"", *self._keys.get(tenant_id, ())}:
            self._corrections.pop((tenant_id, key_id), None)
        for found in [name for name in self._found if name[0] == tenant_id]:
            del self._found[found]  # the opening has it
        for name, account in self.accounts_by_name(tenant_id).items():
            spent = opening.tokens.get(tenant_id, {}) if name[1] == TOKENS else opening.of(tenant_id, name[0])
            account.begin_again(spent, opening.at_us, account.spent_here - spent_before.get(name, 0))
            if account.ceiling is not None and account.used_nanos > account.ceiling.taken:
                account.ceiling.ask(0)  # of what is used already

    def doubt(self, tenant_id: str, key_id: str, unit: str, nanos: int) -> None:
        """So much more, or less, may have been spent by gateways that cannot be asked."""
        account = self.accounts_by_name(tenant_id).get((key_id, unit))
        if account is not None:
            account.doubt(nanos)
        else:
            name = (tenant_id, key_id, unit)
            self._doubted[name] = self._doubted.get(name, 0) + nanos

    def find(self, tenant_id: str, key_id: str, unit: str, spent: Mapping[str, int], at_us: int) -> None:
        """So much was found at `at_us` to have been spent by such a gateway, by kinds of the periods that hold that."""
        account = self.accounts_by_name(tenant_id).get((key_id, unit))
        if account is not None:
            account.find(spent, at_us)
        else:
            self._found.setdefault((tenant_id, key_id, unit), []).append((at_us, spent))

    def opened_entries(self) -> dict[str, int]:
        """Up to which row of the ledger corrections are in what was read for tenants later than for the others."""
        return {name: one.entry_id for name, one in self._opened.items() if one.entry_id > self.entry_id}

    def slow(self, at_us: int) -> dict[str, str]:
        """Who is beyond what a plan includes that throttles, with the tier that is left. Looks at who is near alone."""
        found: dict[str, str] = {}
        for tenant_id, account in tuple(self._near.items()):
            tier = account.throttle_tier
            counts = [account] if account.tokens is None else [account, account.tokens]
            if tier is not None and any(one.is_beyond(at_us) for one in counts):
                found[tenant_id] = tier
            elif tier is None or all(one.short_of(1, 1, at_us) is None for one in counts):
                del self._near[tenant_id]
        return found

    def adjust(self, tenant_id: str, key_id: str, at_us: int, nanos: int) -> None:
        """Count a correction that was booked since the opening, in the periods that hold `at_us`."""
        for holder in ((tenant_id, ""), (tenant_id, key_id)):
            account = self._accounts.get(holder)
            if account is not None:
                account.correct(nanos, at_us)
            else:
                self._corrections.setdefault(holder, []).append((at_us, nanos))

    def reopen(self, opening: Opening) -> None:
        """The clock is about to go to another time: what was spent in the periods that hold that time."""
        self._opening = opening
        self._opened.clear()
        periods = {kind: period_of(kind, opening.at_us, self._zone) for kind in PERIODS}
        for (tenant_id, key_id), account in self._accounts.items():
            account.learn(periods, opening.of(tenant_id, key_id))

    def apply(self, change: Change, at_us: int) -> None:
        """Go on under the budgets of another snapshot."""
        snapshot = self._snapshot = change.snapshot
        for tenant_id in snapshot.tenants if change.tenants is None else change.tenants:
            tenant, account = snapshot.tenants.get(tenant_id), self._accounts.get((tenant_id, ""))
            if tenant is not None and account is not None:
                account.apply(tenant.budget, at_us, tenant.allowance)
                self._limit(account, tenant_id, "", is_in_use=True)
                self._count_tokens(tenant, account, at_us)
                if account.tokens is not None:
                    account.tokens.apply(NO_BUDGET, at_us, tenant.allowance)
                    self._limit(account.tokens, tenant_id, "", is_in_use=True)
        for digest in snapshot.keys if change.keys is None else change.keys:
            key = snapshot.keys.get(digest)
            account = self._accounts.get((key.tenant_id, key.key_id)) if key is not None else None
            if key is not None and account is not None:
                account.apply(key.budget, at_us)
                self._limit(account, key.tenant_id, key.key_id, is_in_use=True)

    def hold(
        self,
        tenant: Tenant,
        accounts: Accounts,
        fields: MessageFields,
        body_bytes: int,
        prompt_tokens: int | None,
        at_us: int,
        now: float,
    ) -> Money | Short:
        """Hold what an attempt may cost. `prompt_tokens`: what the upstream has counted, else the bytes bound it.

        It is always known what an attempt may cost, for the journal; it is held where there is a budget.
        """
        history = self.histories.of(tenant.tenant_id, fields.model)
        own, of_key = accounts
        meter: StreamMeter | None = None
        if fields.stream:
            prompt = rough_input_bound(body_bytes, fields) if prompt_tokens is None else prompt_tokens
            meter = StreamMeter(self.prices, fields, prompt, history, at_us)
            bound = meter.first_bound()
        else:
            bound = bound_of(self.prices, fields, body_bytes, at_us, history, prompt_tokens)
        is_held = bool(own.budget.caps or of_key.budget.caps)
        over = False
        if is_held and not take_plainly(own, of_key, bound.nanos, at_us):
            found = place(accounts, bound.nanos, at_us)
            if isinstance(found, Short):
                return found
            over = found.over
            if over and own.throttle_tier is not None:
                self._near[tenant.tenant_id] = own
        if own.tokens is None:
            return Money(self, accounts, bound, over, is_held, meter, history, at_us, now)
        money = CountedMoney(self, accounts, bound, over, is_held, meter, history, at_us, now)
        tokens = tokens_bound(self.prices, fields, bound, body_bytes, prompt_tokens, at_us)
        of_tokens = place((own.tokens,), tokens, at_us)
        if isinstance(of_tokens, Short):
            money.give_back()
            return of_tokens
        money.tokens = of_tokens
        if of_tokens.over:
            self._near[tenant.tenant_id] = own
        return money

    def would_fit(self, accounts: Accounts, fields: MessageFields, at_us: int) -> bool:
        """Whether a request would fit with an empty prompt: then counting it may help. Holds nothing."""
        if fields.stream:
            bound = StreamMeter(self.prices, fields, 0, None, at_us).first_bound()
        else:
            bound = bound_of(self.prices, fields, 0, at_us, None, 0)
        wanted: list[tuple[Account, int]] = [(account, bound.nanos) for account in accounts]
        tokens = accounts[0].tokens
        if tokens is not None:
            wanted.append((tokens, tokens_bound(self.prices, fields, bound, 0, 0, at_us)))
        found = [account.short_of(amount, amount, at_us) for account, amount in wanted]
        return all(short is None or not short.is_hard for short in found)

    def account_of(self, tenant_id: str) -> Account | None:
        """The account of a tenant that has been used."""
        return self._accounts.get((tenant_id, ""))

    def held_nanos(self) -> int:
        """What all accounts hold; 0 when nothing is in flight."""
        return sum(account.held_nanos for account in self._accounts.values())


class Money(Hold):
    """The money of one attempt, from before its first byte goes upstream to its settlement.

    `at_us` is when it was held, `bound` the most it may cost as known then. `is_held`: there is a budget. Without one
    nothing is reserved, `held_nanos` is what would be, and what it costs is counted when it is known.

    What the upstream has told is owed (`tell`), and never is less held than that; `_reckoned_nanos` is what would be
    held without it.
    """

    __slots__ = (
        "_held_at",
        "_meter",
        "_of_key",
        "_owed_nanos",
        "_own",
        "_reckoned_nanos",
        "_started_at",
        "_till",
        "at_us",
        "bound",
        "history",
        "is_held",
    )

    def __init__(
        self,
        till: Till,
        accounts: Accounts,
        bound: Bound,
        over: bool,
        is_held: bool,
        meter: StreamMeter | None,
        history: History,
        at_us: int,
        now: float,
    ) -> None:
        # What `Hold` begins with, without a call: there is one for each attempt.
        self._accounts = accounts
        self._own, self._of_key = accounts
        self.held_nanos = self._reckoned_nanos = bound.nanos
        self._owed_nanos = 0
        self.is_open = True
        self.over = over
        self.short: Short | None = None  # what refused the last step
        self._till = till
        self._meter = meter
        self.at_us = at_us
        self._held_at = now
        self._started_at: float | None = None
        self.history = history
        self.bound = bound
        self.is_held = is_held

    @property
    def step_nanos(self) -> int:
        """What it may need beside what is held, at once: of a stream, where there is a budget."""
        return self._meter.step_nanos if self._meter is not None and self.is_held and self.is_open else 0

    def started(self, model: str | None, usage: Usage, at_us: int, now: float) -> bool:
        """The prompt's cost is known. False: even that does not fit. `now`: seconds that only go on."""
        meter = self._meter
        if meter is None:
            return True
        self._started_at = now
        return self._resize(meter.started(self._till.prices, model or "", usage, at_us), at_us)

    def produced(self, chars: int, output_tokens: int, at_us: int, now: float) -> bool | None:
        """So much has been generated. True: more had to be held, and fits; False: it does not; None: nothing to do."""
        meter = self._meter
        if meter is None or self._started_at is None:
            return None
        wanted = meter.produced(chars, int((now - self._started_at) * 1_000_000), output_tokens)
        return None if wanted is None else self._resize(wanted, at_us)

    def tell(self, owed_nanos: int, output_tokens: int, at_us: int) -> bool | None:
        """So much is owed by what the upstream has told, `output_tokens` of it output.

        True: more had to be held for it; False: it does not fit, and is held all the same; None: it is held already.
        """
        meter = self._meter
        if meter is not None:
            meter.told_in_all(output_tokens)
        self._owed_nanos = owed_nanos
        if owed_nanos <= self.held_nanos:
            return None
        if self.is_held:
            return self.owe(owed_nanos, at_us)
        self.held_nanos = owed_nanos
        return True

    def _resize(self, nanos: int, at_us: int) -> bool:
        self._reckoned_nanos = nanos
        nanos = max(nanos, self._owed_nanos)
        if self.is_held:
            return self.resize(nanos, at_us)
        self.held_nanos = nanos
        return True

    def produced_tokens(self, chars: int, output_tokens: int, now: float) -> int:
        """The most that a stream may have generated by now: told, by characters, by time.

        Time counts from the sending: when the upstream began is not known to the millisecond. What was held for it
        was to cover what could not be seen, so no more than that counts.
        """
        meter = self._meter
        if meter is None or self._started_at is None:
            return output_tokens
        produced = meter.produced_tokens(chars, int((now - self._held_at) * 1_000_000), output_tokens)
        return max(output_tokens, min(produced, meter.held_tokens))

    def nanos_by_now(self, is_fast: bool, now: float) -> int:
        """The most that an attempt which has told nothing may have cost by now; never more than is held for it."""
        bound, elapsed_us = self.bound, int((now - self._held_at) * 1_000_000)
        rate = per_second("fast" if is_fast else "standard")
        cost = nanos_by_time(
            bound.nanos, bound.output_nanos, bound.output_tokens, bound.output_tokens_max, elapsed_us, rate
        )
        return min(cost, self.held_nanos)

    def book(self, booked: Settlement, at_us: int) -> None:
        """Exactly once. An attempt without a price is taken at what was held for it: unknown is not free."""
        if not self.is_open:
            return
        held = self.held_nanos
        cost = booked.cost_nanos if booked.cost_nanos is not None else held
        if self._owed_nanos > self._reckoned_nanos:
            held = self._reckoned_nanos
        self._pay(cost, at_us)
        # An answer that was broken off for its excess teaches as much; one that was never sent, nothing.
        if booked.outcome is not _VOIDED and booked.basis == BY_USAGE:
            self.history.learn_excess(held, cost)

    def book_settled(
        self, cost_nanos: int, output_tokens: int, prompt_tokens: int, body_bytes: int, at_us: int
    ) -> None:
        """The same for an answer that came whole and is settled by its usage, which teaches what answers are like."""
        held, history = self.held_nanos, self.history
        self._pay(cost_nanos, at_us)
        history.learn_excess(held, cost_nanos)
        history.learn(output_tokens, prompt_tokens, body_bytes)

    def _pay(self, cost_nanos: int, at_us: int) -> None:
        own, of_key = self._own, self._of_key
        if not self.is_held:
            self.is_open = False
            own.spend(cost_nanos, at_us)
            of_key.spend(cost_nanos, at_us)
        elif settle_plainly(own, of_key, self.held_nanos, cost_nanos, at_us):
            self.is_open = False
        else:
            self.settle(cost_nanos, at_us)

    def give_back(self) -> None:
        """Give the money back, unless it has been settled."""
        if self.is_held:
            self.void()
        self.is_open = False


class CountedMoney(Money):
    """The same, of a tenant whose plan includes a number of tokens: `tokens` are held beside it, all that the attempt
    may use from its start on. An attempt whose usage is not known counts none, as on the bill.
    """

    __slots__ = ("tokens",)

    def __init__(
        self,
        till: Till,
        accounts: Accounts,
        bound: Bound,
        over: bool,
        is_held: bool,
        meter: StreamMeter | None,
        history: History,
        at_us: int,
        now: float,
    ) -> None:
        Money.__init__(self, till, accounts, bound, over, is_held, meter, history, at_us, now)
        self.tokens: Hold | None = None

    def book(self, booked: Settlement, at_us: int) -> None:
        Money.book(self, booked, at_us)
        self._count(booked.usage.prompt_tokens + booked.usage.output_tokens, at_us)

    def book_settled(
        self, cost_nanos: int, output_tokens: int, prompt_tokens: int, body_bytes: int, at_us: int
    ) -> None:
        Money.book_settled(self, cost_nanos, output_tokens, prompt_tokens, body_bytes, at_us)
        self._count(prompt_tokens + output_tokens, at_us)

    def give_back(self) -> None:
        Money.give_back(self)
        if self.tokens is not None:
            self.tokens.void()

    def _count(self, tokens: int, at_us: int) -> None:
        if self.tokens is not None:
            self.tokens.settle(tokens, at_us)
