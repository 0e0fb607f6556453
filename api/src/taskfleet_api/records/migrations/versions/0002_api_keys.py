"""API keys."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from taskfleet_api.records.column_types import Digest, JsonText, UtcTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("digest", Digest, nullable=False),
        sa.Column("scopes", JsonText, nullable=False),
        sa.Column("queues", JsonText, nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
        **MYSQL,
    )
    op.create_index("ix_api_keys_digest", "api_keys", ["digest"], unique=True)


def downgrade() -> None:
    op.drop_index("ix_api_keys_digest", table_name="api_keys")
    op.drop_table("api_keys")
