"""What the SQL of dead letters does when somebody else was faster, or when there are very many."""

from __future__ import annotations

from pathlib import Path

import pytest

from wallaby.errors import IllegalMove
from wallaby.store import LetterDecision, LetterFilter, LetterState
from wallaby.store.opening import open_sqlite
from wallaby.store.sql_letters import _decide
from wallaby.testing.letter_contract import a_letter, put


@pytest.mark.must_not_fail(16)
def test_a_decision_on_a_letter_that_was_settled_since_it_was_read_changes_nothing(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path)
    put(store, a_letter(1), a_letter(2))
    read = store.list_letters(LetterFilter()).letters
    store.decide_letters(LetterDecision.DISCARD, ids=[read[1].id])
    with pytest.raises(IllegalMove, match="settled meanwhile"), store._edge.transaction() as transaction:
        _decide(transaction, [read], LetterState.REPLAYING)
    states = [letter.state for letter in store.list_letters(LetterFilter()).letters]
    assert states == [LetterState.OPEN, LetterState.DISCARDED]
    store.close()
