"""Alembic's environment: it uses the connection `registry.storage.migrate` hands over."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("Run migrations with `hub db upgrade`; it holds the lock that keeps two upgrades apart.")
context.configure(
    connection=connection,
    transaction_per_migration=False,
    transactional_ddl=True,
    on_version_apply=context.config.attributes.get("on_version_apply"),
)
with context.begin_transaction():
    context.run_migrations()
