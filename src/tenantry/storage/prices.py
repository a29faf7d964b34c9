"""The prices that count: what ships with this version, and what the operator has set since."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Engine, func, select

from tenantry.domain.price_terms import PriceChange
from tenantry.domain.prices import PriceTable, load_default_prices
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
        rules = [record.terms for record in records if not record.model]
        found = self._shipped.changed(
            f"{self._shipped.version}+{records[-1].change_id}",
            [
                PriceChange(record.model, date.fromisoformat(record.from_day), json.loads(record.terms))
                for record in records
                if record.model
            ],
            bool(rules) and rules[-1] == SAME_FAMILY,
        )
        self._newest = records[-1].change_id
        return found

    def refresh(self) -> bool:
        """Bring `table` up to date; whether there was anything new. Raises: BadPriceTable."""
        found = self.read()
        if found is not None:
            self.table.become(found)
        return found is not None


def load_prices(engine: Engine) -> PriceTable:
    """The prices of this store, as they are now. Raises: BadPriceTable."""
    book = PriceBook(engine)
    book.refresh()
    return book.table


def list_price_changes(engine: Engine, model: str | None = None) -> list[PriceChangeRecord]:
    """What was set, from old to new."""
    query = select(price_changes).order_by(price_changes.c.change_id)
    if model is not None:
        query = query.where(price_changes.c.model == model)
    with engine.connect() as connection:
        return [
            PriceChangeRecord(
                row.change_id, row.model, row.from_day, row.terms, row.source, row.actor, aware(row.created_at)
            )
            for row in connection.execute(query)
        ]
