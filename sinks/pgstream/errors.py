"""Errors of a stream's database at a commit or a change: those of the PostgreSQL destination.

A publisher is a PostgreSQL writer: what a lost connection leaves unknown, and what may be tried again, is the same.
"""

from __future__ import annotations

from sinks.postgres.errors import connect_failed, translate

__all__ = ["connect_failed", "translate"]
