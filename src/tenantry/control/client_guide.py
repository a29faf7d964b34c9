"""The page that a new client gets: how to use its endpoint. It never holds the key."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from tenantry.control.guide.facts import Budget, Facts, example_model, known_models
from tenantry.control.guide.page import fair_use_markdown, guide_markdown, guide_page
from tenantry.control.site import Site, endpoint_of, endpoints_of, slot_endpoint_of
from tenantry.storage.prices import load_prices
from tenantry.wire.routes import ROUTES


def guide_facts(site: Site, slug: str, model: str | None = None) -> Facts:
    """What is said about a tenant, as it stands now. `model` is one that a live call has proven.

    Raises:
        NotInDirectory: no such tenant.
    """
    row = site.directory.get_tenant(slug)
    limits = row.limits
    budget = site.directory.list_budgets(slug)[""]
    own = endpoint_of(site.settings, slug)
    models = known_models(limits, load_prices(site.engine).models())
    return Facts(
        slug=slug,
        name=row.name,
        tier=row.tier,
        endpoint=own,
        contact=site.settings.contact or "your agency",
        limits=limits,
        budgets=tuple(Budget(cap.period, cap.amount_nanos) for cap in budget.caps),
        budget_is_hard=budget.mode == "hard",
        time_zone=site.settings.time_zone,
        models=models,
        model=example_model(limits, models, model),
        offers_batches=(b"POST", b"/v1/messages/batches") in ROUTES,
        written=datetime.now(UTC).astimezone(site.settings.zone).strftime("%Y-%m-%d"),
        other_endpoints=tuple(endpoints_of(site.settings, slug, row.hosts)[1:]),
        slots=tuple(
            (one.name, slot_endpoint_of(site.settings, slug, one.name)) for one in site.directory.list_slots(slug)
        ),
    )


def fair_use(site: Site, slug: str) -> str:
    """The fair-use terms of one tenant as Markdown.

    Raises:
        NotInDirectory: no such tenant.
    """
    return fair_use_markdown(guide_facts(site, slug))


def guide_texts(site: Site, slug: str, model: str | None = None) -> tuple[str, str]:
    """The guide of one tenant as Markdown, and the same as a page.

    Raises:
        NotInDirectory: no such tenant.
    """
    facts = guide_facts(site, slug, model)
    markdown = guide_markdown(facts)
    return markdown, guide_page(facts, markdown)


def write_client_guide(site: Site, slug: str, folder: Path, model: str | None = None) -> Path:
    """Write `<folder>/<slug>.md` and the same text as `<slug>.html`, each whole or not at all; the former's path.

    Raises:
        NotInDirectory: no such tenant.
        OSError: the folder cannot be written.
    """
    return write_guide_texts(*guide_texts(site, slug, model), slug, folder)


def write_guide_texts(markdown: str, page: str, slug: str, folder: Path) -> Path:
    """The same of texts that are there. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / f"{slug}.html", page)
    path = folder / f"{slug}.md"
    _replace(path, markdown)
    return path


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, "utf-8")
    os.replace(draft, path)
