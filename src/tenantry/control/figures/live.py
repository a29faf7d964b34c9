"""What goes on now, as the gateways tell it, by slug."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenantry.control.figures.scope import Scope
from tenantry.control.live_everywhere import live_everywhere
from tenantry.control.site import Site
from tenantry.domain.histograms import OWN_BOUNDS_US
from tenantry.ledger.live import LiveGateway, LiveHealth, LiveUse, sum_live


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """Of all machines. `gateways` is how many tell what they do, `told` all that live.

    `uses`: of tenants that one has served, by slug. `announced`: the limits of organizations as upstreams announce
    them, by capacity, model and limit. `added_us`: what gateways add to a request before its first byte upstream, at
    the median and at 95 of 100, at most; None: unknown.
    """

    gateways: int
    uses: Mapping[str, LiveUse]
    announced: Mapping[str, Mapping[str, Mapping[str, int]]]
    health: list[LiveHealth] = field(default_factory=list[LiveHealth])
    added_us: tuple[int, int] | None = None
    told: list[LiveGateway] = field(default_factory=list[LiveGateway])

    @property
    def sessions(self) -> int:
        return sum(one.sessions for one in self.uses.values())

    @property
    def waiting(self) -> int:
        return sum(one.waiting for one in self.uses.values())

    @property
    def upstreams_down(self) -> list[str]:
        return sorted({name.partition(" ")[0] for one in self.health for name in one.upstreams_down})


def live_figures(site: Site, scope: Scope) -> LiveFigures:
    """Of the tenants of `scope`."""
    gateways = live_everywhere(site.engine, site.settings.journal_dir)
    sums, by_id = sum_live(gateways), scope.by_id()
    told = [one.told for one in gateways if one.told is not None and one.is_fresh]
    counts = [sum(column) for column in zip(*(one.head.added for one in told if one.head.added), strict=False)]
    return LiveFigures(
        sums.gateways,
        {by_id[id_].slug: use for id_, use in sums.tenants.items() if id_ in by_id},
        sums.announced,
        [one.health for one in told],
        _at_most(counts),
        gateways,
    )


def _at_most(counts: list[int]) -> tuple[int, int] | None:
    """The bounds below which half of the requests, and 95 of 100, lie."""
    whole, found = sum(counts), list[int]()
    if not whole:
        return None
    for share in (50, 95):
        passed = 0
        for place, count in enumerate(counts):
            passed += count
            if passed * 100 >= share * whole:
                found.append(OWN_BOUNDS_US[min(place, len(OWN_BOUNDS_US) - 1)])
                break
    return found[0], found[1]
