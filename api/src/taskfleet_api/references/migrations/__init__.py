"""Migrations of the references' tables: a lineage of their own, beside that of the records."""
