"""An import ends in a file of tenants; what such a file may be is said in one place, by who reads declarations."""

from __future__ import annotations

import tomllib
from zoneinfo import ZoneInfo

from tenantry.control.declared.checking import check_against
from tenantry.control.declared.model import BadDeclaration
from tenantry.control.declared.reader import read_documents
from tenantry.control.declared.state import Standing
from tenantry.control.importing.report import Imported, ImportRefused
from tenantry.control.toml_out import write_toml
from tenantry.settings import SETTINGS
from tenantry.storage.directory import SHIPPED_SESSIONS, first_limits

# A site as `tenantry init` leaves it: what an import is made for.
_FRESH = Standing(
    0, {name: first_limits(name) for name in SHIPPED_SESSIONS}, {}, {}, frozenset(), {}, {}, frozenset(("anthropic",))
)
_FILE = "tenants.toml, as it would be written"


def checked(imported: Imported) -> Imported:
    """The import, when `tenantry apply` would take what it declares on a fresh site.

    Raises:
        ImportRefused: it would not; everything that is wrong is told, as `tenantry plan` tells it.
    """
    zone = ZoneInfo(str(imported.settings.get("time_zone", SETTINGS["time_zone"].default)))
    try:
        declared = read_documents({_FILE: tomllib.loads(write_toml(imported.tenants, {}))}, zone)
    except BadDeclaration as error:
        problems = error.problems
    else:
        problems = check_against(declared, _FRESH)
    if problems:
        raise ImportRefused([f"{_FILE}: {problem.text}" for problem in problems])
    return imported
