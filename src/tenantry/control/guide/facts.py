"""What the guide of one tenant is made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tenantry.domain.limits import Limits, allowed
from tenantry.domain.money import format_usd

# Used in examples where the tenant's own patterns name no model that this version knows.
EXAMPLE_MODEL = "claude-haiku-5-5"


@dataclass(frozen=True, slots=True)
class Budget:
    """What a tenant may cost in one `period`: day, week or month."""

    period: str
    amount_nanos: int

    @property
    def words(self) -> str:
        return f"{format_usd(self.amount_nanos)} a {self.period}"


@dataclass(frozen=True, slots=True)
class Facts:
    """`model` is the one in the examples; `models` are the known ones that the tenant may ask for. `other_endpoints`
    lead to the same; `slots` are names and endpoints of those that have keys and limits of their own.
    """

    slug: str
    name: str
    tier: str
    endpoint: str
    contact: str
    limits: Limits
    budgets: tuple[Budget, ...]
    budget_is_hard: bool
    time_zone: str
    models: tuple[str, ...]
    model: str
    offers_batches: bool
    written: str
    other_endpoints: tuple[str, ...] = ()
    slots: tuple[tuple[str, str], ...] = ()


def known_models(limits: Limits, names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that the limits allow."""
    return tuple(name for name in names if allowed(limits.models, name))


def example_model(limits: Limits, known: tuple[str, ...], proven: str | None) -> str:
    """A model for the examples: the one that a live call has proven, else the line that costs least."""
    if proven is not None and allowed(limits.models, proven):
        return proven
    exact = [pattern for pattern in limits.models if not set(pattern) & set("*?[")]
    candidates = (*known, *exact)
    return next((name for name in candidates if "haiku" in name), candidates[0] if candidates else EXAMPLE_MODEL)
