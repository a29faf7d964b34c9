"""What bodies of several operations have in common: limits, and times of grace."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta

from tenantry.domain.durations import read_duration
from tenantry.domain.limits import KEY_LIMITS, LIMITS, Limit, read_limits
from tenantry.web.api.operations import Struct

# As `keys issue` has it.
ExpiresDays = Annotated[int, Meta(ge=1, le=3650, description="Days until it stops.")]
Grace = Annotated[
    str, Meta(max_length=20, pattern="^(0|[1-9][0-9]{0,4}[mhd])$", description="30m, 24h, 7d, or 0: at once.")
]
# Far above every name that the directory takes.
Name = Annotated[str, Meta(min_length=1, max_length=128)]
RoleName = Literal["owner", "operator", "billing", "viewer"]
SomeTenants = Annotated[list[str], Meta(min_length=1, max_length=1000)]
Secret = Annotated[str, Meta(min_length=1, max_length=4096, description="It is never shown again.")]
Usd = Annotated[str, Meta(min_length=1, max_length=40, description="Dollars as a decimal number, such as 49.50.")]
MonthText = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}$", description="Such as 2026-11.")]
Day = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="A day of the agency's, 2026-12-01.")]


def _type_of(limit: Limit) -> Any:
    described = Meta(description=limit.help)
    if limit.patterns:
        return Annotated[list[str] | None, described]
    if limit.choices:
        return Annotated[Literal[limit.choices], described]
    number = Annotated[int, Meta(ge=limit.low, le=limit.high)]
    return Annotated[number | None if limit.optional else number, described]


def _struct_of(name: str, limits: Iterable[str]) -> Any:
    """A struct with these limits; null: no limit, of patterns: everything."""
    fields: list[Any] = [(one, _type_of(LIMITS[one]) | msgspec.UnsetType, UNSET) for one in limits]
    return msgspec.defstruct(name, fields, bases=(Struct,), module=__name__, forbid_unknown_fields=True, kw_only=True)


if TYPE_CHECKING:
    LimitsChange = Struct
    KeyLimits = Struct
else:
    LimitsChange: Final = _struct_of("LimitsChange", LIMITS)
    KeyLimits: Final = _struct_of("KeyLimits", KEY_LIMITS)


def said(struct: Struct) -> dict[str, Any]:
    """The members that were given."""
    return {name: one for name, one in msgspec.structs.asdict(struct).items() if one is not UNSET}


def limits_in(given: Struct | msgspec.UnsetType) -> dict[str, Any]:
    """Raises: BadLimit."""
    return read_limits(said(given)) if isinstance(given, Struct) else {}


def ends_after(days: int | None) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=days) if days is not None else None


def stops_after(grace: str) -> datetime:
    """Raises: BadDuration."""
    return datetime.now(UTC) + read_duration(grace)
