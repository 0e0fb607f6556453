"""Run by Alembic: migrates over the connection that the caller put into the configuration."""

from alembic import context

from taskfleet_api.references.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, version_table=context.config.attributes["version_table"]
)
with context.begin_transaction():
    context.run_migrations()
