"""PostgreSQL as a destination: rows by binary COPY and set-based statements, position in the same transaction."""

from __future__ import annotations

from sinks.postgres.sink import FACTORY

__all__ = ["FACTORY"]
