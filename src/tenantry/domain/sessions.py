"""Sessions: how many requests of each tenant are in flight."""

from __future__ import annotations


class Sessions:
    """Counts requests in flight per tenant. `acquire` and `release` come in pairs; the caller owns the pairing."""

    __slots__ = ("_in_flight",)

    def __init__(self) -> None:
        self._in_flight: dict[str, int] = {}

    def acquire(self, tenant_id: str, sessions_max: int) -> bool:
        """Take a session; False when the tenant already has `sessions_max` in flight."""
        taken = self._in_flight.get(tenant_id, 0)
        if taken >= sessions_max:
            return False
        self._in_flight[tenant_id] = taken + 1
        return True

    def release(self, tenant_id: str) -> None:
        """Give a session back.

        Raises:
            ValueError: the tenant holds none: a session was given back twice.
        """
        taken = self._in_flight.get(tenant_id, 0)
        if taken <= 0:
            raise ValueError(f"tenant {tenant_id} gave back a session it does not hold")
        if taken == 1:
            del self._in_flight[tenant_id]
        else:
            self._in_flight[tenant_id] = taken - 1

    def in_flight(self, tenant_id: str) -> int:
        return self._in_flight.get(tenant_id, 0)

    def total(self) -> int:
        return sum(self._in_flight.values())
