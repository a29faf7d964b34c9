"""A real site in a folder, without processes, and files of tenants for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tenantry.control.declared.applying import Applied, apply_plan
from tenantry.control.declared.model import Declaration
from tenantry.control.declared.planning import Plan, make_plan
from tenantry.control.declared.reader import read_files
from tenantry.control.declared.references import References
from tenantry.control.site import Site, open_site
from tenantry.settings import load_settings
from tests.template import init_from_template

SECRETS = {
    "ACME_KEY": "sk-ant-api03-canary-acme",
    "BETA_KEY": "sk-ant-api03-canary-beta",
    "OLD_KEY": "an-old-proxy-key-0123456789",
    "HOOK": "http://127.0.0.1:9/hook",
}
ACME = """
[tiers.gold]
sessions_max = 20
[plans.studio]
fee_usd = "179.00"
included_usd = "100.00"
markup_percent = "20"
slots = 5
[tenants.acme]
name = "Acme GmbH"
tier = "gold"
plan = "studio"
contact = "ops@acme.example"
credential = "env:ACME_KEY"
upstream = "anthropic"
user_profile = "uprof_1"
hosts = ["AI.Acme.example.", "ki.müller.example"]
workspace = "wrkspc_1"
[tenants.acme.limits]
requests_per_minute = 120
models = ["claude-haiku-*"]
[tenants.acme.budget]
month_usd = "50.00"
[tenants.acme.alerts]
thresholds = [50, 100]
targets = ["env:HOOK"]
[tenants.acme.keys.production]
expires = 2099-01-31
rotate_days = 90
limits = { requests_per_minute = 30 }
[tenants.acme.keys.old]
digest_of = "env:OLD_KEY"
"""


def new_site(folder: Path) -> Site:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(folder / "data")})
    init_from_template(settings)
    return open_site(settings)


def copy_site(site: Site, folder: Path) -> Site:
    """The same site once more: `site` must be closed."""
    shutil.copytree(site.settings.data_dir, folder / "data")
    return open_site(load_settings(None, {"TENANTRY_DATA_DIR": str(folder / "data")}))


def references(**changed: str) -> References:
    return References(SECRETS | changed)


def declare(site: Site, folder: Path, text: str) -> Declaration:
    file = folder / "tenants.toml"
    file.write_text(text)
    return read_files([file], site.settings.zone)


def planned(site: Site, folder: Path, text: str, **changed: str) -> Plan:
    return make_plan(site, declare(site, folder, text), references(**changed))


def applied(site: Site, folder: Path, text: str, **changed: str) -> Applied:
    plan = planned(site, folder, text, **changed)
    return apply_plan(site, plan, references(**changed), keys_out=None, statements=folder / "statements")


def left(site: Site, folder: Path, text: str, **changed: str) -> list[tuple[str, str, str]]:
    return [(one.action, one.subject, one.field) for one in planned(site, folder, text, **changed).changes]
