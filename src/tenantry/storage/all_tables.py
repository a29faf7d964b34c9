"""Every table of the store in one `metadata`: they are in it once the modules that hold them are loaded."""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData

from tenantry.storage import billing_tables, cell_tables, control_tables, people_tables, portal_tables
from tenantry.storage.tables import metadata

_MODULES: Final = (billing_tables, cell_tables, control_tables, people_tables, portal_tables)

ALL_TABLES: Final[MetaData] = metadata
