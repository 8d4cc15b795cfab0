"""A stream in PostgreSQL as a destination: one message per change, published in the transaction of the position."""

from __future__ import annotations

from sinks.pgstream.sink import FACTORY

__all__ = ["FACTORY"]
