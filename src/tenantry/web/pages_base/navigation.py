"""The pages that one goes to, in the order in which they are shown."""

from __future__ import annotations

from typing import Final

from tenantry.domain.roles import Permission, Principal
from tenantry.domain.values import value


@value
class Entry:
    """A page. Whoever has not `permission` does not see it."""

    path: str
    label: str
    permission: Permission


ENTRIES: Final[tuple[Entry, ...]] = (Entry("/people", "People", Permission.ADMINS_CHANGE),)


def seen_by(principal: Principal) -> list[Entry]:
    """Those that somebody may go to, for some tenants at least."""
    slugs: frozenset[str | None] = frozenset(principal.tenants or {None})
    return [one for one in ENTRIES if any(principal.may(one.permission, slug) for slug in slugs)]
