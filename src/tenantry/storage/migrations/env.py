"""Runs migrations on the connection that `storage.database.migrate` hands over."""

from alembic import context

from tenantry.storage.all_tables import ALL_TABLES

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=ALL_TABLES,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
