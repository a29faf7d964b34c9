"""The prices that count: what ships with this version, and what the operator has set since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, Engine, func, select

from tenantry.domain.price_terms import PriceChange
from tenantry.domain.prices import PROVISIONAL, PriceTable, load_default_prices
from tenantry.storage.columns import aware
from tenantry.storage.tables import price_changes

# The rule that a model without a price is taken at that of the newest of its family; and none.
SAME_FAMILY, NO_RULE = "same-family", "none"


@dataclass(frozen=True, slots=True)
class PriceChangeRecord:
    """One change as it was made. `model` is "" where it is the rule that was changed, to `terms`."""

    change_id: int
    model: str
    from_day: str
    terms: str
    source: str
    actor: str
    created_at: datetime


class PriceBook:
    """The prices of a store. `table` stays the same object; `refresh` makes it what the store says."""

    def __init__(self, engine: Engine, shipped: PriceTable | None = None) -> None:
        self._engine = engine
        self._shipped = shipped or load_default_prices()
        self._newest = 0
        self.table = self._shipped.changed(self._shipped.version, (), False)

    def read(self) -> PriceTable | None:
        """The prices now, None where they are what they were. May run in another thread.

        Raises:
            BadPriceTable: a change in the store cannot be read.
        """
        with self._engine.connect() as connection:
            newest = connection.execute(select(func.max(price_changes.c.change_id))).scalar() or 0
        if newest == self._newest:
            return None
        records = list_price_changes(self._engine)
        found = _changed(self._shipped, records)
        self._newest = records[-1].change_id
        return found

    def refresh(self) -> bool:
        """Bring `table` up to date; whether there was anything new. Raises: BadPriceTable."""
        found = self.read()
        if found is not None:
            self.table.become(found)
        return found is not None


class PriceHistory:
    """The prices at each of their versions: what was set since changes nothing of what a row was priced at.

    The part of a version that ships is this Tenantry's; its periods have the prices of before.
    """

    def __init__(self, records: Sequence[PriceChangeRecord], shipped: PriceTable | None = None) -> None:
        self._shipped = shipped or load_default_prices()
        self._records = records
        self._tables: dict[int, PriceTable] = {}

    def at(self, version: str) -> PriceTable:
        """Raises: BadPriceTable: a change in the store cannot be read."""
        told = version.removesuffix(PROVISIONAL).partition("+")[2]
        newest = int(told) if told.isdecimal() else 0
        if newest not in self._tables:
            self._tables[newest] = _changed(self._shipped, [one for one in self._records if one.change_id <= newest])
        return self._tables[newest]

    def short_prompt_tokens(self) -> int:
        """No prompt of at most so many tokens was ever a long one."""
        tiers = [one for record in self._records if record.model for one in json.loads(record.terms).get("tiers", ())]
        return min([int(one["prompt_tokens_above"]) for one in tiers] + [self._shipped.short_prompt_tokens])


def _changed(shipped: PriceTable, records: Sequence[PriceChangeRecord]) -> PriceTable:
    """The prices after these changes, under the version of the last."""
    rules = [record.terms for record in records if not record.model]
    changes = [
        PriceChange(record.model, date.fromisoformat(record.from_day), json.loads(record.terms))
        for record in records
        if record.model
    ]
    version = f"{shipped.version}+{records[-1].change_id}" if records else shipped.version
    return shipped.changed(version, changes, bool(rules) and rules[-1] == SAME_FAMILY)


def load_prices(engine: Engine) -> PriceTable:
    """The prices of this store, as they are now. Raises: BadPriceTable."""
    book = PriceBook(engine)
    book.refresh()
    return book.table


def list_price_changes(engine: Engine, model: str | None = None) -> list[PriceChangeRecord]:
    """What was set, from old to new."""
    with engine.connect() as connection:
        return read_price_changes(connection, model)


def read_price_changes(connection: Connection, model: str | None = None) -> list[PriceChangeRecord]:
    """What was set, from old to new."""
    query = select(price_changes).order_by(price_changes.c.change_id)
    if model is not None:
        query = query.where(price_changes.c.model == model)
    return [
        PriceChangeRecord(
            row.change_id, row.model, row.from_day, row.terms, row.source, row.actor, aware(row.created_at)
        )
        for row in connection.execute(query)
    ]
