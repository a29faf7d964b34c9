"""What needs somebody's attention, the most urgent first, each with the page on which it is mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tenantry.control.figures.budgets import BudgetFigure, nearest
from tenantry.control.figures.live import LiveFigures
from tenantry.control.figures.scope import Scope
from tenantry.control.site import Site
from tenantry.domain.directory import KeyStatus, TenantStatus
from tenantry.domain.money import format_usd
from tenantry.ledger.live import DeadCredential
from tenantry.storage.columns import now_utc

URGENT, SOON = "urgent", "soon"
BUDGET_PERCENT_SOON: Final = 90
KEY_DAYS_SOON: Final = 7


@dataclass(frozen=True, slots=True)
class Concern:
    """`path` is where it is mended, `action` what is done there; `slug` None: it is the whole site's.

    `models`: those without a price, the most used first.
    """

    level: str
    words: str
    action: str
    path: str
    slug: str | None = None
    models: tuple[str, ...] = ()


def concerns(
    site: Site,
    scope: Scope,
    budgets: Mapping[str, Sequence[BudgetFigure]],
    live: LiveFigures,
    dead: Mapping[str, DeadCredential],
    unpriced: Sequence[str],
    refused_for_budget: Mapping[str, int],
    silent: int,
    *,
    with_site: bool,
) -> list[Concern]:
    """`budgets` are by slug, and so is how often somebody was refused for one within the last hour.

    `silent`: gateways that live and of which no control tells.
    """
    found = [*_of_site(live, dead, unpriced, silent)] if with_site else []
    found += _of_budgets(budgets)
    known = {one.slug for one in found}
    found += [_of_refused(slug, many) for slug, many in sorted(refused_for_budget.items()) if slug not in known]
    found += _of_tenants(site, scope)
    return sorted(found, key=lambda one: one.level != URGENT)


def _of_site(
    live: LiveFigures, dead: Mapping[str, DeadCredential], unpriced: Sequence[str], silent: int
) -> list[Concern]:
    found: list[Concern] = []
    if silent:
        which = "A gateway lives of which" if silent == 1 else f"{silent} gateways live of which"
        words = f"{which} no control tells: what goes on there is not in these figures. Start control on its machine."
        found.append(Concern(SOON, words, "Look", "/gateways"))
    if not live.gateways and not silent:
        found.append(Concern(URGENT, "No gateway runs: every request fails.", "Settings", "/settings"))
    if not all(one.journal_works for one in live.health):
        words = "A gateway cannot write its journal, and refuses everything."
        found.append(Concern(URGENT, words, "Settings", "/settings"))
    if any(one.directory_fault for one in live.health):
        found.append(Concern(URGENT, "A gateway cannot follow changes of the store.", "Settings", "/settings"))
    for name in live.upstreams_down:
        found.append(Concern(URGENT, f"The upstream {name} is down: requests to it fail.", "Look", "/upstreams"))
    for name, one in dead.items():
        found.append(Concern(URGENT, f"The credential {name} is {one.words}.", "Check it", f"/credentials#{name}"))
    if unpriced:
        models = ", ".join(unpriced[:3])
        words = f"No price is known for {models}: what it costs is on no bill."
        rows = "/requests?outcome=unpriced"
        found.append(Concern(SOON, words, "See the rows", rows, models=tuple(unpriced)))
    return found


def _of_budgets(budgets: Mapping[str, Sequence[BudgetFigure]]) -> list[Concern]:
    found: list[Concern] = []
    for slug, some in sorted(budgets.items()):
        one = nearest(some)
        if one is None or one.used_percent < BUDGET_PERCENT_SOON:
            continue
        of = f"{format_usd(one.amount_nanos)} a {one.period.kind}"
        if not one.is_reached:
            words = f"{slug} has used {one.used_percent} % of its budget of {of}."
        elif one.mode == "hard":
            words = f"{slug} has reached its budget of {of}: its requests are refused."
        else:
            words = f"{slug} is past its soft budget of {of}."
        urgent = one.is_reached and one.mode == "hard"
        found.append(Concern(URGENT if urgent else SOON, words, "Raise it", f"/tenants/{slug}/budget", slug))
    return found


def _of_refused(slug: str, many: int) -> Concern:
    """What a request may cost has to fit: one is refused long before all is spent."""
    requests = "1 request" if many == 1 else f"{many:,} requests"
    words = f"Refused within the last hour: {requests} of {slug} did not fit what is left of its budget."
    return Concern(SOON, words, "Raise it", f"/tenants/{slug}/budget", slug)


def _of_tenants(site: Site, scope: Scope) -> list[Concern]:
    found: list[Concern] = []
    now = now_utc()
    soon = now + timedelta(days=KEY_DAYS_SOON)
    for slug, tenant in scope.tenants.items():
        if tenant.credential is None:
            words = f"{slug} has no credential: its requests are refused."
            found.append(Concern(URGENT, words, "Bind one", f"/tenants/{slug}/credential", slug))
        if tenant.status is TenantStatus.DISABLED:
            found.append(Concern(SOON, f"{slug} is disabled.", "Enable it", f"/tenants/{slug}#status", slug))
    for key in site.directory.list_keys():
        if key.slug not in scope.tenants or key.status is not KeyStatus.ACTIVE or key.expires_at is None:
            continue
        if now < key.expires_at < soon and key.replaced_by is None:
            named = key.label or key.key_id
            words = f"The key {named} of {key.slug} ends on {key.expires_at:%Y-%m-%d}."
            found.append(Concern(SOON, words, "Rotate it", f"/tenants/{key.slug}/keys/{key.key_id}/rotate", key.slug))
    return found
