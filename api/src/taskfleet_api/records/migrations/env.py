"""Run by Alembic with the connection that the caller opened; there is no alembic.ini and no offline mode."""

from alembic import context

from taskfleet_api.records.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table="taskfleet_revision",
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
