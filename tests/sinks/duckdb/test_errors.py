"""What DuckDB's exceptions become."""

from __future__ import annotations

import duckdb
import pytest

from sinks.duckdb.errors import Conflict, Doing, translate
from wallaby.errors import OutcomeUnknown, RowRefused, Transient, WallabyError

_LAKE = "Failed to commit: Failed to commit DuckLake transaction.\n"


@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    ("error", "doing", "expected", "words"),
    [
        (duckdb.IOException('Could not write "a": No space left on device'), Doing.WORK, Transient, "no space left"),
        (duckdb.IOException('Could not write "a": No space left on device'), Doing.COMMIT, OutcomeUnknown, "no space"),
        (
            duckdb.TransactionException(f"{_LAKE}database or disk is full"),
            Doing.COMMIT,
            OutcomeUnknown,
            "no space left",
        ),
        (
            duckdb.TransactionException("could not allocate block of size 256 KiB"),
            Doing.COMMIT,
            OutcomeUnknown,
            "memory",
        ),
        (duckdb.TransactionException(f"{_LAKE}database is locked"), Doing.COMMIT, Conflict, "committed first"),
        (duckdb.TransactionException(f"{_LAKE}Transaction conflict - x"), Doing.COMMIT, Conflict, "committed first"),
        (duckdb.TransactionException(f"{_LAKE}SSL connection is gone"), Doing.COMMIT, OutcomeUnknown, "at COMMIT"),
        (duckdb.ConversionException("secret: 'No space left'"), Doing.WORK, RowRefused, "does not take a value"),
        (duckdb.ConstraintException("Duplicate key 'Disk quota', secret"), Doing.WORK, RowRefused, "does not take"),
        (duckdb.TransactionException("Conflict on update: secret"), Doing.WORK, Conflict, "committed first"),
    ],
    ids=lambda value: None if isinstance(value, duckdb.Error) else str(getattr(value, "__name__", value)),
)
def test_a_failed_statement_says_what_became_of_it_and_what_to_do(
    error: duckdb.Error, doing: Doing, expected: type[WallabyError], words: str
) -> None:
    made = translate(error, doing, path="a")
    assert (type(made), words in made.message, bool(made.advice)) == (expected, True, True)
    assert "secret" not in str(made)
