"""A tenant that was made by hand leaves: its closing statement, then what removing its block from a file would do."""

from __future__ import annotations

from pathlib import Path

from tenantry.control.declared.changes import Change
from tenantry.control.declared.closing import write_statement
from tenantry.control.declared.executing import Executor
from tenantry.control.declared.model import Declaration
from tenantry.control.declared.references import References
from tenantry.control.declared.state import read_standing
from tenantry.control.site import Site
from tenantry.storage.columns import now_utc
from tenantry.storage.directory import DirectoryError


def delete_tenant(site: Site, slug: str, folder: Path) -> Path:
    """Delete a tenant with its keys, budgets and alerts; the closing statement, which is written first.

    The ledger and the audit log keep their rows, and a credential that was stored by hand stays.

    Raises:
        NotInDirectory: no such tenant.
        DirectoryError: a file of tenants declares it, and would make it again.
        OSError: the statement cannot be written; nothing was deleted.
    """
    with site.directory.transaction() as directory:
        directory.get_tenant(slug)
        standing = read_standing(directory)
        if standing.tenants[slug].declared:
            raise DirectoryError(
                f'{slug} is declared in tenants.toml: remove its block there (with `offboard = "delete"`) and apply'
            )
        statement = write_statement(site, slug, standing.tenants[slug], now_utc(), "delete", folder)
        executor = Executor(directory, Declaration(whole=False), standing, References({}, {}))
        executor.run([Change("tenant.remove", slug, after="delete")])
    return statement
