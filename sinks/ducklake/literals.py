"""Texts inside statements that take no parameters (LOAD, ATTACH, CREATE SECRET)."""

from __future__ import annotations


def literal(text: str) -> str:
    """An SQL text literal."""
    return "'" + text.replace("'", "''") + "'"


__all__ = ["literal"]
