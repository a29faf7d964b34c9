"""How a simulated gateway takes of budgets ahead of need: the edge that `gateway/raising.py` is in production."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenantry.domain.ceilings import RAISE_SECONDS, Ceiling
from tenantry.domain.doubts import Taken
from tenantry.domain.owners import RETRY_SECONDS, Cells
from tenantry.simulation.asking import Asker
from tenantry.simulation.gateway import Gateway
from tenantry.simulation.store import Store


class Asked(list[Ceiling]):
    """Where ceilings gather that want more; `ring` is called by the first one."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def append(self, ceiling: Ceiling) -> None:
        super().append(ceiling)
        if len(self) == 1:
            self._ring()


class Raiser:
    """Of one life of a gateway. What is to be taken, `Envelopes` decides."""

    def __init__(self, gateway: Gateway, cells: Cells, store: Store, asker: Asker) -> None:
        self._gateway = gateway
        self._cells = cells
        self._store = store
        self._asker = asker
        self._is_raising = False
        cells.asked = Asked(self._ring)

    def _ring(self) -> None:
        if not self._is_raising:
            self._is_raising = True
            self._gateway.call_later(RAISE_SECONDS, self._raise)

    def _raise(self) -> None:
        envelopes, at_us = self._gateway.envelopes, self._gateway.wall.now_us()
        lowerings = envelopes.lowerings
        rows = envelopes.raises(self._cells.take_asked(), self._cells.tenure.tenants, at_us).rows

        def written(found: Sequence[Taken]) -> None:
            if lowerings != envelopes.lowerings:
                self._done(False)  # what was written may have been lowered again since
                return
            for row in found:
                envelopes.taken(row, at_us)
            self._done(len(found) == len(rows))

        if not rows:
            self._done(True)
        elif self._gateway.faults.has("ceiling-not-written"):
            written(rows)
        else:
            self._asker.ask(lambda: self._store.take(rows), written, lambda: self._done(False))

    def _done(self, is_done: bool) -> None:
        if is_done:
            self._tell()
        else:
            self._gateway.call_later(RETRY_SECONDS, self._tell)

    def _tell(self) -> None:
        self._is_raising = False
        if self._cells.asked:
            self._ring()
        self._cells.answer_for_more()
