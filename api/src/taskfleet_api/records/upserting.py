"""INSERTs of rows that may be there already, in the words of each database."""

from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from taskfleet_api.records.engine import Database

__all__ = ["build_insert_unless_present", "build_upsert"]


def build_insert_unless_present(database: Database, table: Table, key: Column[Any]) -> Any:
    """Leaves a row alone whose `key` is there."""
    if database.is_mysql:
        # Not INSERT IGNORE: that would turn every other trouble into a warning too.
        statement = mysql_insert(table)
        return statement.on_duplicate_key_update({key.name: statement.inserted[key.name]})
    insert = postgresql_insert if database.is_postgresql else sqlite_insert
    return insert(table).on_conflict_do_nothing()


def build_upsert(database: Database, table: Table, key: Column[Any], *columns: Column[Any]) -> Any:
    """Writes these columns anew in a row whose `key` is there."""
    names = [column.name for column in columns]
    if database.is_mysql:
        statement = mysql_insert(table)
        return statement.on_duplicate_key_update({name: statement.inserted[name] for name in names})
    insert = postgresql_insert(table) if database.is_postgresql else sqlite_insert(table)
    return insert.on_conflict_do_update(index_elements=[key.name], set_={name: insert.excluded[name] for name in names})
