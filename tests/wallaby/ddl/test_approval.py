"""The table of decisions: every cell, allowed and forbidden."""

from __future__ import annotations

import pytest

from wallaby.ddl.approval import DECISIONS, DdlStatus, Decision, next_status
from wallaby.errors import IllegalMove

ALLOWED = {
    (DdlStatus.PENDING, Decision.APPROVE): DdlStatus.APPROVED,
    (DdlStatus.PENDING, Decision.REJECT): DdlStatus.REJECTED,
    (DdlStatus.APPROVED, Decision.APPROVE): DdlStatus.APPROVED,
    (DdlStatus.APPROVED, Decision.REJECT): DdlStatus.REJECTED,
    (DdlStatus.APPROVED, Decision.MARK_APPLIED): DdlStatus.APPLIED,
    (DdlStatus.REJECTED, Decision.APPROVE): DdlStatus.APPROVED,
    (DdlStatus.REJECTED, Decision.REJECT): DdlStatus.REJECTED,
    (DdlStatus.APPLIED, Decision.MARK_APPLIED): DdlStatus.APPLIED,
}


@pytest.mark.parametrize("decision", list(Decision))
@pytest.mark.parametrize("status", list(DdlStatus))
def test_every_cell_of_the_table(status: DdlStatus, decision: Decision) -> None:
    expected = ALLOWED.get((status, decision))
    if expected is None:
        with pytest.raises(IllegalMove) as refused:
            next_status(status, decision)
        assert refused.value.advice
        assert status in str(refused.value)
    else:
        assert next_status(status, decision) is expected


def test_a_repeated_decision_changes_nothing_and_applied_is_final() -> None:
    for decision, moves in DECISIONS.items():
        for status in moves.values():
            assert next_status(status, decision) is status
    assert [d for d in Decision if DdlStatus.APPLIED in DECISIONS[d]] == [Decision.MARK_APPLIED]
