"""Debezium's connector for PostgreSQL, as its own documentation sets it up. Imports the standard library alone."""

from __future__ import annotations

from urllib.parse import urlparse


def settings(dsn: str, slot: str, publication: str) -> dict[str, str]:
    """JSON events of a slot's changes, positions in memory, no copy."""
    url = urlparse(dsn)
    return {
        "name": "engine",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": url.hostname,
        "database.port": str(url.port),
        "database.user": url.username,
        "database.password": url.password or "",
        "database.dbname": url.path.strip("/"),
        "plugin.name": "pgoutput",
        "slot.name": slot,
        "publication.name": publication,
        "publication.autocreate.mode": "disabled",
        "message.prefix.exclude.list": ".*",
        "snapshot.mode": "no_data",
        "topic.prefix": "bench",
        "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
        "offset.flush.interval.ms": "60000",
        "tombstones.on.delete": "false",
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
        "max.batch.size": "8192",
        "max.queue.size": "32768",
        "poll.interval.ms": "10",
    }
