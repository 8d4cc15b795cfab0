"""Who may do what: three roles, each holding everything the one before it may do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a caller of the API may do. Members are ordered from least to most."""

    VIEWER = "viewer"
    """See flows, their states, positions and findings."""
    OPERATOR = "operator"
    """Create, change, start, stop and delete flows; read and settle stream messages; decide on DDL."""
    ADMIN = "admin"
    """Tokens, secrets, the audit log, and moving a checkpoint back."""

    def covers(self, needed: Role) -> bool:
        """True when this role may do what ``needed`` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)
