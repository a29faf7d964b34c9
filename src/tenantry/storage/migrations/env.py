"""Runs migrations on the connection that `storage.database.migrate` hands over."""

from alembic import context

from tenantry.storage import billing_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=billing_tables.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
