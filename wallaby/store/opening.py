"""Opening the store the settings name."""

from __future__ import annotations

from pathlib import Path

from wallaby import secret
from wallaby.settings import Settings
from wallaby.store.edge import Edge
from wallaby.store.migrate import migrate
from wallaby.store.port import Store


def open_store(settings: Settings) -> Store:
    """The control store, at its newest schema: PostgreSQL when a DSN is set, else SQLite in the state directory."""
    if settings.postgres_dsn:
        return open_postgres(secret.resolve(settings.postgres_dsn, field="postgres_dsn"))
    return open_sqlite(settings.state_dir)


def store_exists(settings: Settings) -> bool:
    """False when `open_store` would make a new embedded store: for who only looks. Nothing is connected."""
    from wallaby.store.sqlite import FILE_NAME

    return bool(settings.postgres_dsn) or (settings.state_dir / FILE_NAME).exists()


def open_sqlite(directory: str | Path) -> Store:
    """The embedded store in ``directory``."""
    from wallaby.store.sql import SqlStore
    from wallaby.store.sqlite import SqliteEdge

    return SqlStore(_migrated(SqliteEdge(Path(directory))))


def open_postgres(dsn: str) -> Store:
    """The store in schema ``wallaby`` of a PostgreSQL database."""
    from wallaby.store.postgres import PostgresEdge
    from wallaby.store.sql import SqlStore

    return SqlStore(_migrated(PostgresEdge(dsn)))


def _migrated(edge: Edge) -> Edge:
    try:
        migrate(edge)
    except BaseException:
        edge.close()
        raise
    return edge
