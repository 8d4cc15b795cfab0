"""A captured schema change's states and the moves between them, as one table.

========  ==========================================================================  ========
status    meaning                                                                     set by
========  ==========================================================================  ========
pending   captured, nobody has decided                                                capture
approved  may be applied                                                              operator
rejected  must not be applied; may still be approved, because nothing has happened    operator
applied   the destinations have it; nothing can be decided any more                   operator
========  ==========================================================================  ========

Every decision is idempotent: given again in the status it leads to, it changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from wallaby.errors import IllegalMove


class DdlStatus(StrEnum):
    """What has been decided about a schema change; see the module's table."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    APPLIED = "applied"


class Decision(StrEnum):
    """What an operator may decide."""

    APPROVE = "approve"
    """It may be applied."""
    REJECT = "reject"
    """It must not be applied."""
    MARK_APPLIED = "apply"
    """Somebody has applied it."""


_PENDING, _APPROVED, _REJECTED, _APPLIED = DdlStatus

DECISIONS: Final[Mapping[Decision, Mapping[DdlStatus, DdlStatus]]] = {
    Decision.APPROVE: dict.fromkeys((_PENDING, _REJECTED, _APPROVED), _APPROVED),
    Decision.REJECT: dict.fromkeys((_PENDING, _APPROVED, _REJECTED), _REJECTED),
    Decision.MARK_APPLIED: dict.fromkeys((_APPROVED, _APPLIED), _APPLIED),
}
"""The legal decisions; a pair that is missing is forbidden."""

_DECIDED: Final = {Decision.APPROVE: "approved", Decision.REJECT: "rejected", Decision.MARK_APPLIED: "marked applied"}
_ADVICE: Final[Mapping[DdlStatus, str]] = {
    _PENDING: "Approve it first",
    _APPROVED: "It is approved",
    _REJECTED: "Approve it first",
    _APPLIED: "What was applied stays; change the source again instead",
}


def next_status(status: DdlStatus, decision: Decision) -> DdlStatus:
    """The status after ``decision``; `IllegalMove` with advice when the table has no such move."""
    try:
        return DECISIONS[decision][status]
    except KeyError:
        raise IllegalMove(
            f"a schema change that is {status} cannot be {_DECIDED[decision]}", advice=_ADVICE[status], status=status
        ) from None
