"""Runs migrations on the connection that `storage.database.migrate` hands over."""

from alembic import context

from tenantry.storage import billing_tables, cell_tables, people_tables, portal_tables

# Those that a module holds are in the one `metadata` once it is loaded.
_TABLES = (billing_tables, cell_tables, people_tables, portal_tables)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=_TABLES[0].metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
