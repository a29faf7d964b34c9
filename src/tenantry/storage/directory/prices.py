"""Prices that the operator sets, on top of those that ship."""

from __future__ import annotations

import json
from datetime import date

from sqlalchemy import Connection, insert

from tenantry.domain.price_terms import BadPriceTable, Terms, as_document, read_terms
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.changes import Changes, DirectoryError
from tenantry.storage.prices import NO_RULE, SAME_FAMILY
from tenantry.storage.tables import price_changes
from tenantry.storage.versions import NOTHING


class PriceChanges(Changes):
    """Changes to prices. Gateways hear of each by the directory's version."""

    def set_price(self, model: str, from_day: date, terms: Terms, source: str, before: Terms | None) -> None:
        """A model costs this from a day on, 0:00 UTC. `before` is what it cost then, for the audit log.

        Raises:
            DirectoryError: the model's name is not one.
        """
        document = as_document(terms)
        try:
            read_terms(model, document)
        except BadPriceTable as error:
            raise DirectoryError(str(error)) from None
        with self._engine.begin() as connection:
            self._add(connection, model, from_day.isoformat(), json.dumps(document), source)
            detail = {
                "from": from_day.isoformat(),
                "before": as_document(before) if before is not None else None,
                "after": document,
                "source": source,
            }
            self._record(connection, "price.set", model, detail, NOTHING)

    def set_price_rule(self, rule: str, before: str) -> None:
        """What models without a price are taken at: `SAME_FAMILY` or `NO_RULE`. Raises: DirectoryError."""
        if rule not in (SAME_FAMILY, NO_RULE):
            raise DirectoryError(f"there is no rule {rule!r}; there are: {SAME_FAMILY}, {NO_RULE}")
        with self._engine.begin() as connection:
            self._add(connection, "", "", rule, "")
            self._record(connection, "price.rule", rule, {"before": before, "after": rule}, NOTHING)

    def _add(self, connection: Connection, model: str, from_day: str, terms: str, source: str) -> None:
        connection.execute(
            insert(price_changes).values(
                model=model, from_day=from_day, terms=terms, source=source, actor=self._actor, created_at=now_utc()
            )
        )
