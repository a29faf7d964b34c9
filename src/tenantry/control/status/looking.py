"""How the service is now, in the words of a status page: no tenant, no upstream and no credential is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from tenantry.control.live_everywhere import health_everywhere
from tenantry.control.site import Site
from tenantry.domain.values import value
from tenantry.ledger.live import LiveGateway
from tenantry.setting_tables import SANDBOX_UPSTREAM
from tenantry.storage.leases import LeaseStore
from tenantry.storage.status_log import DOWN, IMPAIRED, UP, StatusLog

GATEWAY, MODELS = "gateway", "models"
# A look each minute is what the page counts; asked more often, so that none is passed over.
LOOK_SECONDS: Final = 20.0


@value
class Look:
    """What was found of each part; a part that is missing is unknown."""

    states: Mapping[str, str]


def look(site: Site) -> Look:
    """As the gateways of all machines tell it: one that tells nothing for ten seconds does not answer either."""
    gateways = health_everywhere(site.engine, site.settings.journal_dir)
    if not gateways and LeaseStore(site.engine).live():
        return Look({})  # the controls of their machines are being started, or have ended
    credentials = site.directory.list_credentials()
    used = {one.upstream for one in credentials if one.upstream != SANDBOX_UPSTREAM}
    return Look(judge(gateways, used or {SANDBOX_UPSTREAM}))


def judge(gateways: list[LiveGateway], upstreams: set[str]) -> dict[str, str]:
    """`upstreams`: the names of those that clients' requests go to."""
    told = [one.told.health for one in gateways if one.told is not None and one.is_fresh]
    serving = [one for one in told if one.journal_works]
    states = {GATEWAY: UP if serving and len(serving) == len(gateways) else IMPAIRED if serving else DOWN}
    if told:
        # Down is what every gateway finds down; what one alone finds, or one upstream of several, impairs. That one
        # credential does not get through (`name (credential)`) is the affair of whoever uses it.
        down = [name for name in upstreams if all(name in one.upstreams_down for one in told)]
        touched = {name for one in told for name in one.upstreams_down} & upstreams
        states[MODELS] = DOWN if len(down) == len(upstreams) else IMPAIRED if touched else UP
    return states


class Watch:
    """Looks once a minute, and notes what it found. `now`: unix seconds."""

    def __init__(self, site: Site, now: Callable[[], float] = time.time) -> None:
        self._site = site
        self._now = now
        self._log = StatusLog(site.engine)
        self._noted = -1

    def is_due(self) -> bool:
        return self._minute() != self._noted

    def step(self) -> None:
        minute = self._minute()
        self._log.note(minute, look(self._site).states)
        self._noted = minute

    def _minute(self) -> int:
        return int(self._now() // 60)
