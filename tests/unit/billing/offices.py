"""A site whose day is set, with tenants on plans: a metered, b flat, c on none."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from tenantry.control.site import Site
from tenantry.domain.plans import Terms
from tenantry.settings import load_settings
from tenantry.storage.directory import Directory
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.vault import Vault
from tests.template import new_store

USD = 1_000_000_000


class OnADay(Directory):
    """A directory whose day is set."""

    day = date(2026, 11, 1)

    def today(self) -> date:
        return self.day


def on_day(site: Site, day: date) -> None:
    OnADay.day = day


def make_site(folder: Path, **environ: str) -> Site:
    engine = new_store(folder / "tenantry.db")
    vault = Vault(bytes(32))
    directory = OnADay(engine, vault, "test")
    directory.seed_tiers()
    for slug in ("a", "b", "c"):
        directory.create_tenant(slug, f"{slug} & Sons", "standard", f"tnt_{slug}")
    directory.set_plan("metered", Terms(markup_percent="20"))
    directory.set_plan("flat", Terms(fee_nanos=79 * USD, fair_use=True))
    directory.assign_plan("a", Agreed("metered"))
    directory.assign_plan("b", Agreed("flat"))
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(folder), **environ})
    return Site(settings, engine, vault, directory)
